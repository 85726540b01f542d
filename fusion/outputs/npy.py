"""NumPy arrays, written frame by frame: a clip of any length in the memory of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fusion.files import refusals, replacing
from fusion.outputs.content import Content
from fusion.outputs.output import Output, Part
from fusion.outputs.unit import Unit


@dataclass(frozen=True)
class Npy(Output):
    """<out>/<unit>.npy: [T, H, W] labels, [T, C, H, W] channels or probabilities, [T, H, W, 3]."""

    name: ClassVar = "npy"
    about: ClassVar = "<out>/<unit>.npy, [T, H, W]; channels and probabilities [T, C, H, W]"
    keeps: ClassVar = ("labels", "channels", "stored", "colours", "probabilities")
    packed: ClassVar = ("*.npy",)

    def parts(self, unit: Unit) -> list[Part]:
        return [Part((f"{unit.name}.npy",), unit.frames)]

    def write(
        self, out: Path, unit: Unit, parts: Sequence[Part], content: Content, *, overwrite: bool
    ) -> None:
        path, maps = out / parts[0].files[0], content.maps(unit, unit.frames)
        # plain writes, not a memory map: a full disk is then an error, and no signal that kills
        with (
            refusals(path),
            replacing(path, overwrite=overwrite) as scratch,
            scratch.open("xb") as file,
        ):
            for t, (_, array) in enumerate(maps):
                if t == 0:
                    np.lib.format.write_array_header_1_0(file, _header(array, len(unit.frames)))
                file.write(np.ascontiguousarray(array).data)


def _header(array: np.ndarray, frames: int) -> dict[str, Any]:
    descr = np.lib.format.dtype_to_descr(array.dtype)
    return {"descr": descr, "fortran_order": False, "shape": (frames, *array.shape)}
