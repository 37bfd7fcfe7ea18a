from __future__ import annotations

import pickle
import threading

import pytest
import replicate
from pydantic import ValidationError

from prefect_replicate import ReplicateCredentials, create_prediction
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import ConfigurationError

TOKEN = "r8_" + "s3cret" * 6


def test_a_client_of_the_official_library_is_made(replicate_emulator: Emulator) -> None:
    client = ReplicateCredentials().get_client()

    assert isinstance(client, replicate.Client)
    assert client.models.get("emulator/timer").name == "timer"


def test_the_same_settings_give_the_same_client() -> None:
    one, same, other = (ReplicateCredentials(api_token=f"r8_{name}") for name in "aab")

    assert one.get_client() is same.get_client()
    assert one.get_client() is not other.get_client()
    assert one.get_client() is not one.model_copy(update={"base_url": "http://x"}).get_client()


def test_the_same_client_serves_all_threads() -> None:
    account = ReplicateCredentials(api_token=TOKEN)
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(account.get_client())) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(seen) == 4
    assert {id(one) for one in seen} == {id(account.get_client())}


@pytest.mark.parametrize("empty", [None, "", "  \n"])
def test_a_missing_token_is_named_as_field_and_variable(
    monkeypatch: pytest.MonkeyPatch, empty: str | None
) -> None:
    monkeypatch.setenv("REPLICATE_API_TOKEN", " ")

    with pytest.raises(ConfigurationError, match=r"`api_token` in the .*REPLICATE_API_TOKEN"):
        ReplicateCredentials(api_token=empty).get_client()


def test_the_environment_is_read_at_each_use(monkeypatch: pytest.MonkeyPatch) -> None:
    account = ReplicateCredentials()

    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_first")
    first = account.address()
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_second\n")
    monkeypatch.setenv("REPLICATE_BASE_URL", "http://localhost:1/v1/")
    second = account.address()

    assert (first.token.get_secret_value(), first.base_url) == (
        "r8_first",
        "https://api.replicate.com",
    )
    assert (second.token.get_secret_value(), second.base_url) == ("r8_second", "http://localhost:1")


def test_the_block_wins_over_the_environment(replicate_emulator: Emulator) -> None:
    account = ReplicateCredentials(api_token="r8_mine", base_url="http://localhost:2")

    assert account.address().token.get_secret_value() == "r8_mine"
    assert account.address().base_url == "http://localhost:2"


@pytest.mark.parametrize("token", ["r8_a b", "r8_ä", "r8_a\x00b", "r8_a\nb", "“r8_abc”"])
def test_a_token_that_was_copied_wrong_is_said_without_it(token: str) -> None:
    with pytest.raises(ConfigurationError, match=r"copy it again\. Nothing was sent\.$") as refused:
        ReplicateCredentials(api_token=token).get_client()
    assert token not in str(refused.value)


def test_asterisks_are_no_token_even_where_the_environment_has_one(
    replicate_emulator: Emulator,
) -> None:
    with pytest.raises(ConfigurationError, match=r"only asterisks.* of `run_deployment`"):
        create_prediction.fn("emulator/timer", {}, ReplicateCredentials(api_token="**********"))
    assert len(replicate_emulator.requests) == 0


@pytest.mark.parametrize(
    "url",
    ["api.replicate.com", "ftp://x", "http://", "https:///v1", "http://[::1", "http://x:99999"],
)
def test_a_base_url_that_is_no_address_is_refused_in_the_form(url: str) -> None:
    with pytest.raises(ValidationError, match="is not a web address; it should look like https://"):
        ReplicateCredentials(base_url=url)


@pytest.mark.parametrize("url", ["https://gw.example/v1?key=1", "https://gw.example/#top"])
def test_a_base_url_with_a_query_or_fragment_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="has a query or a fragment"):
        ReplicateCredentials(base_url=url)


def test_a_base_url_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(ValueError, match="must not contain a user or password") as refused:
        ReplicateCredentials(base_url="https://me:hush@proxy.example")
    assert "hush" not in str(refused.value)


def test_a_base_url_in_the_environment_is_checked_at_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLICATE_BASE_URL", "api.replicate.com")

    with pytest.raises(ConfigurationError, match=r"'api\.replicate.com' is not a web address"):
        ReplicateCredentials(api_token=TOKEN).get_client()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://api.replicate.com/v1", "https://api.replicate.com"),
        ("https://api.replicate.com/v1/", "https://api.replicate.com"),
        (" http://localhost:8000/ ", "http://localhost:8000"),
        ("https://gateway.example/a/b", "https://gateway.example/a/b"),
        ("", None),
        (None, None),
    ],
)
def test_a_base_url_is_taken_with_and_without_v1(given: str | None, kept: str | None) -> None:
    assert ReplicateCredentials(base_url=given).base_url == kept


def test_the_token_is_in_no_text_of_the_block() -> None:
    account = ReplicateCredentials(api_token=TOKEN)

    texts = [repr(account), str(account), account.model_dump_json(), repr(account.address())]
    assert [text for text in texts if TOKEN in text] == []


def test_a_rejected_token_is_named_without_it(replicate_emulator: Emulator) -> None:
    with pytest.raises(
        ConfigurationError, match=r"rejected the API token \(HTTP 401: You did not"
    ) as refused:
        create_prediction.fn("emulator/timer", {}, ReplicateCredentials(api_token=TOKEN))
    assert TOKEN.encode() not in pickle.dumps(refused.value)
