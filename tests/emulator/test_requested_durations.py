import pytest

from prefect_replicate.emulator.durations import parse_lifetime, parse_wait
from prefect_replicate.emulator.timestamps import format_time, parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5), ("30s", 30), ("5m", 300), ("1h", 3600), ("2h30m", 9000), ("1h30m45s", 5445)],
)
def test_cancel_after_is_read_in_every_documented_form(text: str, seconds: float) -> None:
    assert parse_lifetime(text) == seconds


@pytest.mark.parametrize("text", ["", "4s", "soon", "5 minutes", "-30s", "1d", "30m1h"])
def test_other_lifetimes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_lifetime(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("wait", 60), ("wait=1", 1), ("wait=60", 60), ("wait=75", 60), ("wait=0", None), ("", None)],
)
def test_prefer_is_read_as_documented(text: str, seconds: float | None) -> None:
    assert parse_wait(text) == seconds


@pytest.mark.parametrize(
    ("digits", "text"),
    [
        (0, "2024-04-22T11:15:14Z"),
        (3, "2024-04-22T11:15:14.469Z"),
        (6, "2024-04-22T11:15:14.469000Z"),
        (8, "2024-04-22T11:15:14.46900004Z"),
        (9, "2024-04-22T11:15:14.469000004Z"),
    ],
)
def test_times_are_written_and_read_with_any_precision(digits: int, text: str) -> None:
    moment = parse_time("2024-04-22T11:15:14.469Z")

    assert format_time(moment, digits) == text
    assert parse_time(text) == pytest.approx(moment, abs=1 if digits == 0 else 1e-6)


def test_an_offset_survives_an_unquoted_query_string() -> None:
    assert parse_time("2024-04-22T13:15:14 02:00") == parse_time("2024-04-22T11:15:14Z")
