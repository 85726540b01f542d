"""What MONAI's SaveImage writes: <name>/<name>_<postfix>.nii.gz, or all in one folder.

    SOURCE/<name>/<name>_trans.nii.gz    [X, Y, Z, C], floats; a picture's Z is 1
    SOURCE/<name>_trans.nii.gz           with separate_folder=False

The postfix is "trans" by default, "seg" and "probabilities" are usual. Arrays of the same names
(.npz, .npy: the classes first, as MONAI computes, or last, as it saves) are taken as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from fusion.errors import InputError
from fusion.geometry import NIFTI, slice_ids
from fusion.stores.importers.arrays import SUFFIXES, load_array
from fusion.stores.importers.folders import checked, ends, listed, stem
from fusion.stores.importers.nifti import holds_floats, volume_frames
from fusion.stores.importers.protocol import Frames, Importer, Source, option

POSTFIXES = ("trans", "seg", "probabilities")
ALL = (*NIFTI, *SUFFIXES)


@dataclass(frozen=True)
class Monai(Importer):
    """The files of MONAI's SaveImage."""

    kind: ClassVar[str] = "monai"
    name: ClassVar[str] = "MONAI's SaveImage files"
    holds: ClassVar[str] = "MONAI's <name>/<name>_trans.nii.gz"

    key: str | None = option(
        "name of the array in files of several (default: the only one, or nnU-Net's)"
    )
    postfix: str | None = option(
        f"SaveImage's output_postfix (default: {', '.join(POSTFIXES)} and any of a separate folder)"
    )

    @staticmethod
    def recognises(path: Path) -> bool:
        found = Monai()._find(path)
        first = found[:1]
        return bool(first) and (ends(first[0].files[0], SUFFIXES) or holds_floats(first))

    def videos(self, path: Path) -> list[Source]:
        return checked(path, self._find(path), self.holds)

    def _find(self, path: Path) -> list[Source]:
        entries = [path] if path.is_file() else listed(path) if path.is_dir() else []
        found = []
        for entry in entries:
            name = self._plain(entry.name, NIFTI, POSTFIXES) if entry.is_file() else None
            if name is not None:
                found.append(Source(name, (entry,), named=False))
            for file in listed(entry) if entry.is_dir() else []:
                # any postfix, except of arrays: <video>/<video>_0001.npy are frames of a video
                for suffixes, known in ((NIFTI, None), (SUFFIXES, POSTFIXES)):
                    if self._plain(file.name, suffixes, known) == entry.name:
                        found.append(Source(entry.name, (file,), named=False))
        return found

    def _plain(
        self, name: str, suffixes: Sequence[str], known: tuple[str, ...] | None
    ) -> str | None:
        """A file's name without postfix; None where it has none of those that are known."""
        if not ends(Path(name), suffixes):
            return None
        known = (self.postfix,) if self.postfix is not None else known
        plain = stem(Path(name), suffixes)
        if known is None:
            return plain.rpartition("_")[0] or None
        return next((plain.removesuffix(f"_{p}") for p in known if plain.endswith(f"_{p}")), None)

    def frames(self, source: Source, classes: Sequence[str]) -> Frames:
        path = source.files[0]
        if not ends(path, SUFFIXES):
            return volume_frames(path, len(classes))
        volume = _classes_first(load_array(path, self.key), len(classes), path)
        return Frames(slice_ids(volume.shape[1]), volume.swapaxes(0, 1))


def _classes_first(array: np.ndarray, classes: int, path: Path) -> np.ndarray:
    """[C, Z, Y, X] of [C, X, Y, Z] or [X, Y, Z, C]; a picture has no Z."""
    first, last = (array.ndim in (3, 4) and array.shape[at] == classes for at in (0, -1))
    if first == last:
        wanted = f"[C, X, Y, Z] or [X, Y, Z, C] with C = {classes} classes"
        problem = "fits both" if first else f"expected {wanted}"
        advice = "say which with kind=arrays and its axes"
        raise InputError(f"{path}: shape {list(array.shape)}, {problem}; {advice}")
    volume = array.transpose(0, *range(array.ndim - 1, 0, -1)) if first else array.T
    return volume[:, None] if volume.ndim == 3 else volume
