"""Pseudo-labels: of every class its most certain pixels, void elsewhere.

    <out>/<unit>/<frame>.png        as png, 255 (65535 of over 255 classes) where not certain
    <out>/pseudo.json               what was kept of each class, and up to which uncertainty

Uncertainty u of a pixel is 1 - confidence, 1 - margin, or entropy / log C, as a float16, 0 .. 1. Of
the n pixels of all the ensemble's videos that are predicted as a class, those with u <= u_q are
kept, u_q the ceil(q n)-th smallest u among them: at least a share q, and all that tie with the
last. Every class has its own u_q, so that a class of which nothing is sure keeps its share too.
Certainty is that of the fused probabilities, which multipliers do not change.

One pass counts: the order of float16 numbers above 0 is that of their bits, so 15361 counts a class
are an exact sort of them. A second pass writes. Source: Zou et al., "Unsupervised Domain Adaptation
for Semantic Segmentation via Class-Balanced Self-Training" (ECCV 2018), section 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fusion import plain
from fusion.ensemble.uncertainty import OF_FUSED, check_exclusive, largest, whole_frames
from fusion.errors import InputError, StoreError
from fusion.files import write_json
from fusion.kernels.numbers import void_label
from fusion.labels import write_labels
from fusion.outputs.content import Content
from fusion.outputs.output import Part, option
from fusion.outputs.png import Png
from fusion.outputs.record import digests, document_digest
from fusion.outputs.unit import Unit, units_of
from fusion.parallel import map_videos
from fusion.parsing import parse_json

FILE = "pseudo.json"
KEEP, BY = 0.8, "confidence"
BINS = int(np.float16(1).view(np.uint16)) + 1
Pixels = Iterator[tuple[str, np.ndarray, np.ndarray]]  # frame id, labels, bins of uncertainty


@dataclass(frozen=True)
class Pseudo(Png):
    """Label PNGs in which only the most certain pixels of every class have a label."""

    name: ClassVar = "pseudo"
    about: ClassVar = "as png: the most certain pixels of every class, void elsewhere"
    keeps: ClassVar = ("labels",)
    packed: ClassVar = ("*.png", "*/*.png", FILE)
    shared: ClassVar = (FILE,)
    makes: ClassVar = "pseudo-label maps"

    keep: float | None = option(
        "--keep", f"share of every class's pixels (default {KEEP})", type=float, metavar="Q"
    )
    by: str | None = option("--by", f"what ranks them (default {BY})", choices=OF_FUSED)
    of: str = ""  # `prepared` fills it in: the digest of all that thresholds come from

    def prepared(self, content: Content, units: Sequence[Unit]) -> Pseudo:
        check_exclusive(content.ensemble, self.name)
        super().prepared(content, units)
        if not 0 < self._share <= 1:  # NaN neither
            raise InputError(f"pseudo: got keep={self.keep}; give a share above 0, at most 1")
        if self._by not in OF_FUSED:
            raise InputError(f"pseudo: got by={self.by!r}; choose of {OF_FUSED}")
        return replace(self, of=document_digest(digests(self, content, units)))

    @property
    def _share(self) -> float:
        return KEEP if self.keep is None else self.keep

    @property
    def _by(self) -> str:
        return BY if self.by is None else self.by

    def start(self, out: Path, content: Content, units: Sequence[Unit], *, overwrite: bool) -> None:
        """The thresholds, over all videos, whichever will be written; known ones are kept."""
        if _limits(out, self.of) is not None:
            return
        counts = dict[int, np.ndarray]()

        def add(_: str, more: dict[int, np.ndarray]) -> None:  # none is kept: they are large
            for c, of_class in more.items():
                counts[c] = counts.get(c, 0) + of_class

        how: dict[str, Any] = {"scheduler": content.scheduler, "take": add}
        map_videos(CountVideo(self, content), content.ensemble.videos, **how)
        rows = [self._row(counts.get(c)) for c in range(len(content.names))]
        body = {
            "keep": self._share,
            "by": self._by,
            "of": self.of,
            "classes": dict(zip(content.names, rows, strict=True)),
        }
        write_json(out / FILE, {**body, "digest": document_digest(body)})

    def _row(self, counts: np.ndarray | None) -> dict[str, Any]:
        if counts is None:
            return {"most": None, "pixels": 0, "kept": 0}
        at = threshold(counts, self._share)
        most = float(np.uint16(at).view(np.float16))
        return {"most": most, "pixels": int(counts.sum()), "kept": int(counts[: at + 1].sum())}

    def write(
        self, out: Path, unit: Unit, parts: Sequence[Part], content: Content, *, overwrite: bool
    ) -> None:
        limits = _limits(out, self.of)
        if limits is None:
            raise StoreError(f"{out / FILE}: was changed meanwhile; run the command again")
        void = void_label(len(content.names))
        limits = np.append(limits, np.full(void + 1 - len(limits), -1, limits.dtype))  # void too
        palette = "vspw" if self.palette is None else self.palette
        frames = [frame for part in parts for frame in part.frames]
        pixels = self.pixels(content, unit, frames)
        for part, (_, labels, bins) in zip(parts, pixels, strict=True):
            kept = np.where(bins <= limits[labels], labels, labels.dtype.type(void))
            write_labels(out / part.files[0], kept, palette=palette, overwrite=overwrite)
            content.sealed(part.files)

    def pixels(self, content: Content, unit: Unit, frames: Sequence[str]) -> Pixels:
        """Labels of frames, and in which bin of uncertainty each pixel is."""
        outputs, classes = ("labels", self._by), len(content.names)
        bands = content.ensemble.stream(unit.video, list(frames), outputs)
        for frame, made in whole_frames(bands, unit.size, outputs):
            yield frame, made["labels"], uncertainty_bins(made[self._by], self._by, classes)


@dataclass(frozen=True)
class CountVideo:
    """The task of one video: int64 [BINS] pixels by uncertainty, of every class that occurs."""

    output: Pseudo
    content: Content

    def __call__(self, video: str) -> dict[int, np.ndarray]:
        (unit,), counts = units_of(self.content.ensemble, [video]), dict[int, np.ndarray]()
        for _, labels, bins in self.output.pixels(self.content, unit, unit.frames):
            count(counts, labels, bins, len(self.content.names))
        return counts


def uncertainty_bins(values: np.ndarray, by: str, classes: int) -> np.ndarray:
    """int32 bins, 0 .. BINS - 1, of a map's values: the bits of float16 uncertainties."""
    u = values / np.float32(largest(by, classes) or 1.0)
    if by != "entropy":
        u = np.float32(1) - u
    bits = np.clip(u, 0, 1).astype(np.float16).view(np.uint16)
    return np.minimum(bits, BINS - 1).astype(np.int32)  # NaN, which void labels have


def count(
    counts: dict[int, np.ndarray], labels: np.ndarray, bins: np.ndarray, classes: int
) -> None:
    """Adds a frame's pixels to the counts by class and bin; void ones are left out."""
    for c in np.unique(labels):
        if c < classes:
            more = np.bincount(bins[labels == c], minlength=BINS)
            counts[int(c)] = counts.get(int(c), 0) + more


def threshold(counts: np.ndarray, share: float) -> int:
    """The bin of the ceil(q n)-th smallest of n numbers that were counted."""
    total = int(counts.sum())
    rank = max(1, math.ceil(share * total - 1e-9 * total))  # 0.1 x 30 is 3, not 4
    return int(np.searchsorted(np.cumsum(counts), rank))


def _limits(out: Path, of: str) -> np.ndarray | None:
    """The last bin that is kept, by class, -1 for none; None where no sound file is of these."""
    path = out / FILE
    try:
        document = parse_json(plain.content(path, follow=False))
        digest = document.pop("digest", None)
        if document.get("of") != of or digest != document_digest(document):
            return None
        most = [row["most"] for row in document["classes"].values()]
        return np.array(
            [-1 if u is None else int(np.float16(u).view(np.uint16)) for u in most], np.int32
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
