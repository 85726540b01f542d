"""How scores are spread over registers, lanes and warps: chosen beforehand, so that no call tunes.

    spread(classes, ...)      the choice for a launch
    candidates(classes, ...)  the few that are worth a measurement, the choice first

The table is what `python -m benchmarks.machine_code` predicts from compiled machine code: no GPU
has measured it. Few lanes along the classes mean few shuffles, and 4 codes are one word; a
warp's rows should be 16 bytes long at least, 32 with its neighbour. What bounds a choice is the
registers of a lane: its scores, their exponentials, of group means the scores of the groups before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

WARP = 64 if torch.version.hip else 32


@dataclass(frozen=True)
class Room:
    """Scores that a lane may hold: labels of one kind of value; all else; beside group means."""

    labels: int
    more: int
    means: int


ROOMS = {  # architecture, as Triton calls it
    "80": Room(80, 64, 40),
    "90": Room(80, 64, 40),
    "100": Room(80, 64, 40),
    "gfx942": Room(80, 64, 40),
}
UNKNOWN = Room(80, 64, 40)
WARPS = 2  # of a program, along the pixels
MOST_WARPS = 8
# lanes along the classes and pixels of a load, the first that has room
LANES = ((1, 4), (1, 2), (2, 2), (4, 2), (8, 2))
CODE_LANES = ((1, 4), (2, 4), (4, 4), (8, 4), (8, 2))
SCATTERED_LANES = ((1, 1), (2, 1), (4, 1), (8, 1))


@dataclass(frozen=True)
class Spread:
    """Warps and lanes along the classes, and pixels of a load: letters as in lanes.py."""

    WC: int
    W: int
    CL: int
    PV: int
    warp: int = WARP

    @property
    def pixels(self) -> int:
        """Of a program."""
        return self.W * (self.warp // self.CL) * self.PV

    @property
    def warps(self) -> int:
        return self.WC * self.W

    @property
    def letters(self) -> dict[str, int]:
        """Compile-time values of a kernel."""
        lanes = {"CL": self.CL, "PL": self.warp // self.CL, "PV": self.PV}
        return {"WC": self.WC, "W": self.W, **lanes}

    def scores(self, classes: int) -> int:
        """How many a lane holds."""
        return -(-classes // (self.WC * self.CL)) * self.PV


def spread(
    classes: int,
    *,
    codes: bool = False,
    means: bool = False,
    more: bool = False,
    align: int = 16,
    architecture: str = "",
) -> Spread:
    """The choice for a launch over up to 1024 classes.

    Args:
        codes: all models hold gap codes.
        means: group means are wanted.
        more: other outputs than labels are wanted, or several kinds of value are read.
        align: neighbouring pixels in memory, a multiple of which begins every load.
        architecture: a key of ROOMS.
    """
    rooms = ROOMS.get(architecture, UNKNOWN)
    room = rooms.means if means else rooms.more if more else rooms.labels
    lanes: tuple[tuple[int, int], ...] = CODE_LANES if codes and not means else LANES
    lanes = tuple(pair for pair in lanes if align % pair[1] == 0) or SCATTERED_LANES
    fits = [Spread(1, WARPS, cl, pv) for cl, pv in lanes]
    cl, pv = lanes[-1]
    fits += [Spread(wc, max(1, MOST_WARPS // wc), cl, pv) for wc in (2, 4, 8)]
    return next(made for made in fits if made.scores(classes) <= room)


def candidates(classes: int, **launch: bool | int | str) -> list[Spread]:
    """The choice, more warps a program, and half the scores a lane."""
    best = spread(classes, **launch)  # type: ignore[arg-type]
    made = [best]
    if best.WC == 1:
        made += [replace(best, W=w) for w in (4, 8)]
        made += [replace(best, CL=2 * best.CL)] if best.CL < 8 else []
    return made
