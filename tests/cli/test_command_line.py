import signal
from collections.abc import Callable
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_replicate.cli import UsageError, input_from
from prefect_replicate.emulator import Emulator
from prefect_replicate.generation import from_text
from prefect_replicate.values.model_schema import InputProperty

Command = Callable[[str], tuple[object, str, str]]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("film", 'Unknown command "film"'),
        ("run a/b -i x=1 -i x=2", "-i x is given twice; a list is written as x='[…]'"),
        ("run a/b --prompt x", "--prompt. An input of the model is given as -i prompt=VALUE.\n"),
        ("run a/b --aspect-ratio=16:9", "is given as -i aspect_ratio=VALUE."),
        ("deploy a/b --fps 24", "is given as -i fps=VALUE."),
        ("generate --prompt p", "MODEL requires an argument"),
        ("generate a/b --prompt p --duration long", "Invalid value for --duration"),
        ("generate a/b --prompt p -i seconds", "-i takes key=value, not 'seconds'"),
        ("generate a/b --prompt p -i image=@none.png", "-i image: there is no file 'none.png'"),
        ("emulator --port high", "Invalid value for --port"),
        ("emulator --schema acme/model", "--schema takes owner/name=FILE, not 'acme/model'"),
        ("orphans --grace long", "Invalid value for --grace"),
        ("limits --creates-per-minute many", "Invalid value for --creates-per-minute"),
        ("limits --creates-per-minute 0", "--creates-per-minute must be at least 1, not 0"),
        ("limits --creates-per-minute 6 --remove", "--remove lifts it: give one of the two"),
    ],
)
def test_wrong_usage_is_told_in_one_line_and_exits_2(
    line: str, complaint: str, command: Command
) -> None:
    code, out, err = command(line)

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("prefect-replicate: ")
    assert complaint in err


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("generate film --prompt p", "'film' is not a model reference"),
        ("generate a/b --prompt p", "There is no Replicate API token"),
        ("generate a/b --prompt p", "/account/api-tokens. Nothing was sent.\n"),
        ("emulator --port 99999", "a port is a number from 0 to 65535"),
        ("emulator --schema a/b=none.json", "cannot read the schema none.json: No such file"),
    ],
)
def test_a_failure_is_told_in_one_line_and_exits_1(
    line: str, complaint: str, command: Command
) -> None:
    code, out, err = command(line)

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert complaint in err


def test_the_demo_on_the_real_replicate_needs_a_token(command: Command) -> None:
    before = {number: signal.getsignal(number) for number in (SIGINT, SIGTERM, SIGHUP)}
    try:
        code, out, err = command("demo --real")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("prefect-replicate: --real needs REPLICATE_API_TOKEN")


def test_a_port_that_is_taken_is_told_in_one_line(
    command: Command, replicate_emulator: Emulator
) -> None:
    port = replicate_emulator.base_url.rpartition(":")[2]

    code, _, err = command(f"emulator --port {port}")

    assert (code, err.count("\n")) == (1, 1)
    assert "Address already in use" in err


@pytest.mark.parametrize("name", ["orphans", "limits"])
def test_a_missing_prefect_server_is_told_in_one_line(command: Command, name: str) -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        code, out, err = command(name)

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "PREFECT_API_URL is not set" in err


@pytest.mark.usefixtures("connects_at_once")
@pytest.mark.parametrize("line", ["generate a/b --prompt p", "orphans", "limits"])
def test_an_unreachable_prefect_server_is_told_in_one_line(
    line: str, command: Command, replicate_emulator: Emulator
) -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        code, out, err = command(line)

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "Prefect's API can't be reached" in err
    assert "running, and that PREFECT_API_URL is its address (http://127.0.0.1:1/api). Noth" in err
    assert err.endswith(" Nothing was started or canceled.\n")


@pytest.mark.parametrize("line", ["generate a/b --prompt p", "orphans", "limits"])
def test_a_proxy_without_an_address_is_told_in_one_line(
    line: str, command: Command, replicate_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:notaport")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        code, out, err = command(line)

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "a proxy in the environment, is not usable: Invalid port" in err


def test_no_command_shows_what_there_is(command: Command) -> None:
    code, out, _ = command("")

    assert code == 0
    assert all(name in out for name in ("demo", "emulator", "generate", "limits", "orphans"))


TYPES: dict[str, Any] = {"text": "string", "number": "number", "list": "array", "any": None}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("number", "5", 5),
        ("number", "soon", "soon"),
        ("text", "5", "5"),
        ("text", "null", "null"),
        ("text", '"5"', '"5"'),
        ("list", '["a", "b"]', ["a", "b"]),
        ("any", "true", True),
        ("any", "a red fox", "a red fox"),
        ("any", "NaN", "NaN"),
        (None, "0.5", 0.5),
        (None, "16:9", "16:9"),
        (None, "", ""),
    ],
)
def test_a_word_is_what_the_model_takes_it_for(kind: str | None, text: str, value: Any) -> None:
    rules = {"type": TYPES[kind]} if kind and TYPES[kind] else {}

    assert from_text(text, InputProperty(name="x", rules=rules) if kind else None) == value


def test_a_value_after_an_at_sign_is_a_local_file(tmp_path: Path) -> None:
    image = tmp_path / "first frame.png"
    image.touch()

    assert input_from([f"image=@{image}"]) == {"image": image}


def test_a_pair_without_a_name_is_refused() -> None:
    with pytest.raises(UsageError, match="-i takes key=value, not '=5'"):
        input_from(["=5"])
