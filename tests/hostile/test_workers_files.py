"""A text in a parameter of a deployment's run is no path on its worker, if nobody has said so."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, get_client
from prefect.filesystems import LocalFileSystem
from prefect.flow_engine import run_flow

from prefect_replicate import (
    create_prediction,
    generate_video,
    generate_videos,
    run_model,
    run_models,
)
from prefect_replicate.emulator import Emulator
from prefect_replicate.exceptions import ConfigurationError, InvalidInputError
from prefect_replicate.settings import DESTINATION_FOLDERS, INPUT_FOLDERS

SEEDANCE = "bytedance/seedance-1-lite"


@pytest.fixture(autouse=True)
def _on_a_server(prefect_api: None) -> None:  # pyright: ignore[reportUnusedFunction] pytest calls it
    """Every test here runs flows."""


@pytest.fixture
def run(replicate_emulator: Emulator) -> Callable[..., Any]:
    """Run a flow as a run of a deployment, with these parameters."""

    def run(definition: Any, **parameters: Any) -> Any:
        with get_client(sync_client=True) as client:
            deployment_id = client.create_deployment(
                flow_id=client.create_flow_from_name(definition.name), name="on-demand"
            )
            made = client.create_flow_run_from_deployment(deployment_id, parameters=parameters)
        return run_flow(definition, flow_run=made, parameters=parameters)

    return run


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "picture.png"
    path.write_bytes(b"a picture")
    return path


@pytest.mark.parametrize(
    "path",
    [
        "/proc/self/environ",
        "/etc/passwd",
        "~/.prefect/profiles.toml",
        "file:///etc/passwd",
        "FILE:/etc/passwd",
        "../../../../etc/passwd",
        "/dev/zero",
        "~nobody-at-all/x",
        "nul\x00byte",
        " http://x",
    ],
)
@pytest.mark.parametrize("form", ["one", "model", "batch", "models"])
def test_a_path_in_a_parameter_is_not_read(
    run: Callable[..., Any], replicate_emulator: Emulator, path: str, form: str
) -> None:
    if form == "one":
        with pytest.raises(InvalidInputError, match="INPUT_FOLDERS: none are set"):
            run(generate_video, prompt="a fox", image=path)
    elif form == "model":
        with pytest.raises(InvalidInputError, match="INPUT_FOLDERS: none are set"):
            run(run_model, model="emulator/timer", input={"image": path})
    else:
        flow = generate_videos if form == "batch" else run_models
        rows = [{"prompt": "a fox", "image": path}]
        model = {} if form == "batch" else {"model": "emulator/timer"}
        videos = run(flow, requests=rows, raise_on_failure=False, **model)
        assert "INPUT_FOLDERS: none are set" in (videos.failed[0].error or "")

    assert replicate_emulator.predictions.create_requests == 0
    assert not replicate_emulator.requests.matching(path="/v1/files")


def test_nor_are_rows_read_from_a_path(
    run: Callable[..., Any], replicate_emulator: Emulator, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("prompt\na private matter\n")

    with pytest.raises(InvalidInputError, match="INPUT_FOLDERS: none are set"):
        run(generate_videos, path=str(rows))
    assert replicate_emulator.predictions.create_requests == 0


def test_below_a_folder_that_was_named_files_are_read(
    run: Callable[..., Any],
    replicate_emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    picture: Path,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv(INPUT_FOLDERS, ",".join(["/nowhere", str(picture.parent)]))
    monkeypatch.setenv(DESTINATION_FOLDERS, str(tmp_path))

    video = run(generate_video, prompt="a fox", image=str(picture), destination=str(tmp_path))

    assert Path(video.files[0].location).parent == tmp_path


@pytest.mark.parametrize("way", ["../out.png", "link.png", "in-and-more/x.png"])
def test_a_way_out_of_the_folder_is_none(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, picture: Path, way: str
) -> None:
    outside = picture.parent.parent / "out.png"
    outside.write_bytes(b"private")
    (picture.parent / "link.png").symlink_to(outside)
    (picture.parent.parent / "in-and-more").mkdir()
    monkeypatch.setenv(INPUT_FOLDERS, str(picture.parent))
    path = (
        f"{picture.parent}-and-more/x.png" if way == "in-and-more/x.png" else picture.parent / way
    )

    with pytest.raises(InvalidInputError, match="INPUT_FOLDERS"):
        run(generate_video, prompt="a fox", image=str(path))


@pytest.mark.parametrize("destination", ["/etc", "/tmp/x", "videos", "~", "../x", "", "s3://b/x"])
@pytest.mark.parametrize("definition", [generate_video, generate_videos], ids=lambda one: one.name)
def test_files_are_stored_in_no_folder_that_was_not_named(
    run: Callable[..., Any], replicate_emulator: Emulator, destination: str, definition: Any
) -> None:
    asked = {"prompt": "a fox"} if definition is generate_video else {"requests": ["a fox"]}

    with pytest.raises(ConfigurationError, match="DESTINATION_FOLDERS"):
        run(definition, **asked, destination=destination)
    assert replicate_emulator.predictions.create_requests == 0


def test_nor_in_a_block_that_the_run_makes_itself(
    run: Callable[..., Any], replicate_emulator: Emulator, tmp_path: Path
) -> None:
    made = LocalFileSystem(basepath=str(tmp_path))

    with pytest.raises(ConfigurationError, match="not saved"):
        run(generate_video, prompt="a fox", destination=made)
    assert replicate_emulator.predictions.create_requests == 0


def test_a_flow_of_the_users_own_says_itself_what_it_reads(
    run: Callable[..., Any], replicate_emulator: Emulator, picture: Path, tmp_path: Path
) -> None:
    @flow
    def own() -> Any:
        return generate_video("a fox", image=str(picture), destination=str(tmp_path))

    assert Path(run(own).files[0].location).parent == tmp_path


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "empty", "missing"])
def test_only_a_regular_file_with_something_in_it_is_sent(
    replicate_emulator: Emulator, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "x"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "empty":
        path.touch()

    with pytest.raises(InvalidInputError, match=rf"^input file .*{path.name}.*[.]$"):
        create_prediction.fn("emulator/timer", {"file": path})
    assert replicate_emulator.predictions.create_requests == 0
