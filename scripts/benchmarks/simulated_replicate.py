"""Waits for a simulated prediction, in virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import httpx
import replicate
from pydantic import SecretStr

from benchmarks.virtual_time import VirtualTimeLoop
from prefect_replicate import PollPolicy, Prediction
from prefect_replicate.api.connection import Address, Connection
from prefect_replicate.engine import Caller
from prefect_replicate.ledger.scope import RunScope
from prefect_replicate.lifecycle.run import Run
from prefect_replicate.lifecycle.waiting import wait

_URL = "http://replicate.test"
_TOKEN = "r8_simulated"


@dataclass(frozen=True)
class Course:
    """Seconds that a prediction is queued, and runs."""

    queue: float
    run: float

    def status(self, age: float) -> str:
        if age < self.queue:
            return "starting"
        return "processing" if age < self.queue + self.run else "succeeded"


class Simulation:
    """A Replicate with one prediction at a time."""

    def __init__(self) -> None:
        self._loop = VirtualTimeLoop()
        self._course = Course(0, 0)
        self._born = 0.0
        self._gets = 0
        transport = httpx.MockTransport(self._answer)
        self._client = replicate.Client(api_token=_TOKEN, base_url=_URL, transport=transport)
        self._connection = Connection(Address(_URL, SecretStr(_TOKEN)))
        self._connection._http = httpx.AsyncClient(base_url=_URL, transport=transport)

    def our_wait(self, course: Course) -> tuple[int, float]:
        """The GETs and the delay of the wait that our task runs, with its default policy."""
        return self._timed(course, self._wait_as_we_do())

    def client_wait(self, course: Course) -> tuple[int, float]:
        """The GETs and the delay of the official client's wait, with its default interval."""
        return self._timed(course, self._wait_as_the_client_does())

    def _timed(self, course: Course, work: Coroutine[Any, Any, None]) -> tuple[int, float]:
        self._course, self._born, self._gets = course, self._loop.time(), 0
        self._loop.run_until_complete(work)
        return self._gets, self._age() - course.queue - course.run

    async def _wait_as_we_do(self) -> None:
        nobody = Caller(lambda notice: None)
        run = Run(self._connection, None, RunScope(), nobody, logging.getLogger(__name__))
        created = Prediction.model_validate(self._prediction())
        await wait(run, created, None, PollPolicy(), None)

    async def _wait_as_the_client_does(self) -> None:
        created = await self._client.predictions.async_create(model="simulated/model", input={})
        await created.async_wait()

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        self._gets += request.method == "GET"
        return httpx.Response(200, json=self._prediction())

    def _prediction(self) -> dict[str, Any]:
        status = self._course.status(self._age())
        return {"id": "simulated", "model": "simulated/model", "version": "1", "status": status}

    def _age(self) -> float:
        return self._loop.time() - self._born
