"""Ctrl-C and SIGTERM of a command: one line and its exit code, whenever they come.

    starting()    from the first import on: nothing has been begun, so nothing is unwound
    raised()      while a command runs: KeyboardInterrupt, which no destructor swallows
    leave(code)   the end: a process that was stopped waits for its threads, not for ever

Imported first, so it imports next to nothing.
"""

from __future__ import annotations

import _thread
import contextlib
import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any, NoReturn

STOPPED = "what was committed stays, run the same command to go on"
SIGNALS = {signal.SIGINT: "stopped", signal.SIGTERM: "terminated"}
PATIENCE, MOMENT = 5.0, 0.02  # seconds
_came = False


class Interrupt(KeyboardInterrupt):
    """Unwinds a command. code: what its process ends with. text: what it says."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        self.code, self.text = 128 + number, f"{SIGNALS[signal.Signals(number)]}; {STOPPED}"
        super().__init__(self.text)


def starting() -> None:
    """Makes Ctrl-C end this process at once where it is a command of this library."""
    if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _at_once)


def _is_command() -> bool:
    """`python -m fusion...`, or the script `segfusion`: what sys.argv says before main runs."""
    first = sys.argv[0] if sys.argv else ""
    if first == "-m":  # while the module is looked for
        given = sys.orig_argv[1:]
        names = [after for word, after in itertools.pairwise(given) if word == "-m"]
        return names[:1] != [] and names[0].partition(".")[0] == "fusion"
    return os.path.basename(first).removesuffix(".exe") == "segfusion"


def _at_once(number: int, _: object) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"{Interrupt(number).text}\n".encode())
    os._exit(128 + number)


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Within it the signals raise `Interrupt` in the main thread; afterwards all is as it was.

    One that is raised where Python cannot pass it on, in a destructor or a callback, is raised
    again, a moment later: in the hook that hears of it, it would be lost as well. Ctrl-C stays
    ignored where it was, as in jobs of a script.
    """
    main, hook = _thread.get_ident(), sys.unraisablehook
    before = {each: signal.getsignal(each) for each in SIGNALS}

    def passed_on(lost: Any) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            code = getattr(lost.exc_value, "code", 128 + signal.SIGINT)
            _thread.start_new_thread(again, (code - 128,))
        else:
            hook(lost)

    def again(number: int) -> None:
        time.sleep(MOMENT)
        if sys.unraisablehook is not passed_on:
            return
        if sys.platform == "win32":
            _thread.interrupt_main(number)
        else:  # wakes one that waits, too
            signal.pthread_kill(main, number)

    try:
        sys.unraisablehook = passed_on
        for each, handler in before.items():
            if each == signal.SIGTERM or handler is not signal.SIG_IGN:
                signal.signal(each, _raise)
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, signal.SIG_DFL if handler is None else handler)
        sys.unraisablehook = hook


def _raise(number: int, _: object) -> None:
    global _came
    _came = True
    raise Interrupt(number)


def leave(code: int) -> NoReturn:
    """Ends this process, whose command is done or stopped.

    Threads that are at work may finish it and tidy up. An interrupt may have left one that was
    just being started and which Python would wait for for ever: after PATIENCE nobody waits.
    Signals that come now change nothing any more, and print nothing.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, full or none
            stream.flush()
    if _came:
        from threading import Timer

        timer = Timer(PATIENCE, os._exit, [code])
        timer.daemon = True
        timer.start()
    sys.exit(code)
