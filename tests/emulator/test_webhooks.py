import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from replicate.webhook import Webhooks, WebhookSigningSecret
from standardwebhooks import Webhook

from prefect_replicate.emulator import Emulator
from prefect_replicate.emulator.plans import LogLine, Plan
from prefect_replicate.emulator.predictions import Record, WebhookEvent
from prefect_replicate.emulator.webhooks import schedule


@dataclass
class Receiver:
    """Keeps the webhooks that arrive, and answers with `statuses` first, then 200."""

    url: str = ""
    statuses: list[int] = field(default_factory=list[int])
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list[Any])

    @property
    def seen(self) -> list[str]:
        return [json.loads(body)["status"] for _, body in self.received]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    kept = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            kept.received.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(kept.statuses.pop(0) if kept.statuses else 200)
            self.send_header("location", kept.url)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept.url = f"http://127.0.0.1:{server.server_address[1]}/hook?job=7"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield kept
        server.shutdown()
        thread.join()


def create(
    api: httpx.Client, receiver: Receiver, events: list[str] | None = None, **values: Any
) -> Any:
    body: dict[str, Any] = {
        "version": "emulator/timer", "input": values, "webhook": receiver.url,
    }  # fmt: skip
    if events is not None:
        body["webhook_events_filter"] = events
    return api.post("/predictions", json=body).json()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 5 s"
        time.sleep(0.005)


def record(
    events: tuple[WebhookEvent, ...] | None,
    stop_at: float | None = None,
    arrivals: tuple[float, ...] = (),
) -> Record:
    logs = tuple(LogLine(at / 10, "x\n") for at in range(1, 20))
    plan = Plan(queue=1, run=2, output=["x", "y"], arrivals=arrivals, logs=logs)
    return Record("x", "a/b", "hidden", {}, plan, 0, webhook_events=events, stop_at=stop_at)


ENDED = [(3, "output"), (3, "completed")]


@pytest.mark.parametrize(
    ("one", "due"),
    [
        (record(None), ENDED),
        (record(("start", "completed")), [(1, "start"), (3, "completed")]),
        (record(("logs",)), [(1.1, "logs"), (1.6, "logs"), (2.1, "logs"), (2.6, "logs")]),
        (record(None, None, (0.1, 0.9)), [(1.1, "output"), (1.9, "output"), *ENDED]),
        (record(None, 2, (0.1, 1.5)), [(1.1, "output"), (2, "completed")]),
        (record(("start", "completed"), stop_at=0.5), [(0.5, "completed")]),
        (record(("start", "output", "completed"), stop_at=2), [(1, "start"), (2, "completed")]),
    ],
)
def test_webhooks_are_due_as_filtered_and_throttled(
    one: Record, due: list[tuple[float, str]]
) -> None:
    assert [(round(each.at, 6), each.event) for each in schedule(one)] == due


def test_a_webhook_is_the_prediction_and_signed(
    api: httpx.Client, receiver: Receiver, replicate_emulator: Emulator
) -> None:
    created = create(api, receiver, ["completed"], seconds=0.05)
    until(lambda: len(receiver.received) == 1)
    headers, body = receiver.received[0]
    secret = api.get("/webhooks/default/secret").json()["key"]

    payload = Webhook(secret).verify(body, headers)
    Webhooks.validate(headers=headers, body=body.decode(), secret=WebhookSigningSecret(key=secret))

    assert payload == api.get(f"/predictions/{created['id']}").json()


def test_all_events_come_in_order(
    api: httpx.Client, receiver: Receiver, replicate_emulator: Emulator
) -> None:
    events = ["start", "logs", "output", "completed"]
    create(api, receiver, events, seconds=0.2, log_lines=1)
    until(lambda: len(replicate_emulator.webhooks) == 4)

    assert receiver.seen == ["processing", "succeeded", "processing", "succeeded"]
    assert [one.event for one in replicate_emulator.webhooks] == events


def test_a_cancel_completes_at_once(api: httpx.Client, receiver: Receiver, still: Emulator) -> None:
    created = create(api, receiver, seconds=600)
    still.clock.advance(1)
    api.post(f"/predictions/{created['id']}/cancel")
    until(lambda: len(receiver.received) == 1)

    assert receiver.seen == ["canceled"]


def test_only_the_terminal_webhook_is_retried(
    api: httpx.Client, receiver: Receiver, replicate_emulator: Emulator
) -> None:
    replicate_emulator.clock.speed = 100
    receiver.statuses = [500, 500, 503]
    create(api, receiver, ["start", "completed"], seconds=1)
    until(lambda: len(receiver.received) == 4)

    ids = [headers["webhook-id"] for headers, _ in receiver.received]
    assert receiver.seen == ["processing", "succeeded", "succeeded", "succeeded"]
    assert ids[0] != ids[1] == ids[2] == ids[3]


def test_redirects_are_not_followed_and_retries_end_after_a_minute(
    api: httpx.Client, receiver: Receiver, replicate_emulator: Emulator
) -> None:
    replicate_emulator.clock.speed = 1000
    receiver.statuses = [301] * 50
    create(api, receiver, ["completed"])
    until(lambda: len(replicate_emulator.webhooks) == 7)
    first, *_, last = replicate_emulator.webhooks

    assert last.time - first.time >= 63
    assert [one.status for one in replicate_emulator.webhooks] == [301] * 7


def test_a_receiver_that_is_down_is_tried_again(
    api: httpx.Client, replicate_emulator: Emulator
) -> None:
    replicate_emulator.clock.speed = 1000
    create(api, Receiver(url="http://127.0.0.1:1/"), ["completed"])
    until(lambda: len(replicate_emulator.webhooks) == 7)

    assert {one.status for one in replicate_emulator.webhooks} == {None}


def test_webhooks_can_come_twice(
    api: httpx.Client, receiver: Receiver, replicate_emulator: Emulator
) -> None:
    replicate_emulator.behave(duplicate_webhooks=True)
    create(api, receiver, ["completed"])
    until(lambda: len(receiver.received) == 2)

    assert receiver.received[0][0]["webhook-id"] == receiver.received[1][0]["webhook-id"]
