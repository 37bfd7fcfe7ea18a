"""The documentation is true: the blocks of each page run, from top to bottom."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import pytest

import prefect_replicate
from prefect_replicate.demo.prefect_server import PrefectServer
from prefect_replicate.emulator import Emulator
from prefect_replicate.engine import call, known_state
from prefect_replicate.ledger.limits import remove_limit

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *(str(one.relative_to(ROOT)) for one in sorted(ROOT.glob("docs/**/*.md")))]
BLOCK = re.compile(r"^(?:<!-- not run: (.*?) -->\n)?```(python|bash)\n(.*?)^```", re.M | re.S)
ELSEWHERE = ("pip install", "REPLICATE_API_TOKEN=")  # the set-up of these tests is the installation
TUTORIAL = "docs/tutorial.md"


class Block(NamedTuple):
    reason: str
    """Why it does not run here; empty if it does."""
    language: str
    code: str


def blocks_of(page: str) -> list[Block]:
    return [Block(*found) for found in BLOCK.findall((ROOT / page).read_text())]


def running(page: str) -> list[Block]:
    return [one for one in blocks_of(page) if not one.reason]


@pytest.fixture
def quick(replicate: Emulator) -> Iterator[None]:
    replicate.behave(duration_factor=0.1)
    yield
    replicate.behave(duration_factor=1.0)


@pytest.fixture
def tidy(account: None, prefect_server: PrefectServer) -> Iterator[None]:
    """Leaves no limit and no deployment on the Prefect server, which other tests use too."""
    yield
    call(lambda _: remove_limit())
    (known_state() or {}).pop("global limits", None)
    with prefect_server.client() as client:
        for one in client.read_deployments():
            client.delete_deployment(one.id)


@pytest.mark.parametrize("page", [one for one in PAGES if running(one)])
def test_the_blocks_of_a_page_run(
    page: str,
    account: None,
    run_env: dict[str, str],
    replicate: Emulator,
    quick: None,
    tidy: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    names: dict[str, object] = {"__name__": "__main__"}
    before = replicate.predictions.create_requests

    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=DeprecationWarning, module="__main__")
        for _, language, code in running(page):
            if language == "bash":
                run_in_shell(code, run_env | {"HOME": str(tmp_path)}, tmp_path)
            elif "def test_" not in code:
                exec(compile(code, f"<{page}>", "exec", dont_inherit=True), names)

    if page == TUTORIAL:  # which says that a retry pays nothing
        assert replicate.predictions.create_requests - before == 18


EXAMPLE = re.compile(r"```python\n(.*?)```", re.S)
UNRUN = ("serve(", "BLOCK_NAME", "await ")  # until Ctrl-C; what a reader has saved; a notebook


def examples() -> list[str]:
    names = [one for one in prefect_replicate.__all__ if not one.startswith("__")]
    docs = [inspect.getdoc(getattr(prefect_replicate, one)) or "" for one in names]
    found = [code for doc in docs for code in EXAMPLE.findall(doc)]
    return [dedent(one) for one in found if not any(mark in one for mark in UNRUN)]


@pytest.mark.parametrize("code", examples(), ids=lambda code: code.split("\n")[-2].strip()[:50])
def test_an_example_of_the_reference_runs(
    code: str, account: None, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    exec(compile(code, "<example>", "exec", dont_inherit=True), {"__name__": "__main__"})


def run_in_shell(code: str, env: dict[str, str], folder: Path) -> None:
    lines = [line for line in code.splitlines() if not any(mark in line for mark in ELSEWHERE)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"

    done = subprocess.run(
        ["bash", "-euc", "\n".join(lines)],
        env=env | {"PATH": path},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_a_block_that_is_a_test_passes(page: str, pytester: pytest.Pytester) -> None:
    tests = [one.code for one in running(page) if "def test_" in one.code]
    if not tests:
        return
    pytester.makeconftest('pytest_plugins = ["prefect_replicate.emulator.fixtures"]')
    pytester.makepyfile(*tests)

    result = pytester.runpytest_inprocess("-o", "asyncio_default_fixture_loop_scope=function")

    result.assert_outcomes(passed=len(tests))


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_picture_of_a_page_leads_somewhere(page: str) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text())

    missing = [one for one in targets if not ((ROOT / page).parent / one).exists()]

    assert missing == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_reference_of_the_command_line_is_made_from_its_help() -> None:
    script = [sys.executable, str(ROOT / "scripts" / "cli-reference")]

    made = subprocess.run(script, capture_output=True, text=True, check=True).stdout

    assert (ROOT / "docs" / "reference" / "cli.md").read_text() == made
