"""How a video is fused within a memory budget: pure arithmetic, no store, no torch.

    M stores' frames, as kept -> G group means at store resolution -> a band of label rows

Shape letters: M stores, G groups, C classes, h w store pixels, H W label pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fusion.memory import BudgetError

MOST_FRAMES = 16  # a read of more frames amortises nothing further
READ_AHEAD = 2 << 30  # bytes of a budget of which a quarter is worth reading ahead


@dataclass(frozen=True)
class Plan:
    """Reads and bands of one video; the repr reads source -> intermediate -> target.

    Args:
        source: the stores' shapes.
        frames: read together from every store.
        bands: rows (first, end) of the label map that are fused together.
        bytes: the peak of it all.
        ahead: such reads that are under way, or wait, while one is fused.
        aside: frames that a thread reads and fuses by itself, while others do the same with the
            next; 0 where all threads fuse one frame together.
        remote: bytes that are read ahead from servers, beside what is being read; None where
            nothing is read from any.
    """

    stores: int
    groups: int
    source: str
    size: tuple[int, int]
    outputs: tuple[str, ...]
    frames: int
    bands: tuple[tuple[int, int], ...]
    bytes: int
    ahead: int = 0
    aside: int = 0
    remote: int | None = None

    def __repr__(self) -> str:
        rows = self.bands[0][1] - self.bands[0][0]
        steps = f"{self.stores} stores ({self.source}) -> {self.groups} group means"
        target = f"{'+'.join(self.outputs)} {self.size[0]}x{self.size[1]}"
        sizes = f"{self.frames} frames a read, {rows} rows a band, {self.bytes / 1e6:.0f} MB"
        return f"Plan({steps} -> {target}; {sizes})"


def make_plan(
    frame_shapes: Sequence[tuple[int, int, int]],
    item_bytes: Sequence[int],
    groups: int,
    size: tuple[int, int],
    outputs: Sequence[str],
    memory: int,
    workers: int,
    *,
    mean: str = "arithmetic",
    channels: bool = False,
    held: int = 0,
    beside: int = 0,
    interpolated: int = 0,
    scratch: int = 0,
    threads: int = 1,
    remote: int = 0,
) -> Plan:
    """Largest reads and bands that fit into each worker's share of `memory` bytes.

    Args:
        frame_shapes: [C, h, w] of each of the M stores.
        item_bytes: bytes per number in each.
        groups: G.
        size: (H, W) of the labels.
        outputs: as in `fusion.kernels.softmax_average`.
        memory: bytes of all workers together.
        workers: how many videos are under way at once.
        mean: over groups; a geometric one makes all else from group means.
        channels: whether every class has labels of its own.
        held: bytes of the frames that postprocessing keeps meanwhile.
        beside: bytes of what the caller makes of it meanwhile, such as whole frames: reads and
            bands are smaller for it where they can be, and it is part of the plan's bytes.
        interpolated: maps at label resolution that fusing a row takes.
        scratch: bytes that these take at most, in all threads together.
        threads: that may each fuse frames by themselves, if frames of all of them fit.
        remote: bytes that reading from servers takes at least; a quarter of all is read ahead.

    Raises:
        BudgetError: one frame and one row do not fit; it says what would do.
    """
    (height, width), classes = size, frame_shapes[0][0]
    pairs = zip(frame_shapes, item_bytes, strict=True)
    frame = sum(math.prod(shape) * item for shape, item in pairs)
    # a mean per group and resolution
    means = groups * classes * 4 * sum({h * w for _, h, w in frame_shapes})
    planes = {"group_means": groups * classes, "probabilities": classes}
    planes |= {"labels": classes} if channels else {}
    # twice: beside a row is a temporary of its size
    made = outputs if mean == "arithmetic" else {*outputs, "group_means", "probabilities"}
    row = 2 * sum(planes.get(name, 1) for name in made) * width * 4
    line = interpolated * classes * width * 4
    least = frame + means + row + min(line, scratch) + held + remote
    if least * workers > memory:
        each = f" in each of {workers} workers" if workers > 1 else ""
        others = {"those that postprocessing holds": held, "what servers answer": remote}
        named = [name for name, number in others.items() if number]
        why = f" beside {' and '.join(named)}" if named else ""
        need = f"one frame of {len(frame_shapes)} stores{why} needs {least} bytes{each}"
        least *= workers
        raise BudgetError(f"memory: {memory} bytes given, {need}; give at least {least}", least)
    further = min(min(READ_AHEAD, memory) // workers // 4, memory // workers - beside - least)
    further = max(0, further - remote) if remote else 0
    held += remote + further
    memory = max(memory // workers - beside, least) - held
    room = (memory - frame - means) // 2
    rows = min(height, max(room // (row + line), (room - scratch) // row, 1))
    lines = min(scratch, rows * line)
    frames = min(MOST_FRAMES, (memory - means - rows * row - lines) // (2 * frame))
    frames, ahead = max(1, frames), min(1, max(0, frames))  # the next read beside this one
    bands = tuple((first, min(first + rows, height)) for first in range(0, height, rows))
    source = ", ".join(sorted({f"{c}x{h}x{w}" for c, h, w in frame_shapes}))
    peak = (1 + ahead) * frames * frame + means + rows * row + lines
    one = means + height * row + min(scratch // threads, height * line)  # of a thread, by itself
    aside = 0 if threads == 1 else max(0, min(frames, (memory // threads - one) // frame))
    peak = max(peak, threads * (aside * frame + one)) if aside else peak
    what = source, size, tuple(outputs)
    peak += held + beside
    plan = Plan(len(frame_shapes), groups, *what, frames, bands, peak, ahead, aside)
    return replace(plan, remote=further) if remote else plan


class Budget:
    """What each step may take of the bytes for pixels; the rest is room for copies.

    Args:
        total: bytes of the process.
        workers: how many videos are under way at once.

    Attributes:
        resident: contested pixels that are kept in memory; beyond it they are streamed.
        batch: streamed pixels at a time; beside them are decoded chunks, and counts per thread.
        open_parts: undecided pixels that the parts of a certificate keep.
        flips: label flips along a segment, all threads together.
        block: condensed pixels of a video before they are written.
        condensing: all that becomes of them, which takes a few copies.
        counts: of labels, all threads together.
    """

    def __init__(self, total: int, workers: int = 1) -> None:
        self.resident, self.batch, self.open_parts = total // 2, total // 4, total // 4
        self.flips, self.counts = total // 8, total // 8
        self.block, self.condensing = total // workers // 16, total // workers // 4
