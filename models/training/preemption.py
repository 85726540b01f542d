"""Signals that ask a run to make room: it ends its step, saves a checkpoint and stops.

SLURM sends SIGTERM before it kills, and SIGUSR1 ahead of a job's end where ``sbatch
--signal=USR1@120`` asks for it; torchrun passes SIGTERM on to its processes. The exit code is 128 +
the signal's number, 143 and 138, so that a job's script may queue itself again. A second signal
stops at once, as Ctrl-C does, and saves nothing.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from fusion.interrupts import Interrupt
from fusion.models.training.distributed import World, largest

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]
GRACE = 20.0  # seconds; SLURM kills after 30


class Preempted(Interrupt):
    """Unwinds a run that has saved what it had."""

    def __init__(self, number: int, saved: str) -> None:
        super().__init__()
        name = signal.Signals(number).name
        self.code = 128 + number
        self.text = f"stopped by {name}; {saved}, run the same command to go on"
        self.args = (self.text,)


class Notice:
    """Whether such a signal came, to this process or to another of the run."""

    def __init__(self, place: World) -> None:
        self.place, self.number = place, 0

    def here(self) -> bool:
        """To this process; others may not know yet."""
        return bool(self.number)

    def everywhere(self) -> bool:
        """To any; every process asks after the same step and hears the same."""
        self.number = largest(self.number, self.place)
        return bool(self.number)


def deaf(_: int) -> None:
    """Of processes that read images: the run ends them, signals to all of a job's processes do not.

    SIGTERM does, after a while: Python sends it to those that nobody ended, and waits for them.
    """
    for number in (*SIGNALS, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.setitimer(signal.ITIMER_REAL, GRACE))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


@contextlib.contextmanager
def noticed(place: World) -> Iterator[Notice]:
    """Within it the first signal is noted only, unless this is another thread than the main one."""
    notice = Notice(place)
    if threading.current_thread() is not threading.main_thread():
        yield notice
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, frame: Any) -> None:
        notice.number = number
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield notice
    finally:
        restore()
