"""What the environment says, and what it may not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefect_replicate.exceptions import ConfigurationError
from prefect_replicate.settings import check_destination_folder, or_default, settings
from prefect_replicate.tasks.arguments import checked

PREFIX = "PREFECT_INTEGRATIONS_REPLICATE_"


@pytest.fixture
def named_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose settings name a few places."""
    monkeypatch.setenv(f"{PREFIX}DESTINATION", "~/replicate")
    places = "/data/out, s3://media/in,sftp://host:2222/in,file:///urls/in"
    monkeypatch.setenv(f"{PREFIX}DESTINATION_FOLDERS", places)


def test_the_environment_sets_what_is_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}DESTINATION", "s3://media/replicate")
    monkeypatch.setenv(f"{PREFIX}POLL_MIN_INTERVAL", "2")
    monkeypatch.setenv(f"{PREFIX}POLL_MAX_INTERVAL", "30")
    monkeypatch.setenv(f"{PREFIX}PREVIEWS", "false")

    [policy] = checked(policy=None)

    assert (or_default(None), or_default("here")) == ("s3://media/replicate", "here")
    assert (policy.min_interval, policy.max_interval) == (2, 30)
    assert not settings().previews


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PREVIEWS", "perhaps"),
        ("POLL_MIN_INTERVAL", "-1"),
        ("POLL_MAX_INTERVAL", "fast"),
        ("POLL_MAX_INTERVAL", "0.1"),
        ("QUEUE_TIMEOUT", "inf"),
        ("SWEEP_GRACE", "-5"),
        ("MAX_FILE_SIZE", "0"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"{PREFIX}{name}", value)

    with pytest.raises(ConfigurationError, match=f"{PREFIX}{name}"):
        settings()


@pytest.mark.parametrize(
    "destination",
    [
        "s3://media/in",
        "s3://media/in/deeper",
        "~/replicate/x",
        "/data/out/x",
        "block:a/b",
        "sftp://host:2222/in/x",
        "file:///urls/in/x",
        "/urls/in",
        "file:///data/out/x",
    ],
)
def test_a_deployments_run_may_name_what_the_settings_allow(
    named_places: None, destination: str
) -> None:
    check_destination_folder(destination, is_deployed=True)


@pytest.mark.parametrize(
    "destination",
    [
        "s3://media", "s3://media/inner", "s3://media/in/../other", "s3://media/in/%2e%2e/x",
        "S3://media/in", "file:///data", "sftp://host/in", "sftp://host:2222/etc",
        "file:///urls/in/../x", "file:///urls/in/%2e%2e/x",
        "s3://media/in/.\t./x", "s3://media/in/a b", "file://host/urls/in",
        "simplecache::s3://media/in", "/data", "/data/out/..",
        "~/replicate/../x", "memory://x", "gs://media/in", "", " s3://media/in",
    ],
)  # fmt: skip
def test_a_deployments_run_may_name_nothing_else(named_places: None, destination: str) -> None:
    with pytest.raises(ConfigurationError, match="is not allowed: a run of a deployment"):
        check_destination_folder(destination, is_deployed=True)


def test_a_folder_that_leads_out_by_a_link_is_none_of_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "out").symlink_to(tmp_path)
    monkeypatch.setenv(f"{PREFIX}DESTINATION_FOLDERS", str(tmp_path / "in"))

    with pytest.raises(ConfigurationError, match="is not allowed: a run of a deployment"):
        check_destination_folder(str(tmp_path / "in" / "out" / "x"), is_deployed=True)
