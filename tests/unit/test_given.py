from __future__ import annotations

import io
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import AnyUrl, SecretStr

from prefect_replicate import ModelOutput, OutputFile, Prediction
from prefect_replicate.exceptions import InvalidInputError
from prefect_replicate.values.given import as_given

NOW = datetime.now(timezone.utc)
URL = "https://replicate.delivery/a.png"


class Size(Enum):
    LARGE = "large"


class Numpy:
    """What numpy's arrays and scalars have."""

    dtype = "float32"

    def __init__(self, value: Any) -> None:
        self.value = value

    def tolist(self) -> Any:
        return self.value


def given(value: Any) -> Any:
    return as_given({"x": value})["x"]


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("text", "text"),
        (5, 5),
        (0.5, 0.5),
        (True, True),
        ({"a": {"b": [1, None]}}, {"a": {"b": [1, None]}}),
        ((1, 2), [1, 2]),
        ({3}, [3]),
        (Decimal("1.50"), 1.5),
        (Decimal("2.00"), 2),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, tzinfo=timezone.utc), "2026-01-02T00:00:00+00:00"),
        (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (AnyUrl("https://example.com/a"), "https://example.com/a"),
        (Size.LARGE, "large"),
        (SecretStr("hidden"), "hidden"),
        (Numpy(0.5), 0.5),
        (Numpy(date(2026, 1, 2)), "2026-01-02"),
        (Decimal("1e200"), 10**200),
        (Numpy([[1, 2]]), [[1, 2]]),
        ([Numpy(1), Decimal(3)], [1, 3]),
        (b"bytes", b"bytes"),
        (bytearray(b"bytes"), b"bytes"),
        (memoryview(b"bytes"), b"bytes"),
        (Path("a.png"), Path("a.png")),
    ],
    ids=lambda one: type(one).__name__,
)
def test_what_has_a_plain_meaning_is_written_so(value: Any, meant: Any) -> None:
    found = given(value)

    assert found == meant
    assert type(found) is type(meant)


def test_what_is_none_was_not_given() -> None:
    assert as_given({"a": None, "b": 0, "c": ""}) == {"b": 0, "c": ""}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (object(), "is a object, which JSON can't represent"),
        (io.StringIO("a"), "is a file opened as text; open it with mode 'rb'"),
        (float("nan"), "is nan, which JSON can't represent"),
        ({"a": [float("-inf")]}, "is -inf, which"),
        ({5: 1}, "is a dict with the key 5"),
        ("\ud83d", "is a string with half a character"),
        ({"\ud83d": 1}, "is a string with half a character"),
        (Decimal("NaN"), "is nan"),
        (Decimal("sNaN"), "is nan"),
        (Decimal("-Infinity"), "is -inf"),
        (10**5000, "is a number with hundreds of digits"),
        (lambda: 5, "is a function"),
        ([5, {"a": (1, object())}], "is a object"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_what_has_none_is_refused_by_its_name(value: Any, told: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"^input 'x' {told}[^\n]*Nothing was sent\.$"):
        given(value)


def made(output: Any, ended: datetime | None = NOW, **more: Any) -> Prediction:
    return Prediction(id="abc", status="succeeded", output=output, completed_at=ended, **more)


def stored(location: str = "/videos/abc.png", *, is_fresh: bool = True, **more: Any) -> OutputFile:
    expires = NOW + timedelta(minutes=50 if is_fresh else 5)
    fields = {"location": location, "output_path": "", "source": URL, "media_type": "image/png"}
    return OutputFile(**{**fields, "size": 1, "sha256": "", "expires_at": expires, **more})


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (stored(), URL),
        (stored(is_fresh=False), Path("/videos/abc.png")),
        (stored(source="data:"), Path("/videos/abc.png")),
        (stored(expires_at=None), Path("/videos/abc.png")),
        (made(URL), URL),
        (made([URL]), URL),
        (made({"video": URL}), URL),
        (made([URL, URL + "?2"]), [URL, URL + "?2"]),
        (made("a text"), "a text"),
        (made({"a": 5}), {"a": 5}),
        (ModelOutput(prediction=made(URL), output=URL, files=[stored()]), URL),
        (ModelOutput(prediction=made([URL, URL]), files=[stored(), stored()]), [URL, URL]),
        (ModelOutput(prediction=made(["a", "b"]), output="ab", text="ab"), "ab"),
        (ModelOutput(prediction=made(URL), output=URL), URL),
        (made(URL, NOW - timedelta(days=9), source="web"), URL),
    ],
)
def test_a_result_stands_for_its_file_or_text(value: Any, meant: Any) -> None:
    assert given(value) == meant
    assert given([value]) == [meant]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (Prediction(id="abc", status="processing"), "is prediction abc, which is processing"),
        (
            made(URL, NOW - timedelta(hours=2)),
            "whose output Replicate has deleted: store its files",
        ),
        (made(None, data_removed=True), "whose output Replicate has deleted"),
        (stored("abc.png", block="s3/x", is_fresh=False), "stored as 'abc.png' in the block s3/x"),
    ],
)
def test_a_result_that_is_gone_is_refused(value: Any, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        given(value)
