import pytest

from prefect_replicate.outputs.found import (
    extension_for,
    is_usable_id,
    media_type_of,
    stems,
    without_query,
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
        ("application/x-msdownload", "https://h/x.exe", "application/x-msdownload", "bin"),
        (None, "https://h/../../etc/passwd", "application/octet-stream", "bin"),
        ("nonsense", "https://h/", "application/octet-stream", "bin"),
    ],
)
def test_the_name_comes_from_known_media_types_and_suffixes_only(
    content_type: str | None, url: str, media_type: str, extension: str
) -> None:
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
