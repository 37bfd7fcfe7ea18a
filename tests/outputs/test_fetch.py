import asyncio
import ssl
import traceback
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from certificates import certificate

from prefect_replicate.exceptions import OutputError
from prefect_replicate.values.output import OutputSchema

from .conftest import TOKEN, content_of

URL = OutputSchema(rules={"type": "string", "format": "uri"})
API_FILE = "/v1/files/abc/download?signature=x"


async def test_the_token_goes_to_the_api_and_to_no_other_host(
    host, other_host, store, prediction, tmp_path
):
    urls = [host.add(API_FILE, b"a"), other_host.add("/b", b"b")]
    allowed = [other_host.url.removeprefix("http://")]

    await store(prediction(urls), tmp_path, api_url=host.url, allowed_hosts=allowed)

    assert host.requests[0].headers["authorization"] == "Bearer r8_secret"
    assert "authorization" not in other_host.requests[0].headers


async def test_the_token_is_not_sent_again_once_a_redirect_has_left_the_api(
    host, other_host, store, prediction, tmp_path
):
    url = host.add(API_FILE, b"a")
    host.redirects(f"{other_host.url}/b")
    other_host.redirects(url)
    allowed = [other_host.url.removeprefix("http://")]

    await store(prediction(url), tmp_path, api_url=host.url, allowed_hosts=allowed)

    sent = [request.headers.get("authorization") for request in host.requests]
    assert sent == ["Bearer r8_secret", None]
    assert "authorization" not in other_host.requests[0].headers


async def test_a_token_that_no_header_can_carry_is_not_shown(host, store, prediction, tmp_path):
    url = host.add(API_FILE, b"a")

    with pytest.raises(OutputError, match="characters that a header can't contain") as raised:
        await store(prediction(url), tmp_path, api_url=host.url, token=f"{TOKEN}\n")

    assert TOKEN not in "".join(traceback.format_exception(raised.value))


async def test_a_redirect_within_the_api_is_followed(host, store, prediction, tmp_path):
    host.add("/real.mp4", b"video")
    host.redirects("/real.mp4")

    (file,) = await store(prediction(f"{host.url}/a"), tmp_path)

    assert content_of(file) == b"video"


async def test_each_redirect_is_checked_again(host, other_host, store, prediction, tmp_path):
    host.redirects(f"{other_host.url}/a?signature=secret")

    with pytest.raises(OutputError, match=r"not allowed; to trust it, add 'localhost:") as raised:
        await store(prediction(f"{host.url}/a"), tmp_path)

    assert "secret" not in str(raised.value)
    assert other_host.requests == []


async def test_redirects_come_to_an_end(host, store, prediction, tmp_path):
    for _ in range(6):
        host.redirects("/a")

    with pytest.raises(OutputError, match="redirects more than 5 times"):
        await store(prediction(f"{host.url}/a"), tmp_path)

    assert len(host.requests) == 6


@pytest.mark.parametrize("file_host", ["127.0.0.1", "localhost"])
async def test_an_internal_address_is_refused_where_the_api_is_on_the_internet(
    host, store, prediction, tmp_path, file_host: str
):
    url = host.add("/a", b"a").replace("127.0.0.1", file_host)
    allowed = url.split("/")[2]

    # The API's host is an address, so that nothing is asked of DNS; it is never connected to.
    with pytest.raises(OutputError, match="internal address"):
        await store(prediction(url), tmp_path, api_url="http://8.8.8.8", allowed_hosts=[allowed])

    assert host.requests == []


async def test_a_host_that_can_not_be_found_is_asked_for_again(store, prediction, tmp_path):
    with pytest.raises(OutputError, match=r"address of nowhere.invalid can't be found"):
        await store(
            prediction("http://nowhere.invalid/a"), tmp_path, allowed_hosts=["nowhere.invalid"]
        )


async def test_an_unreachable_host_is_one_clear_line(host, store, prediction, tmp_path):
    with pytest.raises(OutputError, match="could not be downloaded: ConnectError"):
        await store(prediction("http://127.0.0.1:1/a"), tmp_path)


async def test_an_invalid_url_is_one_clear_line(store, prediction, tmp_path):
    with pytest.raises(OutputError, match=r"was not stored: its URL is not valid\.$"):
        await store(prediction("http://h:port/a.png"), tmp_path, schema=URL)


@pytest.mark.parametrize("proxied", [True, False])
async def test_a_proxy_of_the_environment_gets_the_name_to_resolve(
    host, http, store, prediction, tmp_path, monkeypatch, proxied: bool
):
    monkeypatch.setenv("http_proxy", host.url)
    monkeypatch.setenv("no_proxy", "" if proxied else "files.invalid")
    url = "http://files.invalid/a"
    host.add(url, b"through the proxy")

    with httpx.Client() as client:
        storing = store(prediction(url), tmp_path, http=client, allowed_hosts=["files.invalid"])
        if proxied:
            (file,) = await storing
            assert content_of(file) == b"through the proxy"
        else:
            with pytest.raises(OutputError, match="can't be found"):
                await storing


@pytest.fixture
async def tls_port(host, tmp_path: Path) -> AsyncIterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate(tmp_path, "localhost"))
    server = await asyncio.start_server(host.handle, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.mark.parametrize(
    ("name", "error"), [("localhost", None), ("127.0.0.1", "certificate verify failed")]
)
async def test_tls_proves_the_name_although_the_checked_address_is_connected_to(
    host, tls_port: int, store, prediction, tmp_path, name: str, error: str | None
):
    host.add("/a", b"private")
    context = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    output = prediction(f"https://{name}:{tls_port}/a")

    with httpx.Client(verify=context) as client:
        storing = store(output, tmp_path, http=client, allowed_hosts=[f"{name}:{tls_port}"])
        if error is None:
            await storing
            assert host.requests[0].headers["host"] == f"localhost:{tls_port}"
        else:
            with pytest.raises(OutputError, match=error):
                await storing
