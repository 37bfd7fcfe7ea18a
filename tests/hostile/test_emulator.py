"""The local Replicate, where a web page in the browser of somebody who runs it is hostile."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from prefect_replicate.emulator import Emulator

CONTROL = "/_emulator/predictions"


def ask(emulator: Emulator, method: str, path: str, **options: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {emulator.token}", **options.pop("headers", {})}
    return httpx.request(method, emulator.base_url + path, headers=headers, **options)


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example"),
        *("127.0.0.1@evil.example", "", "0.0.0.0", "[::1", "169.254.169.254", "localhost.", "a b"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/account", "/v1/predictions", CONTROL, "/"])
def test_under_another_name_it_is_not_there(
    replicate_emulator: Emulator, host: str, path: str
) -> None:
    reply = ask(replicate_emulator, "GET", path, headers={"Host": host})

    assert reply.status_code in (400, 403)
    assert replicate_emulator.token not in reply.text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:123", "LOCALHOST", "[::1]:80"])
def test_under_its_own_names_it_is(replicate_emulator: Emulator, host: str) -> None:
    assert ask(replicate_emulator, "GET", "/v1/account", headers={"Host": host}).is_success


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Origin": "file://"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://[::1"},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
def test_a_web_page_does_not_control_it(
    replicate_emulator: Emulator, headers: dict[str, str], method: str
) -> None:
    assert ask(replicate_emulator, method, CONTROL, headers=headers).status_code == 403


def test_a_page_of_this_machine_may(replicate_emulator: Emulator) -> None:
    page = {"Origin": replicate_emulator.base_url, "Sec-Fetch-Site": "same-origin"}

    assert ask(replicate_emulator, "GET", CONTROL, headers=page).status_code != 403


BODIES = [
    *(b"", b"null", b"5", b'"x"', b"[]", b"{", b"\xff\xfe", b"[" * 50_000, b'{"input":' * 20_000),
    *(b'{"input": null}', b'{"input": []}', b'{"input": {}}', b'{"version": 5, "input": {}}'),
    *(b'{"version": null, "input": {"a": NaN}}', b'{"version": "\\ud83d", "input": {}}'),
    *(b'{"input": {"seconds": 1e999}}', b'{"input": {"seconds": "\\u0000"}}', b"0" * 100_000),
    b'{"input": {"\\ud83d": 1}, "webhook": 5, "webhook_events_filter": {}}',
]
PATHS = [
    *("/v1/predictions", "/v1/models/emulator/timer/predictions", "/v1/files"),
    *("/v1/deployments/a/b/predictions", "/v1/predictions/abc/cancel", "/v1/predictions/%00"),
    *("/_emulator/faults", "/_emulator/clock", "/_emulator/behaviour", "/_emulator/reset"),
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body[:16].decode("ascii", "replace"))
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_bad_body_is_an_error_of_whoever_sent_it(
    replicate_emulator: Emulator, path: str, body: bytes, method: str
) -> None:
    kind = {"Content-Type": "application/json"}

    reply = ask(replicate_emulator, method, path, content=body, headers=kind)

    assert reply.status_code < 500
