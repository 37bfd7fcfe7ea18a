"""Which signals the processes that we start react to."""

from __future__ import annotations

import signal


def pass_on_no_ignored_signal() -> None:
    """Have processes that are started from now on react to every signal in the default way.

    A shell that starts us in the background has SIGINT ignored, and `nohup` SIGHUP, and so would
    whatever we start. A handler, unlike an order to ignore, is not inherited; like it, ours does
    nothing.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)
