"""Create automations for the events of prefect-replicate; see README.md.

Existing automations with the same names are updated.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, Any
from uuid import UUID

from cyclopts import App, Parameter
from prefect import get_client
from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.actions import CallWebhook, RunDeployment, SendNotification
from prefect.events.schemas.automations import EventTrigger
from prefect.exceptions import ObjectNotFound

FILE_STORED = "prefect.asset.materialization.succeeded"
FAILED = "replicate.prediction.failed"
OVERDUE = "replicate.prediction.overdue"
BATCH_REQUESTED = "replicate.batch.requested"

SAYS_FAILED = """\
Prediction {{ event.payload.id }} of {{ event.payload.model }} failed \
({{ event.payload.reason }}): {{ event.payload.error or "no reason given" }}
Prompt: {{ event.payload.prompt }}
{{ event.payload.url }}"""

SAYS_OVERDUE = """\
Prediction {{ event.payload.id }} of {{ event.payload.model }} has taken \
{{ event.payload.seconds | round }} s; nine in ten take at most {{ event.payload.p90 | round }} s.
Prompt: {{ event.payload.prompt }}
{{ event.payload.url }}"""

app = App(help=__doc__, result_action="return_value")


@app.default
def main(
    *,
    on_file: str | None = None,
    notify: str | None = None,
    batch: str | None = None,
    take: Annotated[tuple[str, ...], Parameter(negative=())] = ("model", "duration", "requests"),
    model: str | None = None,
) -> None:
    """Create the automations that the options ask for.

    Args:
        on_file: The deployment to run when a file is stored, as `flow/deployment`; its parameter
            `location` gets the file's location.
        notify: The block to notify when predictions fail or take long, as `type-slug/name`: a
            Prefect notification block or a webhook.
        batch: The deployment to run for each event `replicate.batch.requested`.
        take: The parameters that such a run takes from the event's payload.
        model: The only model whose files and predictions count, as `owner/name`.
    """
    with get_client(sync_client=True) as client:
        automations: list[Automation] = []
        if on_file is not None:
            automations.append(run_on_file(client, on_file, model))
        if notify is not None:
            automations += [
                notify_of(client, "fails", FAILED, SAYS_FAILED, notify, model),
                notify_of(client, "is overdue", OVERDUE, SAYS_OVERDUE, notify, model),
            ]
        if batch is not None:
            automations.append(run_batch(client, batch, take))
    for automation in automations:
        save(automation)


def run_on_file(client: SyncPrefectClient, deployment: str, model: str | None) -> Automation:
    made_from = {"prefect.resource.role": "prediction"} | label(model)
    return Automation(
        name=named("Replicate: when a file is stored", model),
        trigger=EventTrigger(expect={FILE_STORED}, match_related=made_from),
        actions=[
            RunDeployment(
                deployment_id=deployment_id(client, deployment),
                parameters={"location": from_payload("location")},
            )
        ],
    )


def notify_of(
    client: SyncPrefectClient, what: str, event: str, text: str, block: str, model: str | None
) -> Automation:
    slug, _, name = block.partition("/")
    with there_must_be("block", block):
        document = client.read_block_document_by_name(name, slug)
    if slug == "webhook":
        payload = f'{{% set text %}}{text}{{% endset %}}{{"text": {{{{ text | tojson }}}}}}'
        action = CallWebhook(block_document_id=document.id, payload=payload)
    else:
        action = SendNotification(
            block_document_id=document.id, subject=f"A prediction {what}", body=text
        )
    return Automation(
        name=named(f"Replicate: when a prediction {what}", model),
        trigger=EventTrigger(expect={event}, match=label(model)),
        actions=[action],
    )


def run_batch(client: SyncPrefectClient, deployment: str, take: tuple[str, ...]) -> Automation:
    return Automation(
        name="Replicate: when a batch is requested",
        trigger=EventTrigger(expect={BATCH_REQUESTED}),
        actions=[
            RunDeployment(
                deployment_id=deployment_id(client, deployment),
                parameters={name: from_payload(name) for name in take},
            )
        ],
    )


def deployment_id(client: SyncPrefectClient, name: str) -> UUID:
    with there_must_be("deployment", name):
        return client.read_deployment_by_name(name).id


@contextmanager
def there_must_be(what: str, name: str) -> Generator[None]:
    try:
        yield
    except (ObjectNotFound, ValueError):
        sys.exit(f"There is no {what} {name!r} for an automation to use: make it first.")


def label(model: str | None) -> dict[str, str]:
    """Return the label that matches predictions of a model."""
    return {"replicate.model": model} if model is not None else {}


def named(name: str, model: str | None) -> str:
    return f"{name}, {model}" if model is not None else name


def from_payload(name: str) -> dict[str, Any]:
    """Return a parameter with the value in the event's payload: a text, a number or a list."""
    template = f"{{{{ event.payload.{name} | tojson }}}}"
    return {
        "__prefect_kind": "json",
        "value": {"__prefect_kind": "jinja", "template": template},
    }


def save(automation: Automation) -> None:
    """Create an automation, or update the existing one of the same name."""
    try:
        existing = Automation.read(name=automation.name)
    except ValueError:
        automation.create()
        print(f"Made the automation {automation.name!r}")
        return
    automation.id, automation.enabled = existing.id, existing.enabled
    automation.update()
    print(f"Updated the automation {automation.name!r}")


if __name__ == "__main__":
    app()
