import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

import prefect_replicate.emulator as emulator_package
from prefect_replicate.emulator import Behaviour, Emulator
from prefect_replicate.emulator.serving import print_greeting

# The package around the emulator imports Prefect, which takes seconds and is not the matter here.
LIGHT = f"""
import sys, types
package = types.ModuleType("prefect_replicate")
package.__path__ = [{str(Path(emulator_package.__path__[0]).parent)!r}]
sys.modules["prefect_replicate"] = package
"""


def test_it_starts_and_stops_in_no_time() -> None:
    start = time.monotonic()
    with Emulator() as emulator:
        assert httpx.get(f"{emulator.base_url}/v1/account").status_code == 401
    seconds = time.monotonic() - start

    assert seconds < 2
    with pytest.raises(httpx.ConnectError, match="refused"):
        httpx.get(emulator.base_url)


def test_stopping_does_not_wait_for_requests_under_way() -> None:
    with Emulator() as emulator, httpx.Client(base_url=emulator.base_url) as client:
        client.get("/v1/account")
        start = time.monotonic()
        emulator.stop()

    assert time.monotonic() - start < 1


def test_two_emulators_know_nothing_of_each_other() -> None:
    with Emulator() as one, Emulator(token=f"r8_{'x' * 37}") as other:
        headers = {"authorization": f"Bearer {one.token}"}

        assert httpx.get(f"{one.base_url}/v1/account", headers=headers).status_code == 200
        assert httpx.get(f"{other.base_url}/v1/account", headers=headers).status_code == 401
        assert (len(one.requests), len(other.requests)) == (1, 1)


def test_the_token_is_40_characters_long() -> None:
    assert len(Emulator().token) == 40


def test_a_reset_goes_back_to_the_first_behaviour() -> None:
    with Emulator(behaviour=Behaviour(credit=False)) as emulator:
        emulator.behave(credit=True)
        emulator.reset()

        assert not emulator.behaviour.credit


def test_the_fixture_points_the_environment_here(replicate_emulator: Emulator) -> None:
    assert os.environ["REPLICATE_API_TOKEN"] == replicate_emulator.token
    assert os.environ["REPLICATE_BASE_URL"] == replicate_emulator.base_url


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 70000}, "a port is a number from 0 to 65535"),
        ({"token": "secret"}, "starts with r8_"),
        ({"speed": -1}, "speed must be zero"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Emulator(**options)  # pyright: ignore[reportArgumentType] which is the point


def test_an_emulator_that_was_not_started_says_so() -> None:
    with pytest.raises(RuntimeError, match="was not started: use it in a with block"):
        _ = Emulator().base_url


def test_a_port_that_is_taken_is_named(replicate_emulator: Emulator) -> None:
    port = int(replicate_emulator.base_url.rpartition(":")[2])

    with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already"):
        Emulator(port).start()


def test_a_switch_that_does_not_exist_is_refused(replicate_emulator: Emulator) -> None:
    with pytest.raises(ValueError, match="no such switch"):
        replicate_emulator.behave(mood="bad")


def test_the_greeting_can_be_pasted_into_a_shell(replicate_emulator: Emulator) -> None:
    out = io.StringIO()
    print_greeting(replicate_emulator, out)

    assert f"export REPLICATE_API_TOKEN={replicate_emulator.token}\n" in out.getvalue()
    assert f"export REPLICATE_BASE_URL={replicate_emulator.base_url}\n" in out.getvalue()


def run(code: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", LIGHT + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# Not forked: what Prefect has started in this process may fail at the end of a fork, silently.
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_without_a_traceback(number: signal.Signals) -> None:
    process = run("from prefect_replicate.emulator import serve; serve(0)")
    assert process.stdout is not None

    while "Ctrl-C" not in (line := process.stdout.readline()):
        assert line
    process.send_signal(number)
    _, said = process.communicate(timeout=30)

    assert (process.returncode, said) == (0, "")


def test_the_command_says_where_its_models_are_listed(replicate_emulator: Emulator) -> None:
    out = io.StringIO()

    print_greeting(replicate_emulator, out)

    found = re.search(r"^  models   such as (\S+); all are listed at (\S+)$", out.getvalue(), re.M)
    assert found is not None
    assert found[1] in httpx.get(found[2]).json()["models"]


def test_without_its_extra_it_names_the_extra() -> None:
    code = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'av' else find(name, *rest)\n"
        "import prefect_replicate.emulator"
    )
    with run(code) as process:
        _, errors = process.communicate(timeout=10)

    last = errors.splitlines()[-1]
    assert last.endswith("the emulator needs av: pip install av")


def test_it_imports_neither_prefect_nor_the_encoder() -> None:
    code = "import prefect_replicate.emulator; print({'prefect', 'av', 'PIL'} & set(sys.modules))"
    with run(code) as process:
        output, _ = process.communicate(timeout=10)

    assert output == "set()\n"
