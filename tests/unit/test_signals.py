"""A run in the background, or by `nohup`, has signals ignored that what it starts must react to."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from benchmarks.signals import pass_on_no_ignored_signal

SAY_HOW = "import signal, sys; print(signal.getsignal(int(sys.argv[1])).name)"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_what_is_started_reacts_to_signals_that_we_were_told_to_ignore(
    number: signal.Signals,
) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        pass_on_no_ignored_signal()
        said = subprocess.check_output([sys.executable, "-c", SAY_HOW, str(int(number))], text=True)
    finally:
        signal.signal(number, before)

    assert said == "SIG_DFL\n"
