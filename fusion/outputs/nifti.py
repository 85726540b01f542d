"""NIfTI volumes under the affine that their case came with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from fusion.geometry import write_nifti
from fusion.outputs.content import Content
from fusion.outputs.output import Output, Part
from fusion.outputs.unit import Unit


@dataclass(frozen=True)
class Nifti(Output):
    """<out>/<unit>.nii.gz: frames are slices, [Z, Y, X]; a fourth axis of channels or classes. A
    volume is put together in memory.
    """

    name: ClassVar = "nifti"
    about: ClassVar = "<out>/<unit>.nii.gz, a volume under its affine; channels as fourth axis"
    keeps: ClassVar = ("labels", "channels", "stored", "probabilities")
    packed: ClassVar = ("*.nii.gz",)

    def prepared(self, content: Content, units: Sequence[Unit]) -> Nifti:
        super().prepared(content, units)
        for unit in units:
            unit.place("nifti")
        return self

    def parts(self, unit: Unit) -> list[Part]:
        return [Part((f"{unit.name}.nii.gz",), unit.frames)]

    def write(
        self, out: Path, unit: Unit, parts: Sequence[Part], content: Content, *, overwrite: bool
    ) -> None:
        path, maps = out / parts[0].files[0], content.maps(unit, unit.frames)
        whole = self.volume(maps, content, len(unit.frames))
        write_nifti(path, whole, unit.place("nifti"), overwrite=overwrite)
