"""Users test their flows in Prefect's own harness, with the emulator's fixture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = """
import pytest
from prefect.testing.utilities import prefect_test_harness

pytest_plugins = ["prefect_replicate.emulator.fixtures"]

@pytest.fixture(autouse=True, scope="session")
def harness():
    with prefect_test_harness(server_startup_timeout=120):
        yield
"""

TEST = """
from pathlib import Path
from prefect_replicate import generate_video

def test_a_video_is_generated_and_stored(replicate_emulator, tmp_path):
    replicate_emulator.behave(duration_factor=0.1)
    video = generate_video("a red fox", destination=tmp_path)
    assert Path(video.files[0].location).read_bytes()[4:8] == b"ftyp"
    assert replicate_emulator.predictions.create_requests == 1
"""


@pytest.mark.full
def test_a_flow_runs_in_the_harness_of_prefect(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_users_flow.py").write_text(TEST)

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
