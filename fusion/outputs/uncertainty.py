"""Maps of how sure an ensemble is, as 16-bit PNGs that say their scale, or as .npz.

    <out>/uncertainty.json                     what each kind is, and its scale
    <out>/<kind>/<unit>/<frame>.png            value = number / 65535 x maximum
    <out>/<unit>/<frame>.npz                   float32 [H, W] by kind

In a PNG of entropy or disagreement the maximum is log C, else 1; half a step of 65536 is lost. The
same stands in the PNG's own text: kind, maximum and unit.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from fusion import plain
from fusion.ensemble.uncertainty import KINDS, check_kinds, largest, uncertainty_maps
from fusion.errors import InputError
from fusion.files import refusals, replacing, write_bytes, write_json
from fusion.outputs.content import Content
from fusion.outputs.output import Output, Part, option
from fusion.outputs.unit import Unit
from fusion.parsing import parse_json

FORMS = ("png", "npz")
MOST = 65535
SCALES = "uncertainty.json"
MEANING = {
    "entropy": ("nats", "-sum_c F_c log F_c of the fused probabilities F"),
    "margin": ("probability", "largest minus second largest of F"),
    "confidence": ("probability", "largest of F"),
    "disagreement": ("nats", "entropy of the models' weighted mean minus their mean entropy"),
}


@dataclass(frozen=True)
class Uncertainty(Output):
    """A file a frame and kind, or with "npz" a file a frame."""

    name: ClassVar = "uncertainty"
    about: ClassVar = "<out>/<kind>/<unit>/<frame>.png of 16 bits: entropy, disagreement, ..."
    keeps: ClassVar = ("labels",)
    packed: ClassVar = ("**/*.png", "**/*.npz", SCALES)
    shared: ClassVar = (SCALES,)
    makes: ClassVar = "uncertainty maps"

    maps: tuple[str, ...] | None = option(
        "--maps", "kinds (default entropy and disagreement)", choices=KINDS, nargs="+"
    )
    form: str | None = option("--maps-as", "png (default) or npz", choices=FORMS)

    @property
    def kinds(self) -> tuple[str, ...]:
        """In one order, whatever order they were asked in."""
        return tuple(kind for kind in KINDS if kind in (self.maps or ("entropy", "disagreement")))

    def prepared(self, content: Content, units: Sequence[Unit]) -> Uncertainty:
        check_kinds(content.ensemble, list(self.maps or self.kinds))
        super().prepared(content, units)
        if self.form not in (None, *FORMS):
            raise InputError(f"uncertainty: got form={self.form!r}; choose of {FORMS}")
        return replace(self, maps=self.kinds)

    def parts(self, unit: Unit) -> list[Part]:
        if self.form == "npz":
            return [Part((unit.file(frame, ".npz"),), (frame,)) for frame in unit.frames]
        return [
            Part(tuple(f"{kind}/{unit.file(frame, '.png')}" for kind in self.kinds), (frame,))
            for frame in unit.frames
        ]

    def start(self, out: Path, content: Content, units: Sequence[Unit], *, overwrite: bool) -> None:
        kinds = _known(out / SCALES)  # another run may have written other kinds
        for kind in self.kinds:
            unit, what = MEANING[kind]
            kinds[kind] = {"maximum": largest(kind, len(content.names)), "unit": unit, "is": what}
        write_json(out / SCALES, {"png": f"value = number / {MOST} x maximum", "kinds": kinds})

    def write(
        self, out: Path, unit: Unit, parts: Sequence[Part], content: Content, *, overwrite: bool
    ) -> None:
        frames = [frame for part in parts for frame in part.frames]
        maps = uncertainty_maps(content.ensemble, unit.video, frames, self.kinds)
        for part, (_, made) in zip(parts, maps, strict=True):
            if self.form == "npz":
                _write_npz(out / part.files[0], made, overwrite=overwrite)
                content.sealed(part.files)
                continue
            for kind, name in zip(self.kinds, part.files, strict=True):
                picture = sixteen_bits(made[kind], kind, len(content.names))
                write_bytes(out / name, picture, overwrite=overwrite, durable=False)
            content.sealed(part.files)


def _known(path: Path) -> dict[str, Any]:
    """The kinds of a file of scales; none where there is none, or a damaged one."""
    try:
        kinds = parse_json(plain.content(path, follow=False))["kinds"]
        return {kind: kinds[kind] for kind in KINDS if kind in kinds}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def sixteen_bits(values: np.ndarray, kind: str, classes: int) -> bytes:
    """A greyscale PNG of values [H, W], 0 .. the kind's maximum, which its text says."""
    from PIL import Image, PngImagePlugin

    most = largest(kind, classes)
    numbers = np.rint(np.clip(values.astype(np.float64) / most, 0, 1) * MOST).astype(np.uint16)
    text, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
    for key, said in (("kind", kind), ("maximum", repr(most)), ("unit", MEANING[kind][0])):
        text.add_text(f"segfusion.{key}", said)
    Image.fromarray(numbers).save(buffer, format="PNG", pnginfo=text)
    return buffer.getvalue()


def _write_npz(path: Path, arrays: dict[str, np.ndarray], *, overwrite: bool) -> None:
    with (
        refusals(path),
        replacing(path, overwrite=overwrite) as scratch,
        scratch.open("xb") as file,
    ):
        np.savez_compressed(file, **cast("dict[str, Any]", arrays))
