"""What others say is shown without what would harm a terminal, a page, a log or a state."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect import flow
from scripted_api import ScriptedAPI

from prefect_replicate import create_prediction, get_prediction, wait_for_prediction
from prefect_replicate.exceptions import APIError, ConfigurationError, ReplicateError
from prefect_replicate.text import all_printable, in_line, keep_secret, printable

from .conftest import TOKEN

SECRET = "r8_kept_secret"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]52;c;ZXZpbA==\x07clipboard", "clipboard"),
        ("\x1b]52;c;ZXZpbA==\x1b\\clipboard", "clipboard"),
        ("\x9d52;c;ZXZpbA==\x9cclipboard", "clipboard"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPtmux\x1b\\x", "x"),
        ("\x1bc reset", " reset"),
        ("\x9b2J cleared", " cleared"),
        ("bell\x07 null\x00 back\x08space", "bell null backspace"),
        ("half \ud83d", "half \ufffd"),
        ("\udc00\ud800", "\ufffd\ufffd"),
        ("turned \u202eevil\u202c", "turned evil"),
        ("family \U0001f468\u200d\U0001f469", "family \U0001f468\u200d\U0001f469"),
        ("häßlich – 日本語", "häßlich – 日本語"),
    ],
)
def test_what_a_terminal_would_obey_is_left_out(said: str, shown: str) -> None:
    assert printable(said) == shown


@given(st.text(st.characters(), max_size=60))
def test_whatever_is_said_can_be_sent_and_stands_in_one_line(said: str) -> None:
    line = in_line(said)

    line.encode()
    assert not {"\x1b", "\n"} & set(line)
    assert in_line(line) == line


@given(st.recursive(st.text(st.characters()) | st.integers() | st.none(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_all_texts_of_json_can_be_sent(value: Any) -> None:
    json.dumps(all_printable(value), ensure_ascii=False).encode()


def test_a_token_is_shown_nowhere() -> None:
    keep_secret(SECRET)

    assert in_line(f"HTTP 401 for {SECRET}") == "HTTP 401 for [REDACTED]"
    assert SECRET not in str(ReplicateError(f"it was {SECRET}"))
    assert all_printable({"a": [SECRET]}) == {"a": ["[REDACTED]"]}


@pytest.mark.parametrize("unseen", ["\x1b[0m", "\u200b", "\x00", "\x1b]0;x\x07"])
def test_a_token_with_something_unseen_in_it_is_not_shown_either(unseen: str) -> None:
    keep_secret(SECRET)

    assert in_line(f"for {SECRET[:6]}{unseen}{SECRET[6:]}") == "for [REDACTED]"


def test_a_token_that_is_no_secret_does_not_spoil_words() -> None:
    keep_secret("test")

    assert in_line("the latest") == "the latest"


def test_what_is_long_is_cut() -> None:
    assert len(in_line("x" * 5_000_000)) == 500
    assert len(str(ReplicateError("x" * 5_000_000))) == 2000


HOSTILE = "\x1b]52;c;ZXZpbA==\x07 \ud83d " + "x" * 5000


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422, 500])
@pytest.mark.parametrize(
    "body",
    [
        {"detail": f"no {TOKEN} {HOSTILE}"},
        {"title": f"no {TOKEN} {HOSTILE}"},
        {"detail": [{"loc": [TOKEN], "msg": HOSTILE}]},
        f"no {TOKEN} {HOSTILE[:20]}",
    ],
    ids=["detail", "title", "list", "text"],
)
def test_an_error_of_the_api_is_one_line_that_shows_no_token(
    scripted: ScriptedAPI,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    body: Any,
) -> None:
    monkeypatch.setattr("prefect_replicate.api.connection._RETRY_SECONDS", 0.0)
    body = body.encode("ascii", "ignore").decode() if isinstance(body, str) else body
    scripted.says((status, body))

    with pytest.raises((APIError, ConfigurationError)) as raised:
        get_prediction.fn("abc")

    said = str(raised.value)
    assert TOKEN not in said
    assert "\x1b" not in said
    assert len(said.encode()) < 1000


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("field", ["error", "logs", "model", "status"])
def test_what_a_prediction_says_ends_its_flow_run_in_one_line(
    scripted: ScriptedAPI, caplog: pytest.LogCaptureFixture, field: str
) -> None:
    reply = {"id": "abc", "status": "failed", "error": "no", "logs": "", field: HOSTILE}
    scripted.says(reply if field != "status" else reply | {"status": "failed", "error": HOSTILE})

    @flow
    def generation() -> None:
        wait_for_prediction("abc")

    with caplog.at_level(logging.INFO):
        state = generation(return_state=True)

    assert state.is_failed()
    (state.message or "").encode()
    assert "\x1b" not in (state.message or "") + caplog.text


def test_the_page_of_a_model_that_says_anything_is_an_error_in_one_line(
    scripted: ScriptedAPI,
) -> None:
    scripted.says((404, {"detail": HOSTILE}))

    with pytest.raises(ReplicateError) as raised:
        create_prediction.fn("owner/name", {})

    assert "\x1b" not in str(raised.value)
