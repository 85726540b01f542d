"""What is left of a search is damaged, and it goes on: the clean run's numbers, or one error."""

from __future__ import annotations

import contextlib
import io
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fusion.errors import FusionError
from tests.faults.damage import damages, restore

SECONDS = 30  # after which a reader hangs


class Hangs(BaseException):
    """What nobody on the way takes for an error of his own."""


@contextlib.contextmanager
def in_time() -> Iterator[None]:
    """`Hangs` inside where it takes too long."""

    def late(*_: object) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def tried(
    place: Path,
    other: Path | None,
    every: int,
    read: Callable[[], Any],
    named: str | None = None,
    mended: str | None = None,
) -> Counter[str]:
    """What comes of every damage to a file or folder: held, refused, mended; all else is wrong.

    Args:
        place: what is damaged. What lies in its folder is as before at every try.
        other: the same of other data.
        every: one byte of so many is flipped.
        read: its numbers.
        named: in every error; default the name of the file.
        mended: said on stderr where something was made again, with numbers that may be others.
    """
    folder = place.parent
    sound = folder.with_name(f"{folder.name}-sound")
    shutil.rmtree(sound, ignore_errors=True)
    shutil.copytree(folder, sound)
    clean, found = read(), Counter[str]()
    restore(folder, sound)
    for what, damage in damages(place, other, every):
        damage()
        said, got, refusal = io.StringIO(), None, None
        try:
            with in_time(), contextlib.redirect_stderr(said):
                got = read()
        except FusionError as error:
            refusal = str(error)
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
        again = mended is not None and mended in said.getvalue()
        if refusal is not None:
            assert (named or place.name) in refusal, what
            assert "\n" not in refusal, what
        else:
            assert again or got == clean, what
        found["refused" if refusal else "mended" if again else "held"] += 1
        restore(folder, sound)
    print(f"{place.name}: {found.total()} tried, {dict(found)}")
    return found
