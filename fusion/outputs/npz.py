"""Probabilities in nnU-Net's .npz: "probabilities" [C, Z, Y, X], compressed, for whoever reads it.

The class axis comes first and frames second, so frames that come one after the other are not side
by side in the file: they are put in their places in a scratch file, which is then compressed, and
memory is that of a frame whatever the length.
"""

from __future__ import annotations

import contextlib
import io
import math
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np

from fusion.errors import InputError
from fusion.files import STAGING, refusals, replacing, staged, sweep
from fusion.outputs.content import Content, Maps
from fusion.outputs.output import Output, Part, option
from fusion.outputs.unit import Unit

PER, DTYPES = ("unit", "frame"), ("float32", "float16")
KEY = "probabilities"
PIECE = 1 << 20  # bytes that are compressed at a time


@dataclass(frozen=True)
class Npz(Output):
    """<out>/<unit>.npz, or a file a frame with Z = 1; float32 as nnU-Net's, or float16."""

    name: ClassVar = "npz"
    about: ClassVar = "<out>/<unit>.npz of probabilities, nnU-Net's [C, Z, Y, X]"
    keeps: ClassVar = ("probabilities",)
    packed: ClassVar = ("*.npz", "*/*.npz")

    per: str | None = option("--per", "a file a unit (default) or a frame", choices=PER)
    dtype: str | None = option("--dtype", "of its numbers (default float32)", choices=DTYPES)

    def prepared(self, content: Content, units: Sequence[Unit]) -> Npz:
        super().prepared(content, units)
        if self.per not in (None, *PER) or self.dtype not in (None, *DTYPES):
            got = f"got per={self.per!r}, dtype={self.dtype!r}"
            raise InputError(f"npz: {got}; choose of {PER} and of {DTYPES}")
        return self

    def parts(self, unit: Unit) -> list[Part]:
        if self.per != "frame":
            return [Part((f"{unit.name}.npz",), unit.frames)]
        return [Part((unit.file(frame, ".npz"),), (frame,)) for frame in unit.frames]

    def write(
        self, out: Path, unit: Unit, parts: Sequence[Part], content: Content, *, overwrite: bool
    ) -> None:
        maps = content.fused(unit, [frame for part in parts for frame in part.frames])
        dtype = np.dtype(self.dtype or DTYPES[0])
        sweep(out)  # what a killed process left: nobody else looks after a folder of outputs
        try:
            for part in parts:
                path = out / part.files[0]
                with refusals(path), staged(out) as folder:
                    shape = _place(folder / KEY, maps, len(part.frames), dtype)
                    with replacing(path, overwrite=overwrite) as scratch:
                        _compress(folder / KEY, scratch, _header(shape, dtype))
                content.sealed(part.files)
        finally:
            with contextlib.suppress(OSError):
                (out / STAGING).rmdir()


def _place(raw: Path, maps: Maps, frames: int, dtype: np.dtype) -> tuple[int, ...]:
    """Fills a file with the next frames, as [C, Z, Y, X]; its shape."""
    shape: tuple[int, ...] = ()
    with raw.open("xb") as file:
        for z, (_, fused) in enumerate(islice(maps, frames)):
            shape = (len(fused), frames, *fused.shape[1:])
            plane = math.prod(fused.shape[1:]) * dtype.itemsize
            for c, each in enumerate(fused.astype(dtype, copy=False)):
                file.seek((c * frames + z) * plane)
                file.write(np.ascontiguousarray(each).data)
    return shape


def _header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    head = io.BytesIO()
    facts = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, facts)
    return head.getvalue()


def _compress(raw: Path, target: Path, header: bytes) -> None:
    """The .npz of an array's header and bytes, as numpy.savez_compressed writes one."""
    with (
        zipfile.ZipFile(target, "x", zipfile.ZIP_DEFLATED) as archive,
        archive.open(f"{KEY}.npy", "w", force_zip64=True) as member,
        raw.open("rb") as file,
    ):
        member.write(header)
        shutil.copyfileobj(file, member, PIECE)
