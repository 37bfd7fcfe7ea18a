import pytest

from prefect_replicate.outputs.failure import Refused
from prefect_replicate.outputs.found import decode_data_uri


@pytest.mark.parametrize(
    ("uri", "media_type", "content"),
    [
        ("data:image/png;base64,iVBORw==", "image/png", b"\x89PNG"),
        ("data:image/png;base64,iVBORw%3D%3D", "image/png", b"\x89PNG"),
        ("data:text/plain;charset=utf-8,a%20b%2C", "text/plain", b"a b,"),
        ("data:,hello", "text/plain", b"hello"),
        ("DATA:video/mp4;BASE64,AA==", "video/mp4", b"\0"),
        ("data:video/mp4;base64,", "video/mp4", b""),
    ],
)
def test_data_uris_are_decoded(uri: str, media_type: str, content: bytes) -> None:
    assert decode_data_uri(uri) == (media_type, content)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("data:image/png;base64", "no comma"),
        ("data:image/png;base64,iVBORw", "not valid base64"),
        ("data:image/png;base64,****", "not valid base64"),
        ("data:text/plain,100%", "percent-escape"),
    ],
)
def test_a_malformed_data_uri_is_refused(uri: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        decode_data_uri(uri)
