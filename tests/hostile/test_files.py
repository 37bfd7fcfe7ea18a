"""File hosts that send something else, or leave something behind for the next download."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from scripted_api import ScriptedAPI

from prefect_replicate import Prediction, download_outputs
from prefect_replicate.exceptions import OutputError

HTML = "<!DOCTYPE html><html><body>Just a moment...</body></html>"
NO_FILES = [
    (HTML, "text/html"),
    (HTML, "video/mp4"),
    (f"\n  {HTML.lower()}", "application/octet-stream"),
    ("<html>", None),
    ('{"detail": "not yours"}', "application/json"),
    ('{"detail": "not yours"}', "video/mp4"),
    ('[{"a": 1}]', None),
    ('["a"]', "image/png"),
    ("anything", "text/html"),
    ("anything", "application/json; charset=utf-8"),
    ("", "video/mp4"),
    ("", None),
]


def made(host: ScriptedAPI, *names: str) -> Prediction:
    urls = [f"{host.base_url}/{name}" for name in names]
    return Prediction(id="abc", status="succeeded", output=urls if len(urls) > 1 else urls[0])


@pytest.mark.parametrize("name", ["a.mp4", "a.png", "a.WAV", "a.mov?x=a.txt", "a.webp"])
@pytest.mark.parametrize(("content", "kind"), NO_FILES, ids=lambda one: str(one)[:12])
def test_what_stands_in_the_place_of_a_picture_or_video_is_refused_as_what_it_is(
    scripted: ScriptedAPI,
    thief: ScriptedAPI,
    tmp_path: Path,
    name: str,
    content: str,
    kind: str | None,
) -> None:
    thief.says((200, content, {"content-type": kind} if kind else {}))

    with pytest.raises(OutputError, match=r"sent (an HTML page|JSON|an empty file) instead of"):
        download_outputs.fn(made(thief, name), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.json", '{"a": 1}', "application/json"),
        ("a.html", HTML, "text/html"),
        ("a.svg", "<svg><html/></svg>", "image/svg+xml"),
        ("a.txt", "", "text/plain"),
        ("a", HTML, "text/html"),
        ("a.mp4", "\x00\x00\x00 ftypisom", "video/mp4"),
        ("a.mp4", "binary", "binary/octet-stream"),
    ],
)
def test_what_it_says_it_is_is_stored(
    scripted: ScriptedAPI, thief: ScriptedAPI, tmp_path: Path, name: str, content: str, kind: str
) -> None:
    thief.says((200, content, {"content-type": kind}))

    [file] = download_outputs.fn(made(thief, name), tmp_path)

    assert Path(file.location).read_text() == content


def test_the_other_files_are_stored(
    scripted: ScriptedAPI, thief: ScriptedAPI, tmp_path: Path
) -> None:
    good = (200, "video", {"content-type": "video/mp4"})
    bad = (200, HTML, {"content-type": "text/html"})
    thief.says(good, bad, good)

    with pytest.raises(OutputError, match="an HTML page"):
        download_outputs.fn(made(thief, "a.mp4", "b.mp4", "c.mp4"), tmp_path)

    assert [one.read_text() for one in tmp_path.iterdir()] == ["video"] * 2


OTHERS = [
    {"etag": '"v2"'},
    {"etag": 'W/"v1"'},
    {},
]


@pytest.mark.parametrize("headers", OTHERS, ids=str)
def test_the_rest_of_another_file_is_not_put_behind_the_first_bytes(
    scripted: ScriptedAPI, thief: ScriptedAPI, tmp_path: Path, headers: dict[str, str]
) -> None:
    (tmp_path / ".abc.part").write_text("old ")
    (tmp_path / ".abc.part.etag").write_text('"v1"')
    whole = (200, "all of the new one", {"content-type": "video/mp4", "etag": '"v2"'})
    rest = {"content-range": "bytes 4-7/8", "content-type": "video/mp4", **headers}
    thief.says((206, "rest", rest), whole)

    [file] = download_outputs.fn(made(thief, "a.mp4"), tmp_path)

    assert Path(file.location).read_text() == "all of the new one"


def a_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def a_dangling_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim.with_name("missing"))


def a_hard_link(path: Path, victim: Path) -> None:
    path.hardlink_to(victim)


def a_folder(path: Path, _: Path) -> None:
    path.mkdir()


def a_pipe(path: Path, _: Path) -> None:
    os.mkfifo(path)


def nonsense(path: Path, _: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00\r\nX-Evil: 1\r\n" * 10_000)


@pytest.mark.parametrize("left", [a_link, a_dangling_link, a_hard_link, a_folder, a_pipe, nonsense])
@pytest.mark.parametrize("name", [".abc.part", ".abc.part.etag"])
def test_what_others_have_left_stops_no_download_and_is_not_written_through(
    scripted: ScriptedAPI, thief: ScriptedAPI, tmp_path: Path, left: Any, name: str
) -> None:
    folder, victim = tmp_path / "videos", tmp_path / "victim"
    folder.mkdir()
    victim.write_text("untouched")
    if name.endswith("etag"):
        (folder / ".abc.part").write_text("old")
    left(folder / name, victim)
    thief.says((200, "video", {"content-type": "video/mp4", "etag": '"v1"'}))

    [file] = download_outputs.fn(made(thief, "a.mp4"), folder)

    assert Path(file.location).read_text() == "video"
    assert victim.read_text() == "untouched"
    assert not victim.with_name("missing").exists()
