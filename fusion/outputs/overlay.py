"""Pictures with the label maps drawn over them, for people to look at."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from fusion.errors import InputError
from fusion.files import write_bytes
from fusion.outputs.content import Content
from fusion.outputs.drawing import Drawing
from fusion.outputs.names import safe_name
from fusion.outputs.output import Part, option
from fusion.outputs.unit import Unit

QUALITY = 92  # of JPEG files


@dataclass(frozen=True)
class Overlay(Drawing):
    """A picture a frame, named as its label map would be."""

    name: ClassVar = "overlay"
    about: ClassVar = "<out>/<unit>/<frame>.png, classes drawn over the pictures of --overlay"
    packed: ClassVar = ("*.png", "*/*.png", "*.jpg", "*/*.jpg")

    jpeg: bool | None = option("--jpeg", "JPEG files in the place of PNGs", action="store_true")

    def check(self, content: Content, units: Sequence[Unit]) -> None:
        if self.images is None:
            what = "overlay: there are no pictures to draw over"
            raise InputError(f"{what}; give overlay=IMAGES, or choose the format png")
        super().check(content, units)

    def parts(self, unit: Unit) -> list[Part]:
        ending = ".jpg" if self.jpeg else ".png"
        if unit.frames == (unit.video,):
            return [Part((unit.name + ending,), unit.frames)]
        return [Part((f"{unit.name}/{safe_name(f)}{ending}",), (f,)) for f in unit.frames]

    def write(
        self, out: Path, unit: Unit, parts: Sequence[Part], content: Content, *, overwrite: bool
    ) -> None:
        from PIL import Image

        frames = [frame for part in parts for frame in part.frames]
        for part, (_, drawn) in zip(parts, self.pictures(unit, frames, content), strict=True):
            buffer = io.BytesIO()
            image = Image.fromarray(drawn)
            if self.jpeg:  # colours as sharp as light: borders are a pixel wide
                image.save(buffer, format="JPEG", quality=QUALITY, subsampling=0)
            else:
                image.save(buffer, format="PNG")
            picture = buffer.getvalue()
            write_bytes(out / part.files[0], picture, overwrite=overwrite, durable=False)
            content.sealed(part.files)
