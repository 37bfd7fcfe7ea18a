import pytest

from prefect_replicate.outputs.found import is_usable_id, stems, without_query
from prefect_replicate.values.media_types import (
    extension_for,
    media_type_of,
    media_type_of_content,
    media_type_of_suffix,
)


@pytest.mark.parametrize(
    ("content_type", "url", "media_type", "extension"),
    [
        ("video/mp4", "https://h/x", "video/mp4", "mp4"),
        ("Video/MP4; codecs=avc1", "https://h/x.webm", "video/mp4", "mp4"),
        ("image/jpg", "https://h/x", "image/jpeg", "jpg"),
        ("application/octet-stream", "https://h/x.MP4?a=b.png", "video/mp4", "mp4"),
        ("binary/octet-stream", "https://h/x.webm", "video/webm", "webm"),
        (None, "https://h/x.jpeg", "image/jpeg", "jpg"),
        ("video/x-unheard-of", "https://h/x.mov", "video/x-unheard-of", "mov"),
        ("application/x-msdownload", "https://h/x.exe", "application/x-msdownload", "exe"),
        ("application/octet-stream", "https://h/w.safetensors", None, "safetensors"),
        ("application/zip", "https://h/a.npz", "application/zip", "npz"),
        ("application/gzip", "https://h/all.tar.gz", "application/gzip", "tar.gz"),
        ("text/plain", "https://h/notes.md", "text/plain", "md"),
        ("text/plain", "https://h/notes", "text/plain", "txt"),
        ("application/x-tar", "https://h/a", "application/x-tar", "tar"),
        ("video/mp4", "https://h/a.%70ng", "video/mp4", "mp4"),
        (None, "https://h/a.b c", None, "bin"),
        (None, "https://h/a.verylongsuffix", None, "bin"),
        (None, "https://h/../../etc/passwd", "application/octet-stream", "bin"),
        ("nonsense", "https://h/", "application/octet-stream", "bin"),
    ],
)
def test_the_name_comes_from_the_media_type_and_the_url(
    content_type: str | None, url: str, media_type: str | None, extension: str
) -> None:
    media_type = media_type or "application/octet-stream"
    assert media_type_of(content_type, url) == media_type
    assert extension_for(media_type, url) == extension


def test_files_are_numbered_only_where_there_are_several() -> None:
    assert stems("abc", 1) == ["abc"]
    assert stems("abc", 3) == ["abc-1", "abc-2", "abc-3"]


@pytest.mark.parametrize("prediction_id", ["../abc", "a/b", ".hidden", "a" * 101, "a*"])
def test_an_id_that_could_leave_the_folder_is_not_usable(prediction_id: str) -> None:
    assert not is_usable_id(prediction_id)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/a.mp4?signature=secret#x", "https://h/a.mp4"),
        ("https://user:secret@h:8/a", "https://h:8/a"),
        ("data:text/plain,secret", "data:"),
        ("https://[broken/?secret", "https://[broken/"),
    ],
)
def test_a_shown_url_holds_no_secret(url: str, shown: str) -> None:
    assert without_query(url) == shown


@pytest.mark.parametrize(
    ("disposition", "extension"),
    [
        ('attachment; filename="a b.glb"', "glb"),
        ("attachment; filename=scene.ply", "ply"),
        ("attachment; filename*=UTF-8''%66oto.HEIC", "heic"),
        ('attachment; filename="../../x"', "bin"),
        ('attachment; filename=".bashrc"', "bin"),
        ("inline", "bin"),
    ],
)
def test_or_from_the_name_that_its_host_gives_it(disposition: str, extension: str) -> None:
    assert extension_for("application/octet-stream", "https://h/x", disposition) == extension


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        *[("a.webp", "image/webp"), ("a.mkv", "video/x-matroska"), ("a.m4a", "audio/mp4")],
        *[("a.flac", "audio/flac"), ("a.ogg", "audio/ogg"), ("a.glb", "model/gltf-binary")],
        *[("a.MP4", "video/mp4"), ("a.txt", "text/plain"), ("a.xyz123", None), ("a", None)],
    ],
)
def test_a_name_has_the_same_media_type_on_every_machine(name: str, media_type: str) -> None:
    assert media_type_of_suffix(name) == media_type


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"\x89PNG\r\n\x1a\n\0", "image/png"),
        (b"RIFF\x10\0\0\0WEBPVP8L", "image/webp"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "audio/wav"),
        (b"\0\0\0\x18ftypisom", "video/mp4"),
        (b"\0\0\0\x18ftypM4A ", "audio/mp4"),
        (b"a text", "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
)
def test_bytes_show_what_they_are(content: bytes, media_type: str) -> None:
    assert media_type_of_content(content) == media_type
