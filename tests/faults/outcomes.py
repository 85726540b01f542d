"""What comes of a damage: the numbers of before, or one error of ours that names the file."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from fusion.errors import FusionError

SECONDS = 30  # after which a reader hangs


@contextlib.contextmanager
def in_time(seconds: float = SECONDS) -> Iterator[None]:
    """AssertionError where the block waits, for a pipe or for ever."""

    def stop(*_: Any) -> None:
        raise AssertionError(f"hangs: not done after {seconds} s")

    assert threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome(read: Callable[[], Any], expected: Any, what: str, place: object) -> str:
    """ "right", or the error's name; AssertionError for everything else.

    Args:
        read: gives what is compared.
        expected: what it gave before.
        what: the damage.
        place: what an error has to name.
    """
    try:
        with in_time():
            found = read()
    except FusionError as error:
        said = str(error)
        assert str(place) in said, f"{what}: not named in {said!r}"
        assert "\n" not in said, f"{what}: more than a line: {said!r}"
        return type(error).__name__
    except Exception as error:
        raise AssertionError(f"{what}: {error!r}") from error
    assert found == expected, f"{what}: other numbers"
    return "right"


def said(kind: str, found: Counter[str]) -> str:
    """A line of a run to the end."""
    counts = ", ".join(f"{count} {name}" for name, count in sorted(found.items()))
    return f"{kind}: {sum(found.values())} damages: {counts}"
