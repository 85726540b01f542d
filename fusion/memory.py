"""Memory of a process: what it holds already, and what a budget for all of it leaves for pixels.

A command's --memory is for its whole process, Python and libraries included: they are measured when
the command has loaded them. `memory=` of the API is for pixels alone, on top of whatever else the
caller's process holds.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from fusion.errors import InputError
from fusion.text import say_bytes

LIBRARIES = 300 * 10**6  # where the system does not say what a process holds
ROOM = 32 * 10**6  # stacks of threads, buffers of files, modules that are loaded later
STEADY = 1 << 20  # bytes; what is larger goes back to the system as soon as it is freed
TIGHT = 2 * 10**9  # bytes for pixels below which that is worth its time
ROOMY = 1 << 30  # bytes that may lie unused before any go back to the system
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # of glibc's mallopt


class BudgetError(InputError):
    """A budget in which the smallest step does not fit.

    Attributes:
        least: bytes for pixels that would do.
    """

    def __init__(self, text: str, least: int = 0) -> None:
        super().__init__(text)
        self.least = least


@dataclass(frozen=True)
class Share:
    """A budget of a whole process.

    Args:
        total: bytes that were given.
        taken: of these what Python and libraries take, in all processes together.
    """

    total: int
    taken: int

    @property
    def pixels(self) -> int:
        """Bytes that are left for pixels: at least one, which every plan refuses."""
        return max(1, self.total - self.taken)

    def check(self) -> None:
        """InputError where nothing is left."""
        if self.total <= self.taken:
            raise self.refusal(ROOM, "")

    def refusal(self, least: int, why: str) -> InputError:
        """What to say where so many bytes for pixels are needed."""
        held = f"{say_bytes(self.taken)} are Python and libraries"
        got = f"{say_bytes(self.total)} for the whole process, of which {held}"
        whole = -(-(self.taken + least) // 10**6)
        return InputError(f"memory: {got}; {why}give at least {whole}MB")


def share(total: int, processes: int = 1) -> Share:
    """What a budget for this process, and others that load the same, leaves for pixels.

    Args:
        total: bytes.
        processes: all that run at once.
    """
    made = Share(total, processes * (resident() + ROOM))
    if made.pixels < TIGHT:
        steady()
    return made


def resident() -> int:
    """Bytes of physical memory that this process holds now; its peak where no more is known."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return LIBRARIES
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def steady() -> None:
    """Has glibc give large blocks back as soon as they are freed, for the rest of the process.

    By itself it keeps ever larger ones for the next use, and the peak is then what fragments made
    it. Elsewhere nothing happens.
    """
    _allocate((_M_MMAP_THRESHOLD, STEADY))


def roomy() -> None:
    """Has glibc keep what is freed for the next use, for the rest of the process.

    Training frees and takes the same large blocks in every step; given back and fetched anew, page
    by page, they are half of a step's time on a CPU. Elsewhere nothing happens.
    """
    _allocate((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, ROOMY))


def _allocate(*settings: tuple[int, int]) -> None:
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in musl
    if mallopt is not None:
        for key, value in settings:
            mallopt(key, value)
