import httpx
import pytest

from prefect_replicate.outputs.download import Body, range_headers, read_reply
from prefect_replicate.outputs.failure import Gone, Refused, TryAgain


@pytest.mark.parametrize(
    ("size", "etag", "headers"),
    [
        (0, None, {}),
        (0, '"v1"', {}),
        (5, None, {}),
        (5, '"v1"', {"Range": "bytes=5-", "If-Range": '"v1"'}),
    ],
)
def test_a_range_is_asked_for_only_with_bytes_and_an_etag(
    size: int, etag: str | None, headers: dict[str, str]
) -> None:
    assert range_headers(size, etag) == headers


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (200, {"Content-Length": "9", "ETag": '"v"'}, Body(0, 9, '"v"', None)),
        (200, {"ETag": 'W/"v"', "Content-Type": "a/b"}, Body(0, None, None, "a/b")),
        (206, {"Content-Range": "bytes 5-8/9"}, Body(5, 9, None, None)),
        (206, {"Content-Range": "bytes 5-8/*"}, Body(5, None, None, None)),
        (206, {"Content-Range": "bytes 4-8/9"}, None),
        (206, {}, None),
        (416, {"Content-Range": "bytes */3"}, None),
    ],
)
def test_a_reply_says_which_bytes_follow(
    status: int, headers: dict[str, str], body: Body | None
) -> None:
    assert read_reply(status, httpx.Headers(headers), size=5) == body


@pytest.mark.parametrize("status", [404, 410])
def test_a_missing_file_is_gone(status: int) -> None:
    with pytest.raises(Gone, match=r"^$"):
        read_reply(status, {}, 0)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 520])
def test_a_host_in_trouble_is_asked_again(status: int) -> None:
    with pytest.raises(TryAgain, match=f"HTTP {status}") as raised:
        read_reply(status, {"retry-after": "7"}, 0)

    assert raised.value.retry_after == 7


@pytest.mark.parametrize("status", [204, 304, 400, 401, 403])
def test_other_statuses_are_final(status: int) -> None:
    with pytest.raises(Refused, match=f"HTTP {status}"):
        read_reply(status, {}, 0)


def test_a_body_that_is_packed_unasked_is_read_from_its_start() -> None:
    headers = {"content-encoding": "gzip", "content-length": "5", "etag": '"a"'}

    body = read_reply(200, headers, 7)

    assert body is not None
    assert (body.start, body.total, body.etag, body.is_packed) == (0, None, None, True)
    assert read_reply(206, {**headers, "content-range": "bytes 7-8/9"}, 7) is None


@pytest.mark.parametrize("packing", ["br", "zstd", "gzip, gzip", "x"])
def test_a_body_that_is_packed_in_another_way_is_refused(packing: str) -> None:
    with pytest.raises(Refused, match=f"compresses it as '{packing}'"):
        read_reply(200, {"content-encoding": packing}, 0)
