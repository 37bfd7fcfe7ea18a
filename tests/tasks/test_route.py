"""Requests go the way that the environment and the base URL say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from prefect_replicate import ReplicateCredentials, create_prediction, download_outputs
from prefect_replicate.exceptions import ConfigurationError

HOST = "http://replicate.invalid"
ACCOUNT = {"type": "user", "username": "a", "name": "b"}
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxy_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def made() -> dict[str, Any]:
    return {"id": uuid4().hex, "status": "succeeded", "output": f"{HOST}/file.txt"}


def create(credentials: ReplicateCredentials) -> Any:
    return create_prediction.fn("0" * 64, {}, credentials)


def look(credentials: ReplicateCredentials) -> Any:
    return credentials.get_client().accounts.current()


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("request_by", [create, look])
def test_the_environments_proxy_is_used(
    scripted: Any,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    request_by: Callable[[ReplicateCredentials], Any],
) -> None:
    monkeypatch.setenv(variable, scripted.base_url)
    scripted.says({**made(), **ACCOUNT})

    request_by(ReplicateCredentials(api_token=f"r8_{variable}", base_url=HOST))

    assert scripted.paths
    assert all(path.startswith(f"{HOST}/v1/") for path in scripted.paths)


@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize("hosts", ["127.0.0.1", "example.org, 127.0.0.1", "*", "*, x"])
def test_hosts_that_need_no_proxy_are_asked_directly(
    scripted: Any, monkeypatch: pytest.MonkeyPatch, variable: str, hosts: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv(variable, hosts)
    scripted.says({}, made())

    create(scripted.credentials)

    assert scripted.paths[-1] == "/v1/predictions"


def test_downloads_heed_the_hosts_that_need_no_proxy(
    scripted: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "localhost")
    base = scripted.base_url.replace("127.0.0.1", "localhost")
    account = ReplicateCredentials(api_token="r8_scripted", base_url=base)
    scripted.says({}, {**made(), "output": f"{base}/v1/files/x"}, (200, "a file"))
    prediction = create(account)

    [file] = download_outputs.fn(prediction, tmp_path, account)

    assert Path(file.location).read_text() == "a file"


@pytest.mark.parametrize(
    "proxy", ["gopher://127.0.0.1:1", "http://127.0.0.1:notaport", "http://[::1"]
)
@pytest.mark.parametrize("request_by", [create, look])
def test_a_proxy_that_cannot_be_used_is_one_clear_line(
    scripted: Any,
    monkeypatch: pytest.MonkeyPatch,
    proxy: str,
    request_by: Callable[[ReplicateCredentials], Any],
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)

    with pytest.raises(ConfigurationError, match=r"^The proxy that the environment names for 127"):
        request_by(scripted.credentials)


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("", "/v1/predictions"),
        ("/v1/", "/v1/predictions"),
        ("/v1/acme/gw/replicate", "/v1/acme/gw/replicate/predictions"),
        ("/replicate/v1", "/replicate/v1/predictions"),
    ],
)
def test_a_base_with_a_path_stands_for_the_whole_of_the_api(
    scripted: Any, base: str, path: str
) -> None:
    account = ReplicateCredentials(api_token="r8_x", base_url=scripted.base_url + base)
    scripted.says({}, made())

    create(account)
    assert scripted.paths[-1] == path

    scripted.says(ACCOUNT)
    look(account)
    assert scripted.paths[-1] == path.replace("predictions", "account")


def test_an_untrusted_certificate_is_said_at_once(scripted_tls: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^The certificate of localhost:\d+ is not trust"):
        create(scripted_tls.credentials)


def test_an_authority_from_the_environment_is_trusted(
    scripted_tls: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    scripted_tls.says(ACCOUNT)

    assert look(scripted_tls.credentials).username == "a"
