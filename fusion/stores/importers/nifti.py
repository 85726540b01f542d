"""Probability volumes as NIfTI: <case>.nii.gz of floats, [X, Y, Z, C] as the file has it.

A case's frames are its slices along Z. One class needs no fourth axis. Integers are label maps,
which `label_maps` imports, unless the header scales them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from fusion.errors import FusionError, InputError
from fusion.geometry import NIFTI, nifti_dtype, read_nifti, slice_ids
from fusion.stores.importers.folders import checked, find
from fusion.stores.importers.protocol import Frames, Importer, Source


@dataclass(frozen=True)
class Nifti(Importer):
    """NIfTI files of floats, a case a file."""

    kind: ClassVar[str] = "nifti"
    name: ClassVar[str] = "NIfTI volumes"
    holds: ClassVar[str] = "<case>.nii.gz of floats [X,Y,Z,C]"

    @staticmethod
    def recognises(path: Path) -> bool:
        return holds_floats(find(path, NIFTI))

    def videos(self, path: Path) -> list[Source]:
        found = [source for source in find(path, NIFTI) if not source.named]
        return checked(path, found, self.holds)

    def frames(self, source: Source, classes: Sequence[str]) -> Frames:
        return volume_frames(source.files[0], len(classes))


def holds_floats(found: list[Source]) -> bool:
    """Whether the first NIfTI file holds floats; a file that cannot be read may well do."""
    try:
        return bool(found) and nifti_dtype(found[0].files[0]).kind == "f"
    except FusionError:
        return True


def volume_frames(path: Path, classes: int) -> Frames:
    """The slices [C, Y, X] of a file, and where they lie."""
    array, geometry = read_nifti(path)
    if array.ndim == 3:
        array = array[None]
    if array.ndim != 4 or len(array) != classes:
        wanted = f"[X, Y, Z, C] with C = {classes} classes"
        hint = ""
        if array.ndim == 4 and len(array) == 1:
            hint = "; it holds one number a voxel: label maps are imported with kind=label_maps"
        elif array.ndim == 4 and classes in array.shape[1:]:
            hint = "; put the classes last, as in NIfTI's own order"
        raise InputError(f"{path}: shape {list(array.shape[::-1])}, expected {wanted}{hint}")
    if array.dtype.kind != "f":
        advice = "give floats, or import label maps with kind=label_maps"
        raise InputError(f"{path}: holds {array.dtype}, no probabilities; {advice}")
    return Frames(slice_ids(array.shape[1]), array.swapaxes(0, 1), geometry)
