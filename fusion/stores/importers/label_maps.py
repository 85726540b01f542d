"""Predictions that are labels alone, as votes: <video>/<frame>.png, <image>.png or <case>.nii.gz.

A pixel's label gets probability 1 - smoothing, the other classes share the rest. Such members have
no confidence: their weights count votes. Where votes are equal the lowest class wins, or rounding
decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from fusion.errors import FusionError, InputError
from fusion.geometry import NIFTI, nifti_dtype, read_nifti, slice_ids
from fusion.stores.importers.folders import checked, ends, find, stem
from fusion.stores.importers.pictures import PALETTE, PNG, png_kind, read_picture
from fusion.stores.importers.protocol import Frames, Importer, Known, Source, option
from fusion.text import listed

SUFFIXES = (*PNG, *NIFTI)
SMOOTHING = 1e-3
LOST = (
    "label maps have no confidence: a model's weight counts as votes, and equal votes are decided"
    " by the order of the classes, or by rounding; import probabilities where there are some"
)


@dataclass(frozen=True)
class LabelMaps(Importer):
    """Label maps as one-hot probabilities."""

    kind: ClassVar[str] = "label_maps"
    name: ClassVar[str] = "label maps"
    holds: ClassVar[str] = "label maps <video>/<frame>.png or <case>.nii.gz"

    smoothing: float | None = option(
        f"probability that the classes share that a pixel is not labelled (default {SMOOTHING})",
        type=float,
        metavar="P",
    )

    def __post_init__(self) -> None:
        if self.smoothing is not None and not 0 < self.smoothing < 0.5:
            raise InputError(f"smoothing: got {self.smoothing}; give a number within 0 and 0.5")

    @staticmethod
    def recognises(path: Path) -> bool:
        """Palettes and volumes of integers: a grey PNG may hold probabilities as well."""
        found = find(path, SUFFIXES)
        if not found:
            return False
        first = found[0].files[0]
        try:
            if ends(first, PNG):
                return png_kind(first)[1] == PALETTE
            return nifti_dtype(first).kind in "iu"
        except FusionError:
            return False

    def known(self, path: Path) -> Known:
        return Known("probabilities", warning=LOST)

    def videos(self, path: Path) -> list[Source]:
        return checked(path, find(path, SUFFIXES), self.holds)

    def frames(self, source: Source, classes: Sequence[str]) -> Frames:
        if len(classes) < 2:
            advice = "give a class for the background as well"
            raise InputError(f"{source.files[0]}: label maps of {len(classes)} class; {advice}")
        first = source.files[0]
        if ends(first, NIFTI):
            if source.named:
                problem = f"holds {len(source.files)} volumes"
                raise InputError(f"{first.parent}: {problem}; give <case>.nii.gz in one folder")
            volume, geometry = read_nifti(first)
            if volume.ndim != 3:
                got = f"shape {list(volume.shape[::-1])}, expected [X, Y, Z]"
                raise InputError(f"{first}: {got}; probabilities are imported with kind=nifti")
            votes = (self._votes(labels, len(classes), first) for labels in volume)
            return Frames(slice_ids(len(volume)), votes, geometry)

        def read() -> Iterator[np.ndarray]:
            for file in source.files:
                yield self._votes(read_picture(file, palette=True), len(classes), file)

        ids = [stem(file, PNG) for file in source.files] if source.named else slice_ids(1)
        return Frames(ids, read())

    def _votes(self, labels: np.ndarray, classes: int, file: Path) -> np.ndarray:
        """[C, H, W] float32 probabilities of labels [H, W]."""
        ids = (
            labels.astype(np.int64, casting="unsafe")
            if labels.dtype.kind != "f"
            else _whole(labels)
        )
        outside = (ids < 0) | (ids >= classes)
        if outside.any():
            found = listed((f"{label:g}" for label in np.unique(labels[outside])), 5)
            problem = f"{int(outside.sum())} pixels of {found}, outside 0..{classes - 1}"
            raise InputError(f"{file}: {problem}; predictions have a class at every pixel")
        smoothing = SMOOTHING if self.smoothing is None else self.smoothing
        votes = np.full((classes, *ids.shape), smoothing / (classes - 1), np.float32)
        np.put_along_axis(votes, ids[None], np.float32(1 - smoothing), axis=0)
        return votes


def _whole(labels: np.ndarray) -> np.ndarray:
    """Whole numbers of floats (MONAI saves labels so); -1 for what is none."""
    whole = np.isfinite(labels) & (labels == np.rint(labels)) & (np.abs(labels) < 2**31)
    return np.where(whole, labels, -1).astype(np.int64)
