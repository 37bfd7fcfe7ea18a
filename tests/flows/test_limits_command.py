"""`prefect-replicate limits`, which keeps a limit on Prefect's server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from prefect_replicate import cli
from prefect_replicate.engine import call
from prefect_replicate.ledger.limits import remove_limit


@pytest.fixture(autouse=True)
def _on_a_server(prefect_api: None) -> Iterator[None]:  # pyright: ignore[reportUnusedFunction] pytest calls it
    """That has no limit before, and none after."""
    yield
    call(lambda _: remove_limit())


def shown(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_without_options_the_limit_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    cli.limits()
    assert capsys.readouterr().out == "There is no limit replicate-creates.\n"

    cli.limits(creates_per_minute=600)
    capsys.readouterr()
    cli.limits()

    titles, row = shown(capsys)
    assert titles == ["LIMIT", "AT", "ONCE", "PER", "MINUTE", "IN", "USE"]
    assert row == ["replicate-creates", "600", "600", "0"]


def test_a_limit_that_is_there_is_changed(capsys: pytest.CaptureFixture[str]) -> None:
    cli.limits(creates_per_minute=600)
    cli.limits(creates_per_minute=6)

    assert shown(capsys)[-1] == ["replicate-creates", "6", "6", "0"]


def test_a_limit_is_removed_once(capsys: pytest.CaptureFixture[str]) -> None:
    cli.limits(creates_per_minute=600)
    cli.limits(remove=True)
    cli.limits(remove=True)

    assert capsys.readouterr().out.splitlines()[-2:] == [
        "replicate-creates is removed.",
        "There is no limit replicate-creates.",
    ]
