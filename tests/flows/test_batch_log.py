"""The log that the items of a batch share, where several processes read and write it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow, get_client
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run

from prefect_replicate import generate_videos
from prefect_replicate.batch import view
from prefect_replicate.batch.plan import Part, VideoBatch, handed_out
from prefect_replicate.batch.view import BatchView
from prefect_replicate.emulator import Emulator
from prefect_replicate.engine import Caller, acall
from prefect_replicate.exceptions import LedgerError
from prefect_replicate.ledger import log
from prefect_replicate.ledger.facts import Claim, Fact, Intent, Made, Origin
from prefect_replicate.ledger.ledger import Ledger
from prefect_replicate.ledger.log import OwnLog
from prefect_replicate.ledger.scope import RunScope

pytestmark = pytest.mark.contract
NOW = datetime.now(timezone.utc)
ORIGIN = Origin(base_url="https://x.org")
MADE = Made(id="abcdefgh", url="https://x.org/p/abcdefgh")
CALLS = [f"c{number}" for number in range(30)]
NAME = "0123456789abcdef-b1"


async def in_flow(do: Callable[[UUID], Awaitable[Any]]) -> Any:
    @flow
    async def run() -> Any:
        root = UUID(flow_run.id)
        return await acall(lambda _: do(root))

    return await run()


async def of_call(ledger: Ledger, call: str) -> OwnLog:
    return await ledger.choose(Claim("1", call), call, ledger.batch(NAME), is_retry=False)


async def announce(one: OwnLog) -> bool:
    call = one.name.partition("-")[0]
    intent = Intent(call=call, model="a/b", input_digest={}, at=NOW, cancel_after=5)
    return await one.write(one.next, claim=Claim("1", call), origin=ORIGIN, intent=intent)


async def all_announced(ledger: Ledger) -> list[bool]:
    logs = [await of_call(ledger, call) for call in CALLS]
    return await asyncio.gather(*map(announce, logs))


async def test_many_creates_are_announced_at_once(ledger_requests: list[str]) -> None:
    async def act(root: UUID) -> Ledger:
        assert all(await all_announced(Ledger(root)))
        other = Ledger(root)
        await other.read()
        return other

    other = await in_flow(act)

    assert ledger_requests.count("POST input") == 1
    known = [one.generation for one in other.all]
    assert [one.intent.call for one in known if one] == CALLS
    assert {one.origin for one in known if one} == {ORIGIN}


async def test_of_those_who_announce_the_same_creates_one_does() -> None:
    async def act(root: UUID) -> list[list[bool]]:
        return await asyncio.gather(*(all_announced(Ledger(root)) for _ in range(5)))

    done = await in_flow(act)

    assert sorted(map(sum, done)) == [0, 0, 0, 0, len(CALLS)]


async def test_a_write_whose_reply_is_lost_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    put, lost = log._put, list[str]()

    async def lose(root: UUID, name: str, fact: Fact) -> bool:
        if not lost:
            lost.append(name)
            await put(root, name, fact)
        return await put(root, name, fact)  # as Prefect's client does it

    monkeypatch.setattr(log, "_put", lose)

    async def act(root: UUID) -> tuple[list[bool], int]:
        ledger = Ledger(root)
        return await all_announced(ledger), ledger.batch(NAME).next

    assert await in_flow(act) == ([True] * len(CALLS), 1)


async def test_news_wait_for_each_other_and_are_read_by_others(ledger_requests: list[str]) -> None:
    async def act(root: UUID) -> list[str]:
        ledger = Ledger(root)
        batch = ledger.batch(NAME)
        with batch.worked_on():
            await all_announced(ledger)
            for one in ledger.all:
                await one.note(made=MADE)
            await batch.flush()
        other = Ledger(root)
        await other.read()
        return [one.generation.status for one in other.all if one.generation]

    assert await in_flow(act) == ["starting"] * len(CALLS)
    assert ledger_requests.count("POST input") == 2


async def test_where_nobody_works_on_the_batch_news_are_written_before_one_goes_on(
    ledger_requests: list[str],
) -> None:
    async def act(root: UUID) -> None:
        one = await of_call(Ledger(root), "c")
        await announce(one)
        await one.note(made=MADE)
        assert ledger_requests.count("POST input") == 2

    await in_flow(act)


async def test_late_news_of_a_create_that_another_has_taken_over_change_nothing() -> None:
    async def act(root: UUID) -> Any:
        first = await of_call(Ledger(root), "c")
        await announce(first)
        second = Ledger(root)
        await second.read()
        [other] = second.all
        await announce(other)
        await first.note(made=MADE)
        third = Ledger(root)
        await third.read()
        [known] = third.all
        assert known.generation is not None
        return known.generation.prediction_id, known.former_ids

    assert await in_flow(act) == (None, {MADE.id})


async def test_items_are_shown_to_others_as_they_stand() -> None:
    async def act(root: UUID) -> Any:
        batch, other = Ledger(root).batch(NAME), Ledger(root)
        batch.tell("part", "run/1", 1, {"state": "running", "prediction_id": "x"})
        batch.tell("part", "run/1", 1, {"state": "failed", "error": "no"})
        batch.tell("part", "run/1", 2, {"state": "succeeded"})
        await batch.flush()
        later = other.batch(NAME)
        await other.read()
        later.tell("part", "run/2", 1, {"state": "running"})
        later.tell("part", "run/2", 2, {"state": "running"})  # it has come too late to know
        await later.flush()
        third = Ledger(root)
        await third.read()
        return third.batch(NAME).items["part"]

    items = await in_flow(act)

    assert (items[1].by, items[1].changes) == ("run/2", {"state": "running"})
    assert (items[2].by, items[2].changes) == ("run/1", {"state": "succeeded"})


async def test_an_item_that_two_have_made_keeps_what_is_known_of_it() -> None:
    async def act(root: UUID) -> Any:
        batch = Ledger(root).batch(NAME)
        begun = {"state": "running", "prediction_id": "x"}
        for by in ("run/1", "run/2"):
            batch.tell("part", by, 1, begun)
        for by in ("run/1", "run/2"):
            batch.tell("part", by, 1, {**begun, "state": "succeeded", "files": []})
        batch.tell("part", "run/3", 1, begun)
        await batch.flush()
        other = Ledger(root)
        await other.read()
        return [one.items["part"][1].changes for one in (batch, other.batch(NAME))]

    assert await in_flow(act) == [{"state": "succeeded", "prediction_id": "x", "files": []}] * 2


async def test_what_no_json_can_hold_does_not_keep_the_rest_from_being_written() -> None:
    async def act(root: UUID) -> bool:
        ledger = Ledger(root)
        ledger.batch(NAME).tell("part", "run/1", 1, {"state": "failed", "error": "half \ud83d"})
        return await announce(await of_call(ledger, "c"))

    assert await in_flow(act)


async def test_whoever_is_to_stop_knows_it_before_the_next_create() -> None:
    async def act(root: UUID) -> set[str]:
        worker, parent = Ledger(root), Ledger(root)
        await announce(await of_call(worker, "c"))
        await parent.read()
        await parent.batch(NAME).stop("run")
        await announce(await of_call(worker, "d"))
        return worker.batch(NAME).stopped

    assert await in_flow(act) == {"run"}


async def test_who_waits_is_told_of_a_failure_and_news_are_written_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = PrefectClient.request

    async def refuse(client: PrefectClient, method: Any, path: Any, *args: Any, **more: Any) -> Any:
        if method == "POST" and str(path).endswith("/input"):
            raise PrefectException("503 Service Unavailable")
        return await request(client, method, path, *args, **more)

    async def act(root: UUID) -> Any:
        ledger = Ledger(root)
        batch = ledger.batch(NAME)
        batch.tell("part", "run/1", 1, {"state": "failed"})
        with monkeypatch.context() as patched:
            patched.setattr(PrefectClient, "request", refuse)
            for call in ("c", "d"):
                with pytest.raises(LedgerError, match="503"):
                    await announce(await of_call(ledger, call))
        assert batch.is_behind
        assert await announce(await of_call(ledger, "c"))
        assert not batch.is_behind
        other = Ledger(root)
        await other.read()
        return other.batch(NAME).items["part"][1].changes, [one.name for one in other.all]

    assert await in_flow(act) == ({"state": "failed"}, ["c-1"])


async def test_whoever_is_interrupted_while_it_waits_takes_nobody_with_it() -> None:
    async def act(root: UUID) -> bool:
        ledger = Ledger(root)
        waiting = [asyncio.create_task(announce(await of_call(ledger, call))) for call in "cd"]
        await asyncio.sleep(0)
        waiting[0].cancel()
        return await waiting[1]

    assert await in_flow(act)


async def test_one_who_left_does_not_keep_the_others_from_being_told_of_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def act(root: UUID) -> Any:
        ledger = Ledger(root)
        started, release = asyncio.Event(), asyncio.Event()

        async def fail(*_: Any) -> bool:
            started.set()
            await release.wait()
            raise LedgerError("503")

        with monkeypatch.context() as patched:
            patched.setattr(log, "_put", fail)
            ledger.batch(NAME).tell("part", "run/1", 1, {"state": "failed"})
            waiting = [asyncio.create_task(announce(await of_call(ledger, one))) for one in "cd"]
            await started.wait()
            waiting[0].cancel()
            await asyncio.sleep(0)
            release.set()
            await asyncio.wait(waiting)
            with pytest.raises(LedgerError, match="503"):
                waiting[1].result()
        assert ledger.batch(NAME).is_behind
        await ledger.batch(NAME).flush()
        other = Ledger(root)
        await other.read()
        return other.batch(NAME).items["part"][1].changes

    assert await in_flow(act) == {"state": "failed"}


@pytest.mark.parametrize("number", ["1000", "9" * 9])
async def test_behind_a_gap_nobody_goes_on(number: str) -> None:
    async def act(root: UUID) -> list[bool]:
        one, two = Ledger(root), Ledger(root)
        known = await of_call(one, "c")
        await announce(await of_call(one, "z"))
        async with get_client() as client:
            forged = '{"version": 1, "id": "f", "process": "p"}'
            await client.create_flow_run_input(root, f"replicate-{NAME}-{number}", forged)
        await two.read()
        other = await of_call(two, "c")
        with pytest.raises(LedgerError, match=rf"The input replicate-{NAME}-{number} of flow run"):
            other.check_readable()
        return [await announce(known), await announce(other)]

    assert await in_flow(act) == [True, False]


@pytest.mark.parametrize(
    "name",
    [
        f"{NAME}-{'9' * 5000}",
        f"x0-b0-{'9' * 5000}",
        f"c-{'9' * 5000}-0",
        "-",
        "a-b-c",
    ],
    ids=lambda name: name[:12],
)
async def test_an_input_that_is_no_fact_of_ours_is_none(name: str) -> None:
    async def act(root: UUID) -> bool:
        async with get_client() as client:
            await client.create_flow_run_input(root, f"replicate-{name}", "{}")
        ledger = Ledger(root)
        await ledger.read()
        one = await of_call(ledger, "c")
        one.check_readable()
        return await announce(one)

    assert await in_flow(act)


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Awaitable[list[set[str]]]]:
    """Which runs know that they are to stop, after some looks of a batch that has a failure."""
    monkeypatch.setattr(view, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(view, "_SHARE_OF_TIME", 1e12)

    async def stopping(between: Callable[[BatchView, list[Part]], None]) -> list[set[str]]:
        asked = VideoBatch(
            ["a", "b", "c", "d"], "emulator/timer", fan_out="deployment", max_failures=0
        )

        async def act(caller: Caller, scope: RunScope, root: UUID) -> list[set[str]]:
            whole = asked.whole(await asked.items())
            parts = handed_out(whole, 2, root, 1)
            shown = BatchView(
                parts, Ledger(root), scope, logging.getLogger(), key="x", is_elsewhere=True
            )
            for number, part in enumerate(parts, 1):
                shown.workers[part.key] = f"run-{number}"
            worker = Ledger(root).batch(parts[0].log)
            worker.tell(parts[0].key, "run-1/x", 1, {"state": "failed", "error": "no"})
            await worker.flush()
            for _ in range(3):
                await shown.look(caller)
                between(shown, parts)
            other = Ledger(root)
            await other.read()
            return [other.batch(one.log).stopped for one in parts]

        @flow
        async def run() -> list[set[str]]:
            scope = RunScope.current()
            return await acall(lambda caller: act(caller, scope, UUID(flow_run.id)))

        return await run()

    return stopping


async def test_too_many_failures_stop_each_part(stopping: Any) -> None:
    assert await stopping(lambda *_: None) == [{"run-1"}, {"run-2"}]


async def test_a_stop_that_could_not_be_written_is_written_later(
    stopping: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, failed = log._put, list[str]()

    async def fail_once(root: UUID, name: str, fact: Fact) -> bool:
        if fact.stops and not failed:
            failed.append(name)
            raise LedgerError("500")
        return await put(root, name, fact)

    monkeypatch.setattr(log, "_put", fail_once)

    assert await stopping(lambda *_: None) == [{"run-1"}, {"run-2"}]


async def test_a_run_that_takes_the_place_of_a_stopped_one_is_stopped_too(stopping: Any) -> None:
    def replace(shown: BatchView, parts: list[Part]) -> None:
        shown.workers[parts[1].key] = "run-3"

    assert await stopping(replace) == [{"run-1"}, {"run-2", "run-3"}]


@pytest.mark.parametrize(
    "forged",
    [
        {"calls": [{"log": "no name", "made": MADE.model_dump()}]},
        {"calls": [{"log": "c-99999", "of": "x", "made": MADE.model_dump()}]},
        {"items": [{"part": "p", "by": "", "items": {"1": {"state": 5, "number": "x"}}}]},
        {"items": [{"part": "p", "by": "run", "items": {"-1": {}}}], "stops": ["", "x" * 9999]},
    ],
)
async def test_a_forged_fact_of_a_batch_stops_nobody(forged: dict[str, Any]) -> None:
    async def act(root: UUID) -> list[bool]:
        ledger = Ledger(root)
        fact = Fact.model_validate({"version": 1, "id": "f", "process": "p", **forged})
        assert await log._put(root, f"{NAME}-0", fact)
        return await all_announced(ledger)

    assert all(await in_flow(act))


async def test_a_fact_of_a_batch_that_cannot_be_read_stops_its_creates_alone() -> None:
    async def act(root: UUID) -> None:
        async with get_client() as client:
            await client.create_flow_run_input(root, f"replicate-{NAME}-0", "{}")
        ledger = Ledger(root)
        await ledger.read()
        one = await of_call(ledger, "c")
        with pytest.raises(LedgerError, match=f"The input replicate-{NAME}-0 of flow run {root}"):
            one.check_readable()
        (await ledger.choose(Claim("1", "e"), "e", is_retry=False)).check_readable()

    await in_flow(act)


def test_what_a_batch_has_written_shows_no_prompt(
    replicate_emulator: Emulator, tmp_path: Path
) -> None:
    secret = f"a private matter {uuid4()}"

    state = generate_videos(
        [secret], "emulator/timer", destination=str(tmp_path), return_state=True
    )

    assert state.state_details.flow_run_id is not None
    with get_client(sync_client=True) as client:
        reply = client._client.post(
            f"/flow_runs/{state.state_details.flow_run_id}/input/filter",
            json={"prefix": "replicate-", "limit": 100},
        )
    assert "succeeded" in reply.text
    assert secret not in reply.text
