"""Sending the parts of a batch to other processes, as the task runners of clusters do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prefect.context import FlowRunContext
from prefect.task_runners import ThreadPoolTaskRunner

from prefect_replicate.flows.batch import Part
from prefect_replicate.flows.batch_order import Order, destination_reference


class Sealed:
    """A part as a task's parameter, which Prefect does not search for futures.

    It would look into each of thousands of items, and its own `quote` arrives as a tuple on Dask
    and Ray.
    """

    def __init__(self, content: Part) -> None:
        self.content = content

    def __str__(self) -> str:
        return str(self.content)


def for_task_runner(order: Order, parts: Sequence[Part]) -> list[Part]:
    """The parts, with references in place of blocks where the flow's tasks leave its process.

    Raises:
        ConfigurationError: A block is not saved, and its secrets are not sent.
    """
    context = FlowRunContext.get()
    if context is None or isinstance(context.task_runner, ThreadPoolTaskRunner):
        return list(parts)
    order.lent.reference()  # refuses
    destination = destination_reference(order.destination)
    # Prefect sends them along with each task: the secrets of blocks, and thousands of items.
    context.parameters = {}
    return [replace(part, options=replace(part.options, destination=destination)) for part in parts]
