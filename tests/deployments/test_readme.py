"""The README is true: its blocks run (test_demo.py has the demo's), its table is the code's."""

import os
import re
import runpy
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_replicate.emulator import Emulator

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SCRIPTS = [code for code in PYTHON if "def test_" not in code]
TESTS = [code for code in PYTHON if "def test_" in code]
SHELL = [code for language, code in BLOCKS if language == "bash"]
ELSEWHERE = ("pip install", "REPLICATE_API_TOKEN=")  # the set-up of these tests is the installation


@pytest.fixture
def quick(replicate: Emulator) -> Iterator[None]:
    replicate.behave(duration_factor=0.1)
    yield
    replicate.behave(duration_factor=1.0)


@pytest.mark.parametrize("code", SCRIPTS, ids=lambda code: code.split("\n")[0][:60])
def test_a_python_block_of_the_readme_runs(
    code: str, account: None, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=DeprecationWarning, module="__main__")
        exec(compile(code, "<string>", "exec", dont_inherit=True), {"__name__": "__main__"})


@pytest.mark.parametrize("code", TESTS, ids=lambda code: code.split("\n")[0][:60])
def test_a_block_of_the_readme_that_is_a_test_passes(code: str, pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["prefect_replicate.emulator.fixtures"]')
    pytester.makepyfile(code)

    result = pytester.runpytest_inprocess("-o", "asyncio_default_fixture_loop_scope=function")

    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("code", SHELL, ids=lambda code: code.split("\n")[0][:60])
def test_a_shell_block_of_the_readme_runs(
    code: str, run_env: dict[str, str], quick: None, tmp_path: Path
) -> None:
    lines = [line for line in code.splitlines() if not any(mark in line for mark in ELSEWHERE)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{run_env['PATH']}"

    done = subprocess.run(
        ["bash", "-euc", "\n".join(lines)],
        env=run_env | {"PATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_table_of_the_readme_is_made_from_the_docstrings() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "readme-table"))

    assert script["written"]() == script["table"]()


def test_every_link_of_the_readme_into_the_repository_leads_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text())

    missing = [target for target in targets if not (ROOT / target).exists()]

    assert missing == []
