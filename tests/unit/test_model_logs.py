from __future__ import annotations

import pytest

from prefect_replicate.lifecycle.model_logs import LogTail, percent_done


def test_each_line_comes_once_and_when_it_is_whole() -> None:
    tail = LogTail()

    assert tail.new_lines("one\ntw", is_complete=False) == ["one"]
    assert tail.new_lines("one\ntwo\n", is_complete=False) == ["two"]
    assert tail.new_lines("one\ntwo\n", is_complete=False) == []
    assert tail.new_lines("one\ntwo\nend", is_complete=True) == ["end"]
    assert tail.new_lines("one\ntwo\nend", is_complete=True) == []


def test_a_log_that_is_gone_repeats_nothing_when_it_comes_back() -> None:
    tail = LogTail()
    tail.new_lines("one\ntwo\n", is_complete=False)

    assert tail.new_lines("", is_complete=False) == []
    assert tail.new_lines("one\ntwo\nthree\n", is_complete=False) == ["three"]


@pytest.mark.parametrize(
    ("log", "lines"),
    [
        ("a\r\nb\r\n", ["a", "b"]),
        ("10%\r20%\r30%\n", ["30%"]),
        ("10%\r20%\r", ["20%"]),
        ("a\n\n   \nb\n", ["a", "b"]),
        ("", []),
        ("\n", []),
        ("a\r\r\nb\r\r\n", ["a", "b"]),
        ("loading\rloaded\n", ["loaded"]),
        ("".join(f"\rloss=0.{n}: {n}%|##  |" for n in range(100)) + "\n", ["loss=0.99: 99%|##  |"]),
        ("".join(f"Working… {'━' * n} {n}%\n" for n in range(100)), [f"Working… {'━' * 99} 99%"]),
        ("".join(f"step {n}/2000 ({n / 20}%)\n" for n in range(100)), ["step 99/2000 (4.95%)"]),
        ("".join(f"{n}it [00:{n:02}, {n}.5it/s]\n" for n in range(50)), ["49it [00:49, 49.5it/s]"]),
        ("".join(f"a: {n}%\nb: {n}%\n" for n in range(9)) + "end", ["a: 8%", "b: 8%", "end"]),
        ("1/2 shards: a\n2/2 shards: b\n", ["1/2 shards: a", "2/2 shards: b"]),
    ],
)
def test_lines_end_as_models_end_them(log: str, lines: list[str]) -> None:
    assert LogTail().new_lines(log, is_complete=True) == lines


def bar(step: int, label: str = "") -> str:
    return f"{label}{step:3}%|{'█' * (step // 10):10}| {step}/100 [00:{step:02}<00:12]"


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_of_a_progress_bar_its_last_state_comes_at_each_look(end: str) -> None:
    tail, log = LogTail(), "Using seed: 1\n"

    first = tail.new_lines(log + "".join(bar(n) + end for n in range(40)), is_complete=False)
    last = tail.new_lines(
        log + "".join(bar(n) + end for n in range(101)) + "done", is_complete=True
    )

    assert first == ["Using seed: 1", bar(39)]
    assert last == [bar(100), "done"]


def test_a_line_that_is_written_over_is_told_at_each_look_and_at_its_end() -> None:
    tail = LogTail()

    assert tail.new_lines("10%\r20%\r3", is_complete=False) == ["20%"]
    assert tail.new_lines("10%\r20%\r30%", is_complete=False) == []
    assert tail.new_lines("10%\r20%\r30%\r100%\r", is_complete=False) == ["100%"]
    assert tail.new_lines("10%\r20%\r30%\r100%\rdone\nnext", is_complete=False) == ["done"]
    assert tail.new_lines("10%\r20%\r30%\r100%\rdone\nnext", is_complete=True) == ["next"]


def test_a_line_that_says_the_same_as_the_one_before_is_told_too() -> None:
    tail = LogTail()

    assert tail.new_lines("ready\r", is_complete=False) == ["ready"]
    assert tail.new_lines("ready\n", is_complete=False) == []
    assert tail.new_lines("ready\nready\n", is_complete=False) == ["ready"]


def test_bars_that_follow_one_another_are_told_by_their_labels() -> None:
    log = "\n".join([bar(50, "load: "), bar(100, "load: "), bar(50, "run: "), bar(100, "run: ")])

    assert LogTail().new_lines(log, is_complete=True) == [bar(100, "load: "), bar(100, "run: ")]


@pytest.mark.parametrize(
    ("log", "percent"),
    [
        ("", None),
        ("no number", None),
        (" 40%|████      | 20/50 [00:08<00:12]", 40),
        ("10%\r20%\r30%", 30),
        ("12.5 % done", 12),
        ("100%|██████████| 50/50", 100),
        ("GPU at 250%, 30% done, GPU at 250%", 30),
        ("version 1.2.50%", None),
        ("1000%", None),
    ],
)
def test_the_last_percentage_is_the_progress(log: str, percent: float | None) -> None:
    assert percent_done(log) == percent
