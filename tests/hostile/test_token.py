"""The token goes to its API, and is shown to nobody."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from scripted_api import ScriptedAPI

from prefect_replicate import (
    Prediction,
    ReplicateCredentials,
    ReplicateModel,
    create_prediction,
    download_outputs,
    generate_video,
    get_prediction,
)
from prefect_replicate.api.connection import connection_to
from prefect_replicate.api.predictions import list_predictions
from prefect_replicate.emulator import Emulator
from prefect_replicate.engine import call
from prefect_replicate.exceptions import ConfigurationError, OutputError

from .conftest import TOKEN


@pytest.mark.parametrize("own", [None, "", "  "])
def test_the_environments_token_goes_to_the_environments_address_only(
    scripted: ScriptedAPI, thief: ScriptedAPI, own: str | None
) -> None:
    elsewhere = ReplicateCredentials(api_token=own, base_url=thief.base_url)

    with pytest.raises(ConfigurationError, match="is not sent to") as raised:
        get_prediction.fn("abc", elsewhere)

    assert thief.requests == []
    assert TOKEN not in str(raised.value)


@pytest.mark.usefixtures("prefect_api")
def test_a_run_of_a_deployment_cannot_send_it_elsewhere(
    scripted: ScriptedAPI, thief: ScriptedAPI
) -> None:
    parameters: Any = {"api_token": "", "base_url": thief.base_url}

    state = generate_video("a fox", credentials=parameters, return_state=True)

    assert state.is_failed()
    assert thief.requests == []


def test_a_block_with_a_token_of_its_own_goes_where_it_says(
    scripted: ScriptedAPI, thief: ScriptedAPI
) -> None:
    own = ReplicateCredentials(api_token="r8_own", base_url=thief.base_url)

    assert get_prediction.fn("abc", own).id == "stolen"
    assert thief.requests[0][1]["authorization"] == "Bearer r8_own"


def test_without_the_environments_address_its_token_is_for_replicate(
    monkeypatch: pytest.MonkeyPatch, thief: ScriptedAPI
) -> None:
    monkeypatch.setenv("REPLICATE_API_TOKEN", TOKEN)
    monkeypatch.delenv("REPLICATE_BASE_URL", raising=False)

    assert ReplicateCredentials().address().base_url == "https://api.replicate.com"
    assert ReplicateCredentials(base_url="https://api.replicate.com/v1").address()
    with pytest.raises(ConfigurationError, match=r"is for https://api.replicate.com"):
        ReplicateCredentials(base_url=thief.base_url).address()


NEXT = [
    "{thief}/v1/predictions?cursor=2",
    "x:{thief}/v1/predictions?cursor=2",
    "http:{thief}/v1/predictions?cursor=2",
    "//{netloc}/v1/predictions?cursor=2",
    "\\\\{netloc}\\v1\\predictions?cursor=2",
    "/\\{netloc}?cursor=2",
    "@{netloc}?cursor=2",
    "http://{netloc}@{netloc}/?cursor=2",
    "?cursor=2",
    "?cursor=2#http://{netloc}",
    "?cursor=2 HTTP/1.1\r\nHost: {netloc}\r\n",
    "?cursor=2&next={thief}",
    "?cursor=2\ud83d",
    "?cursor=%zz",
]


@pytest.mark.parametrize("following", NEXT)
def test_the_next_page_of_a_list_is_on_the_same_host(
    scripted: ScriptedAPI, thief: ScriptedAPI, following: str
) -> None:
    netloc = thief.base_url.removeprefix("http://")
    page = {"results": [], "next": following.format(thief=thief.base_url, netloc=netloc)}
    scripted.says(page, {"results": [], "next": None})

    async def read(_: Any) -> list[Prediction]:
        connection = connection_to(ReplicateCredentials().address())
        return [one async for one in list_predictions(connection, datetime.now(timezone.utc))]

    assert call(read) == []
    assert thief.requests == []
    assert [path.partition("?")[0] for path in scripted.paths] == ["/v1/predictions"] * 2


@pytest.mark.parametrize("following", [5, None, True, [], {}, "", "?", "no query", "#?cursor=2"])
def test_a_next_page_that_is_none_ends_the_list(scripted: ScriptedAPI, following: Any) -> None:
    scripted.says({"results": [], "next": following})

    async def read(_: Any) -> list[Prediction]:
        connection = connection_to(ReplicateCredentials().address())
        return [one async for one in list_predictions(connection, datetime.now(timezone.utc))]

    assert call(read) == []
    assert len(scripted.requests) == 1


OTHER_RESOURCES = [
    "/v1/account",
    "/v1/predictions",
    "/v1/predictions/abc",
    "/v1/webhooks/default/secret",
    "/v1/models",
    "/v1/files",
    "/v1/files/",
    "/v1/files?x=/v1/files/a",
    "/v1/files/a/b",
    "/v1/files/../account",
    "/v1/files/%2e%2e/account",
    "/v1/files/a/../../account",
    "/v1/files/..%2faccount",
    "/v1/files/a/download/../../../account",
    "/v1/files//account",
    "/v1/account?/v1/files/a",
    "/v1/account#/v1/files/a",
    "/v1/account;/v1/files/a",
    "/v1//files/a",
    "/V1/files/a",
    "/",
    "",
]


@pytest.mark.parametrize("path", OTHER_RESOURCES)
def test_an_output_is_nothing_of_the_api_but_its_files(
    scripted: ScriptedAPI, tmp_path: Path, path: str
) -> None:
    scripted.says("all that the account has")
    made = Prediction(id="abc", status="succeeded", output=scripted.base_url + path)

    with pytest.raises(OutputError, match=r"not one of its files|made no files"):
        download_outputs.fn(made, tmp_path)

    assert scripted.requests == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", OTHER_RESOURCES)
def test_a_redirect_of_an_output_leads_nowhere_else_in_the_api(
    scripted: ScriptedAPI, tmp_path: Path, path: str
) -> None:
    scripted.says((302, "", {"location": path or scripted.base_url}), "all that the account has")
    made = Prediction(id="abc", status="succeeded", output=f"{scripted.base_url}/v1/files/a")

    with pytest.raises(OutputError, match=r"not one of its files|made no files"):
        download_outputs.fn(made, tmp_path)

    assert len(scripted.requests) == 1


def test_a_file_of_the_api_is_stored(scripted: ScriptedAPI, tmp_path: Path) -> None:
    scripted.says("content")
    url = f"{scripted.base_url}/v1/files/NGZ_i-a=/download?owner=a&expiry=1&signature=x/y="
    made = Prediction(id="abc", status="succeeded", output=url)

    [file] = download_outputs.fn(made, tmp_path)

    assert Path(file.location).read_text() == "content"
    assert scripted.requests[0][1]["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("given", [TOKEN, {"api_token": TOKEN}, [TOKEN], TOKEN.encode(), 5])
def test_a_token_in_the_place_of_a_block_is_not_shown(replicate_emulator: Emulator, given: Any):
    for use in (
        lambda: create_prediction.fn("emulator/timer", {}, given),
        lambda: get_prediction.fn("abc", given),
        lambda: download_outputs.fn(Prediction(id="a", status="succeeded"), ".", given),
    ):
        with pytest.raises(
            ConfigurationError, match="must be a ReplicateCredentials block"
        ) as raised:
            use()
        assert TOKEN not in str(raised.value)


@pytest.mark.parametrize("given", [TOKEN, [TOKEN], TOKEN.encode(), 5])
def test_nor_in_that_of_a_model_block(given: Any) -> None:
    with pytest.raises(ValueError, match="credentials") as refused:
        ReplicateModel(model="emulator/timer", credentials=given)

    assert TOKEN not in str(refused.value)


@pytest.mark.usefixtures("prefect_api")
def test_nor_is_it_in_the_state_of_a_flow_run(replicate_emulator: Emulator) -> None:
    @flow
    def generation() -> None:
        create_prediction("emulator/timer", {}, TOKEN)  # pyright: ignore[reportArgumentType]

    for state in (
        generation(return_state=True),
        generate_video("a fox", credentials=TOKEN, return_state=True),  # pyright: ignore[reportCallIssue, reportArgumentType]
    ):
        assert state.is_failed()
        assert TOKEN not in (state.message or "")
