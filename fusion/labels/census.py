"""What labels hold: one line, and warnings where scores on them would mislead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fusion.kernels.numbers import void_label
from fusion.labels.labels import Labels
from fusion.labels.lookup import Value, pack
from fusion.parallel import map_videos
from fusion.text import listed, percent

SHOWN = 5  # names or values in one warning
LOUD = 0.01  # of all pixels, in no class: more is no slip of a brush


@dataclass(frozen=True)
class Census:
    """Pixel counts of the labels that scores come from; costs nothing, since scoring counted them.

    Args:
        videos: how many were scored.
        frames: how many labelled frames they have.
        pixels: of all these frames, void ones included.
        class_pixels: those of each class, [C]: the row sums of a confusion matrix.
        classes: the C names.
        outside: pixels by stored value that were no label and were read as void.
        stride: s where only every s-th row and column of `pixels` was counted, but all `outside`.
    """

    videos: int
    frames: int
    pixels: int
    class_pixels: Sequence[int] | NDArray[np.int64]
    classes: Sequence[str]
    outside: Mapping[Value, int] = field(default_factory=dict)
    stride: int = 1

    @property
    def void_fraction(self) -> float:
        """Void pixels among all; nan where there is no pixel."""
        return 1 - int(sum(self.class_pixels)) / self.pixels if self.pixels else float("nan")

    @property
    def present(self) -> list[str]:
        """Names of the classes that have pixels."""
        return [n for n, p in zip(self.classes, self.class_pixels, strict=True) if p]

    def line(self) -> str:
        found = f"{len(self.present)} of {len(self.classes)} classes occur"
        amount = f"{self.videos:,} videos, {self.frames:,} frames, {self.pixels:,} pixels"
        return f"labels: {amount}: {found}, {percent(self.void_fraction)} % void"

    def warnings(self) -> list[str]:
        """What makes scores on these labels doubtful, a line each."""
        void, void_share = void_label(len(self.classes)), self.void_fraction
        found, doubts, present = [], [], self.present
        if absent := [name for name in self.classes if name not in present]:
            of_all = f"{len(absent)} of {len(self.classes)} classes never occur"
            found.append(f"{of_all}: {listed(absent, SHOWN)}; no score can tell how they do")
        if void_share > 0.5:
            doubts.append(f"{percent(void_share)} % of the pixels are void and never count")
        if len(present) == 1 < len(self.classes):
            alone = f"every pixel that is not void is {present[0]!r}"
            doubts.append(f"{alone}, so predicting it everywhere scores 100 %")
        if doubts and void_share:
            doubts.append(f"{void} is void: masks of 0 and {void} need another foreground value")
        if doubts:
            found.append("; ".join(doubts))
        if self.outside:
            most = sorted(self.outside.items(), key=lambda item: (-item[1], pack(item[0])))
            values = listed((f"{value} ({pixels:,} pixels)" for value, pixels in most), SHOWN)
            loud, every = "", self.pixels * self.stride**2
            share = sum(self.outside.values()) / every if every else 1.0
            if share > LOUD:
                wrong = "the labels may need a class map (--label-map), and scores are of the rest"
                loud = f"{percent(share)} % OF ALL PIXELS ARE IN NO CLASS: {wrong}; "
            found.append(f"{loud}values outside the classes were read as void: {values}")
        return [f"warning: labels: {text}" for text in found]

    def text(self) -> str:
        """The line and the warnings below it."""
        return "\n".join([self.line(), *self.warnings()])


def outside_values(truth: Labels, videos: Sequence[str], classes: int) -> dict[Value, int]:
    """Pixels by stored value that `truth` reads as void though the value is not; reads every file.

    Nothing is read, and nothing found, where such values are errors.
    """

    def count(video: str) -> Counter[Value]:
        found = Counter[Value]()
        for frame in truth.frames(video):
            found.update(truth.strays(video, frame, classes))
        return found

    if truth.stray != "void":
        return {}
    counts = map_videos(count, videos, progress="counting values outside the classes")
    return dict(sum(counts.values(), Counter()))
