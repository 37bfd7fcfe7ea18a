"""Whoever answers slowly, endlessly or with a refusal keeps nothing else from going on."""

from __future__ import annotations

import asyncio
import gzip
import logging
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from certificates import certificate
from prefect.filesystems import WritableFileSystem
from scripted_api import Raw, ScriptedAPI, served

from prefect_replicate import (
    Prediction,
    acancel_prediction,
    acreate_prediction,
    adownload_outputs,
    cancel_prediction,
    create_prediction,
    download_outputs,
    get_prediction,
    wait_for_prediction,
)
from prefect_replicate.api import connection, throttle
from prefect_replicate.api.replies import read_json
from prefect_replicate.engine import call
from prefect_replicate.exceptions import (
    APIError,
    ConfigurationError,
    OutputError,
    ReplicateError,
    UncertainCreateError,
)
from prefect_replicate.lifecycle import adoption
from prefect_replicate.outputs import TransferPolicy, check_destination, download, store
from prefect_replicate.outputs.fetch import Line

OK = b"HTTP/1.1 200 OK\r\n"
DONE = {"id": "abc", "status": "succeeded"}
PAGE = {"latest_version": None, "is_official": True}
NOTHING = {"results": [], "next": None}
SLOWLY = (b"{", *(0.05, b" ") * 200)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] pytest calls it
    monkeypatch.setattr(connection, "_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(connection, "_WHOLE_SECONDS", 0.5)
    monkeypatch.setattr(connection, "_LARGEST_REPLY", 1_000_000)
    monkeypatch.setattr(adoption, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(adoption, "LOOKS", 1)


def body(content: bytes, *headers: bytes) -> Raw:
    # Said, or the client would use the connection again while it is being closed.
    length = b"connection: close\r\ncontent-length: %d\r\n" % len(content)
    return Raw(OK + length + b"".join(one + b"\r\n" for one in headers) + b"\r\n", content)


ENDLESS = {
    "its head never ends": Raw(OK, *(b"x: y\r\n", 0.05) * 200),
    "its body never ends": Raw(OK + b"content-length: 9000\r\n\r\n", *SLOWLY),
    "its chunks never end": Raw(
        OK + b"transfer-encoding: chunked\r\n\r\n", *(b"1\r\n \r\n", 0.05) * 200
    ),
    "it is too large": body(b" " * 1_000_001),
    "it unpacks to too much": body(gzip.compress(b" " * 100_000_000), b"content-encoding: gzip"),
    "it unpacks twice": body(
        gzip.compress(gzip.compress(b" " * 1000)), b"content-encoding: gzip, gzip"
    ),
    "it is packed in another way": body(b"...", b"content-encoding: br"),
    "it is packed wrongly": body(b"no gzip", b"content-encoding: gzip"),
    "it is cut off": Raw(OK + b"content-length: 9000\r\n\r\n", b"{"),
    "its packing is cut off": body(gzip.compress(b"{}")[:-9], b"content-encoding: gzip"),
    "it is no HTTP": Raw(b"SSH-2.0-OpenSSH_9.0\r\n"),
    "it is nothing": Raw(),
    "its head is too large": Raw(OK + b"x: " + b"y" * 200_000 + b"\r\n\r\n"),
    "its length is negative": Raw(OK + b"content-length: -1\r\n\r\n{}"),
    "its lengths differ": Raw(OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}"),
    "its status is none": Raw(b"HTTP/1.1 abc OK\r\n\r\n"),
    "its header is split": Raw(OK + b"content-length: 2\r\n evil: 1\r\n\r\n{}"),
}


@pytest.mark.parametrize("reply", ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize("act", [get_prediction.fn, cancel_prediction.fn], ids=["get", "cancel"])
def test_a_reply_is_received_within_limits(scripted: ScriptedAPI, reply: Raw, act: Any) -> None:
    scripted.says(reply)
    began = time.monotonic()

    with pytest.raises(APIError, match=r"^[^\n]{1,800}$"):
        act("abc")
    assert time.monotonic() - began < 8


@pytest.mark.parametrize("reply", ENDLESS.values(), ids=ENDLESS)
def test_a_create_that_is_answered_so_is_looked_for(scripted: ScriptedAPI, reply: Raw) -> None:
    scripted.routes["/v1/predictions?"] = NOTHING
    scripted.says(PAGE, reply)

    with pytest.raises(UncertainCreateError, match=r"^[^\n]{1,1500}$"):
        create_prediction.fn("owner/name", {"prompt": "a fox"})

    creates = [path for path in scripted.paths if path.endswith("/predictions")]
    listed = [path for path in scripted.paths if path.startswith("/v1/predictions?")]
    assert len(creates) == 3
    assert len(listed) >= len(creates)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, bytes])
def test_a_reply_within_limits_is_read_however_it_is_packed(
    scripted: ScriptedAPI, pack: Callable[[bytes], bytes]
) -> None:
    encoding = {gzip.compress: b"gzip", zlib.compress: b"deflate", bytes: b"identity"}[pack]
    logs = b"x" * 900_000
    content = b'{"id": "abc", "status": "succeeded", "logs": "%s"}' % logs
    scripted.says(body(pack(content), b"content-encoding: " + encoding))

    assert get_prediction.fn("abc").logs == logs.decode()


@pytest.mark.parametrize("depth", [101, 400])
@pytest.mark.parametrize(("before", "behind"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_what_is_nested_too_deeply_is_left_out_of_the_rest(
    depth: int, before: bytes, behind: bytes
) -> None:
    deep = before * depth + b"1" + behind * depth
    whole = read_json(b'{"id": "abc", "status": "succeeded", "output": %s, "logs": "a"}' % deep)

    levels, inner = 0, whole["output"]
    while inner is not None:
        inner, levels = inner["a"] if isinstance(inner, dict) else inner[0], levels + 1
    assert levels == 99
    assert Prediction.model_validate(whole).logs == "a"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b"[" + b"[]," * 6_000_000 + b"1]", "over 10,000,000 values"),
        (b"[" + b"1," * 10_000_001 + b"1]", "over 10,000,000 values"),
    ],
    ids=["deep", "lists", "numbers"],
)
def test_json_without_an_end_is_none(content: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_json(content)


def test_json_that_is_long_is_read() -> None:
    long = b"[" + b",".join([b'{"a": [1, [2]]}'] * 10_000) + b"]"

    assert len(read_json(long)) == 10_000


def test_a_list_is_read_although_something_of_others_in_it_is_nested_deeply(
    scripted: ScriptedAPI,
) -> None:
    deep: Any = "a"
    for _ in range(300):
        deep = [deep]
    mine = {"id": "mine", "status": "starting", "model": "owner/name", "input": {"prompt": "a fox"}}
    theirs = {**mine, "id": "theirs", "input": {"prompt": deep}}
    scripted.routes["/v1/predictions?"] = {"results": [theirs, mine], "next": None}
    scripted.says(PAGE, (500, "lost"))

    assert create_prediction.fn("owner/name", {"prompt": "a fox"}).id == "mine"


def test_a_long_reply_has_more_time_while_it_comes(
    scripted: ScriptedAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_SLOWEST", 1000.0)
    logs = b'"logs": "' + b"x" * 200 + b'", '
    head = b'{"id": "abc", "status": "succeeded", '
    length = b"content-length: %d\r\n\r\n" % (len(head) + 10 * len(logs) + len(b'"a": 1}'))
    scripted.says(Raw(OK + length, head, *(0.1, logs) * 10, b'"a": 1}'))

    assert get_prediction.fn("abc").is_succeeded


ODD_HEADERS = {
    "a letter that is not ASCII": "x-served-by: Z\u00fcrich".encode(),
    "a byte that is no text": b"x-served-by: \xff\xfe",
    "an encoding that is none of texts": b"content-type: application/json; charset=hex",
    "an encoding that does not fit": b"content-type: application/json; charset=utf-16",
    "a cookie": b"set-cookie: a=1; Path=/",
    "a cookie that no header may have": "set-cookie: a=\u0663".encode(),
}


@pytest.mark.parametrize("header", ODD_HEADERS.values(), ids=ODD_HEADERS)
def test_whatever_a_reply_says_of_itself_it_is_paid_once_and_read(
    scripted: ScriptedAPI, header: bytes
) -> None:
    id = uuid4().hex
    content = b'{"id": "%s", "status": "starting"}' % id.encode()
    scripted.says(PAGE, body(content, header), body(content, header), DONE)

    assert create_prediction.fn("owner/name", {}).id == id
    assert get_prediction.fn(id).id == id
    assert get_prediction.fn("abc").is_succeeded
    assert not any("cookie" in headers for _, headers in scripted.requests)
    assert {headers["accept-encoding"] for _, headers in scripted.requests} == {"gzip, deflate"}


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize("charset", ["hex", "zlib", "rot13", "idna", "undefined", "utf-16"])
def test_a_create_is_looked_for_whatever_encoding_its_reply_says_that_it_has(
    scripted: ScriptedAPI, status: int, charset: str
) -> None:
    head = f"HTTP/1.1 {status} OK\r\ncontent-type: text/plain; charset={charset}\r\n".encode()
    scripted.routes["/v1/predictions?"] = NOTHING
    scripted.says(PAGE, Raw(head + b"content-length: 3\r\n\r\n\xff!}"))

    with pytest.raises((UncertainCreateError, APIError), match=r"^[^\n]{1,900}$") as raised:
        create_prediction.fn("owner/name", {"prompt": "a fox"})
    assert isinstance(raised.value, UncertainCreateError) == (status != 400)


REFUSALS = [
    {"retry-after": "86400"},
    {"retry-after": "9" * 400},
    {"ratelimit-remaining": "0", "ratelimit-reset": "86400"},
    {"ratelimit-remaining": "0", "ratelimit-reset": "9" * 400},
]


@pytest.mark.parametrize("headers", REFUSALS, ids=str)
@pytest.mark.parametrize("status", [200, 429])
def test_a_cancel_is_not_kept_by_what_replies_say_of_limits(
    scripted: ScriptedAPI, monkeypatch: pytest.MonkeyPatch, status: int, headers: dict[str, str]
) -> None:
    monkeypatch.setattr(throttle, "URGENT_SECONDS", 0.2)
    limited = (status, {"detail": "slow down", **DONE}, headers)
    canceled = {"id": "abc", "status": "canceled"}
    scripted.says(limited, limited, canceled)
    began = time.monotonic()

    assert cancel_prediction.fn("abc").is_terminal
    assert cancel_prediction.fn("abc").is_terminal
    assert time.monotonic() - began < 5


# Files


@pytest.fixture
def hosts() -> Iterator[list[ScriptedAPI]]:
    with served() as one, served() as two:
        yield [one, two]


def made(host: ScriptedAPI, *names: str, id: str = "abc") -> Prediction:
    output = [f"{host.base_url}/{name}" for name in names]
    return Prediction(id=id, status="succeeded", output=output)


SLOW_FILES = {
    "its head never ends": Raw(OK, *(b"x: y\r\n", 0.05) * 1000),
    "its body trickles": Raw(OK + b"content-length: 9000\r\n\r\n", *(b"x", 0.05) * 1000),
    "it says nothing at all": Raw(100.0),
    "it falls silent": Raw(OK + b"content-length: 9000\r\n\r\n", b"x", 100.0),
    "it does not say how long it is": Raw(OK + b"\r\n", b"x", 100.0),
}


@pytest.mark.parametrize("reply", SLOW_FILES.values(), ids=SLOW_FILES)
def test_a_file_host_that_sends_next_to_nothing_is_left(
    scripted: ScriptedAPI,
    hosts: list[ScriptedAPI],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reply: Raw,
) -> None:
    monkeypatch.setattr(download, "A_WHILE", 0.2)
    hosts[0].says(reply, (200, "video", {"content-type": "video/mp4"}))

    [file] = download_outputs.fn(made(hosts[0], "a.mp4"), tmp_path)

    assert Path(file.location).read_text() == "video"


@pytest.mark.parametrize(
    "reply",
    [
        (200, "x" * 2000, {"content-type": "video/mp4"}),
        Raw(OK + b"content-length: 2000000000000\r\n\r\n"),
        Raw(OK + b"content-type: video/mp4\r\n\r\n", *(b"x" * 500, 0.01) * 100),
    ],
    ids=["it has so much", "it says so", "it never ends"],
)
def test_a_file_that_is_larger_than_allowed_is_refused(
    scripted: ScriptedAPI,
    hosts: list[ScriptedAPI],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reply: Any,
) -> None:
    monkeypatch.setenv("PREFECT_INTEGRATIONS_REPLICATE_MAX_FILE_SIZE", "1kB")
    hosts[0].says(reply)

    with pytest.raises(OutputError, match="larger than the 1,000 bytes that PREFECT_INTEG"):
        download_outputs.fn(made(hosts[0], "a.mp4"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_makes_no_sense_is_said_before_anything_is_paid(
    scripted: ScriptedAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_INTEGRATIONS_REPLICATE_MAX_FILE_SIZE", "lots")

    with pytest.raises(ConfigurationError, match="MAX_FILE_SIZE is 'lots': could not parse"):
        call(lambda _: check_destination(tmp_path))


def test_a_download_that_nobody_wants_any_more_leaves_a_whole_file_alone(
    scripted: ScriptedAPI,
    hosts: list[ScriptedAPI],
    tmp_path: Path,
    eventually: Callable[[Callable[[], Any]], None],
) -> None:
    (tmp_path / "abc.mp4").write_text("a whole video")
    hosts[0].says(Raw(OK + b"content-type: video/mp4\r\n\r\n", b"half of it", 100.0))

    async def act() -> None:
        download = asyncio.create_task(adownload_outputs.fn(made(hosts[0], "a.mp4"), tmp_path))
        await asyncio.to_thread(eventually, lambda: (tmp_path / ".abc.part").exists())
        await asyncio.sleep(0.1)
        download.cancel()
        await asyncio.gather(download, return_exceptions=True)

    asyncio.run(act())

    assert (tmp_path / "abc.mp4").read_text() == "a whole video"
    assert len(hosts[0].requests) == 1


def test_what_comes_after_a_cut_is_never_what_was_encrypted(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    cert, key = certificate(tmp_path, "localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    with ours, theirs:
        server = threading.Thread(target=_send_by_tls, args=(theirs, context), daemon=True)
        server.start()
        trusting = ssl.create_default_context(cafile=cert)
        client = trusting.wrap_socket(ours, server_hostname="localhost")
        line, received = Line(), client.recv(10)
        line.opened(SimpleNamespace(get_extra_info=lambda _: client))
        line.cut()
        with suppress(OSError):
            while piece := client.recv(1000):
                received += piece
        client.close()
        server.join()

    assert set(received) == {ord("x")}


def _send_by_tls(one: socket.socket, context: ssl.SSLContext) -> None:
    with suppress(OSError):
        wrapped = context.wrap_socket(one, server_side=True)
        wrapped.sendall(b"x" * 100_000)


def test_slow_downloads_keep_nothing_else_waiting(
    scripted: ScriptedAPI,
    hosts: list[ScriptedAPI],
    tmp_path: Path,
    eventually: Callable[[Callable[[], Any]], None],
) -> None:
    """Forty of them, which is more than there are threads for files."""
    hosts[0].says(Raw(OK + b"content-length: 9000\r\n\r\n", *(b"x", 0.05) * 10_000))
    starting, canceled = ({"id": "abd", "status": one} for one in ("starting", "canceled"))
    upload = {"id": "file", "urls": {"get": "https://api.replicate.com/v1/files/file"}}
    scripted.says(PAGE, upload, starting, canceled)
    picture = tmp_path / "a.png"
    picture.write_bytes(b"a picture" * 100_000)

    async def act() -> float:
        tens = [made(hosts[0], *"abcd", id=f"slow{number}") for number in range(10)]
        slow = [asyncio.create_task(adownload_outputs.fn(one, tmp_path)) for one in tens]
        await asyncio.to_thread(eventually, lambda: len(hosts[0].requests) == 32)
        began = time.monotonic()
        await acreate_prediction.fn("owner/name", {"image": picture})
        assert (await acancel_prediction.fn("abd")).status == "canceled"
        took = time.monotonic() - began
        for one in slow:
            one.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        return took

    assert asyncio.run(act()) < 8


# A thread of its own


class _Exits(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise SystemExit(3)


class ExitingBlock(WritableFileSystem):
    """Exits wherever it is called."""

    async def write_path(self, path: str, content: bytes) -> str:
        raise SystemExit(3)

    async def read_path(self, path: str) -> bytes:
        raise SystemExit(3)


def test_a_logger_that_exits_takes_no_call_with_it(scripted: ScriptedAPI) -> None:
    logger = logging.getLogger("prefect_replicate.api.predictions")
    handler = _Exits()
    logger.addHandler(handler)
    try:
        scripted.says({"id": "abc", "status": "a status that nobody knows"})
        with pytest.raises(SystemExit):
            get_prediction.fn("abc")
    finally:
        logger.removeHandler(handler)

    scripted.says(DONE)
    assert get_prediction.fn("abc").is_succeeded


def test_a_block_that_exits_takes_no_call_with_it(
    scripted: ScriptedAPI, hosts: list[ScriptedAPI], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "TransferPolicy", partial(TransferPolicy, upload_attempts=1))
    hosts[0].says((200, "video", {"content-type": "video/mp4"}))

    with pytest.raises(OutputError, match=r"did not accept abc\.mp4 \(attempts: 1\): SystemExit"):
        download_outputs.fn(made(hosts[0], "a.mp4"), ExitingBlock())

    scripted.says(DONE)
    assert get_prediction.fn("abc").is_succeeded


def test_a_task_of_the_loop_that_exits_takes_no_call_with_it(scripted: ScriptedAPI) -> None:
    async def exit() -> None:
        raise SystemExit(3)

    async def act(_: Any) -> int:
        left = asyncio.create_task(exit())
        await asyncio.wait({left})
        return 5

    assert call(act) == 5
    scripted.says(DONE)
    assert get_prediction.fn("abc").is_succeeded


@pytest.mark.parametrize("how", [SystemExit(3), KeyboardInterrupt(), ValueError("no")], ids=repr)
def test_a_callback_that_exits_ends_its_call_and_its_prediction_and_no_other(
    scripted: ScriptedAPI, how: BaseException
) -> None:
    def on_update(_: Prediction) -> None:
        raise how

    canceled = {"id": "abc", "status": "canceled"}
    scripted.says({"id": "abc", "status": "processing"}, canceled)

    with pytest.raises((type(how), ReplicateError)):
        wait_for_prediction.fn("abc", on_update=on_update)

    if not isinstance(how, Exception):
        assert "/v1/predictions/abc/cancel" in scripted.paths
    scripted.says(DONE)
    assert get_prediction.fn("abc").is_succeeded


def test_what_is_not_ours_becomes_one_line_of_ours() -> None:
    async def act(_: Any) -> None:
        raise KeyError("a\nkey")

    with pytest.raises(ReplicateError, match=r"^KeyError: 'a\\nkey'\. A retry continues"):
        call(act)
