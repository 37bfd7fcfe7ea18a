"""Prefect's API slow, gone, or answering otherwise than it should, at each request of a call."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prefect import flow, get_client
from prefect.client import base
from prefect.flow_engine import run_flow_async
from prefect.states import State

from prefect_replicate import acreate_prediction
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import LedgerError
from prefect_replicate.ledger.scope import RunScope

pytestmark = pytest.mark.contract

MODEL, INPUT = "emulator/timer", {"seconds": 60}
TAG, INTENT, ID = "tags", "intent", "made"

Send = Callable[[httpx.Request], Awaitable[httpx.Response]]
Trouble = Callable[[httpx.Request, Send], Awaitable[httpx.Response]]


async def lost_reply(request: httpx.Request, send: Send) -> httpx.Response:
    await (await send(request)).aread()
    raise httpx.ReadError("the connection was reset", request=request)


async def slow(request: httpx.Request, send: Send) -> httpx.Response:
    await asyncio.sleep(0.5)
    return await send(request)


async def gone(request: httpx.Request, send: Send) -> httpx.Response:
    raise httpx.ConnectError("all connection attempts failed", request=request)


def answers(status: int, body: str = "", **headers: str) -> Trouble:
    async def answer(request: httpx.Request, send: Send) -> httpx.Response:
        return httpx.Response(status, headers=headers, text=body, request=request)

    return answer


async def lost_in_html(request: httpx.Request, send: Send) -> httpx.Response:
    await (await send(request)).aread()
    return httpx.Response(200, html="<html>Please sign in</html>", request=request)


HTML = answers(200, "<html>Please sign in</html>", **{"Content-Type": "text/html"})


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have requests to Prefect about flow runs meet a trouble; its client does not pause then."""
    monkeypatch.setattr(base, "anyio", SimpleNamespace(sleep=lambda _: asyncio.sleep(0)))
    send_as_it_was = httpx.AsyncHTTPTransport.handle_async_request

    def meet(route: str, trouble: Trouble, times: float = float("inf")) -> Callable[[], None]:
        left = [times]

        async def send(
            transport: httpx.AsyncHTTPTransport, request: httpx.Request
        ) -> httpx.Response:
            path, body = request.url.path, bytes(request.content).decode()
            said = body.replace("\\", "")
            is_met = "/flow_runs/" in path and f'"{route}":' in said
            is_met = is_met and (request.method == "PATCH") == (route == TAG)
            if not is_met or not left or left[0] <= 0:
                return await send_as_it_was(transport, request)
            left[0] -= 1
            return await trouble(request, lambda one: send_as_it_was(transport, one))

        monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", send)
        return left.clear

    return meet


@pytest.mark.parametrize("route", [TAG, INTENT, ID])
@pytest.mark.parametrize(
    ("what", "times"),
    [
        (answers(429, **{"Retry-After": "0"}), 3),
        (answers(503), 3),
        (lost_reply, 2),
        (slow, 10),
    ],
    ids=["429", "503", "lost-reply", "slow"],
)
async def test_what_passes_is_waited_for(
    still: Emulator,
    trouble: Callable[..., None],
    records: Callable[[State[Any]], list[dict[str, Any]]],
    route: str,
    what: Trouble,
    times: int,
) -> None:
    trouble(route, what, times)

    state = await flow(acreate_prediction.fn)(MODEL, INPUT, return_state=True)

    [prediction] = still.predictions
    assert (await state.aresult()).id == prediction.id
    known = [one["prediction_id"] for one in await asyncio.to_thread(records, state)]
    assert [one for one in known if one] == [prediction.id]


@pytest.mark.parametrize("route", [TAG, INTENT])
@pytest.mark.parametrize(
    "what",
    [gone, HTML, lost_in_html, answers(503), answers(500)],
    ids=["gone", "html", "lost-in-html", "503", "500"],
)
async def test_nothing_is_paid_that_could_not_be_written_down(
    still: Emulator, trouble: Callable[..., None], route: str, what: Trouble
) -> None:
    trouble(route, what)

    with pytest.raises(LedgerError, match=r"^Prefect's API could not [^\n]*$"):
        await flow(acreate_prediction.fn)(MODEL, INPUT)

    assert still.predictions.create_requests == 0


@pytest.mark.parametrize(
    "what", [gone, HTML, answers(503), answers(500)], ids=["gone", "html", "503", "500"]
)
async def test_what_was_paid_but_not_written_down_is_found_by_the_retry(
    still: Emulator,
    trouble: Callable[..., None],
    impatient: None,
    forget: Callable[..., None],
    what: Trouble,
) -> None:
    made: list[str] = []

    @flow(retries=1)
    async def generation() -> None:
        forget("taken", "ledgers", "process")  # as in another process
        made.append((await acreate_prediction(MODEL, INPUT)).id)
        if len(made) == 1:
            end_trouble()
            raise RuntimeError

    end_trouble = trouble(ID, what)
    await generation()

    assert made == [one.id for one in still.predictions] * 2


async def test_a_flow_run_that_is_executed_twice_in_one_process_pays_once(still: Emulator) -> None:
    @flow
    async def generation() -> str:
        return (await acreate_prediction(MODEL, INPUT)).id

    async with get_client() as client:
        run = await client.create_flow_run(generation)
    made = await asyncio.gather(
        *(run_flow_async(generation, flow_run=run.model_copy()) for _ in range(2))
    )

    assert made == [one.id for one in still.predictions] * 2


async def test_two_attempts_that_are_executed_at_once_in_one_process_pay_once(
    still: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    current, attempts = RunScope.current, itertools.count(1)

    def of_another_attempt() -> RunScope:
        here, attempt = current(), next(attempts)
        assert here.ancestry is not None
        return replace(
            here,
            ancestry=here.ancestry._replace(attempt=attempt),
            levels=tuple(one._replace(attempt=attempt) for one in here.levels),
        )

    @flow
    async def generation() -> list[str]:
        calls = [acreate_prediction.fn(MODEL, INPUT) for _ in range(3)]
        return [one.id for one in await asyncio.gather(*calls)]

    monkeypatch.setattr(RunScope, "current", of_another_attempt)

    assert await generation() == [one.id for one in still.predictions] * 3
