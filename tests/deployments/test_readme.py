"""The README is true: its blocks run, its table is the code's."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from prefect_replicate.emulator import Emulator

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SHELL = [code for language, code in BLOCKS if language == "bash"]
[TRANSCRIPT] = [code for language, code in BLOCKS if language == "console"]
ELSEWHERE = ("pip install", "REPLICATE_API_TOKEN=")  # the set-up of these tests is the installation


@pytest.fixture
def quick(replicate: Emulator):
    replicate.behave(duration_factor=0.1)
    yield
    replicate.behave(duration_factor=1.0)


@pytest.mark.parametrize("code", PYTHON, ids=lambda code: code.split("\n")[0][:60])
def test_a_python_block_of_the_readme_runs(
    code: str, run_env: dict[str, str], quick: None, tmp_path: Path
) -> None:
    command = [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", code]
    if "def test_" in code:
        (tmp_path / "conftest.py").write_text(
            'pytest_plugins = ["prefect_replicate.emulator.fixtures"]\n'
        )
        (tmp_path / "test_block.py").write_text(code)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]

    done = subprocess.run(
        command,
        env=run_env | {"HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


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


def test_the_demo_says_what_the_readme_shows(tmp_path: Path) -> None:
    command, *shown = TRANSCRIPT.splitlines()
    assert command == "$ scripts/demo"

    done = subprocess.run(
        [sys.executable, "-m", "prefect_replicate.cli", "demo"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    missing = [line for line in shown if not re.search(shape_of(line), done.stdout, re.M)]
    assert missing == []


def shape_of(line: str) -> str:
    """The line with its ids, ports and folder left open."""
    pattern = re.escape(line).replace("/home/you", "/.*")
    pattern = re.sub(r"\b\w{8}(\\-\w{4}){3}\\-\w{12}\b|\b\w{26}\b", r"[\\w-]+", pattern)
    return "^" + re.sub(r":\d+", r":\\d+", pattern) + "$"


def test_the_table_of_the_readme_is_made_from_the_docstrings() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "readme-table"))

    assert script["written"]() == script["table"]()


def test_every_link_of_the_readme_into_the_repository_leads_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text())

    missing = [target for target in targets if not (ROOT / target).exists()]

    assert missing == []
