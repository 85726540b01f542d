"""One training at a time into a run's folder."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from fusion import files
from fusion.errors import InputError

PATIENCE = 10  # seconds: so long may what reads images for a run that was killed outlive it


def alone(out: Path) -> contextlib.ExitStack:
    """Holds a run's folder until it is left; InputError where another process trains into it."""
    held, last = contextlib.ExitStack(), time.monotonic() + PATIENCE
    with files.refusals(out):
        files.make_folder(out)
        while True:
            try:
                held.enter_context(files.locked(out, wait=False))
                return held
            except BlockingIOError as error:
                if time.monotonic() > last:
                    advice = "wait until it is done, or choose another 'out'"
                    got = f"another process trains into this folder; {advice}"
                    raise InputError(f"{out}: {got}") from error
            time.sleep(0.1)
