"""A unit: what becomes a file, or a folder of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fusion.errors import InputError
from fusion.geometry import Geometry
from fusion.outputs.names import safe_name

if TYPE_CHECKING:
    from fusion.ensemble import Ensemble

KINDS = {"nifti": "a volume (NIfTI)", "geotiff": "a raster (GeoTIFF)"}


@dataclass(frozen=True)
class Unit:
    """A video, a single image or a 3D case.

    Args:
        video: its id.
        frames: T ids, in the order of the stores.
        size: (H, W) of its maps.
        geometry: where it lies, None where its stores do not say.
        left_out: number of frames that not all stores have.
    """

    video: str
    frames: tuple[str, ...]
    size: tuple[int, int]
    geometry: Geometry | None = field(default=None, hash=False)
    left_out: int = 0

    @property
    def name(self) -> str:
        """The id as a file name; InputError where it cannot be one."""
        return safe_name(self.video)

    def file(self, frame: str, suffix: str) -> str:
        """Of a frame, below a folder: <unit>/<frame>; <unit> of a single image, named as it."""
        if self.frames == (self.video,):
            return self.name + suffix
        return f"{self.name}/{safe_name(frame)}{suffix}"

    @property
    def kind(self) -> str | None:
        """ "nifti" or "geotiff" where its place is known."""
        return None if self.geometry is None else self.geometry["kind"]

    def place(self, kind: str) -> Geometry | None:
        """The geometry for a file of this kind; InputError where it would lose or falsify it."""
        if self.kind not in (None, kind):
            what = f"unit {self.video!r} was {KINDS.get(str(self.kind), self.kind)}"
            raise InputError(f"{what}, whose place {kind} files cannot keep; choose its own format")
        if self.kind == "nifti" and self.left_out:
            what = f"unit {self.video!r}: {self.left_out} slices are not in every store"
            raise InputError(f"{what}, a volume without them would lie elsewhere; complete them")
        return self.geometry


def units_of(ensemble: Ensemble, videos: Sequence[str]) -> list[Unit]:
    """The units of these videos, each once."""
    return [_unit(ensemble, video) for video in dict.fromkeys(videos)]


def _unit(ensemble: Ensemble, video: str) -> Unit:
    frames = tuple(ensemble.frames(video))
    infos = [store.describe(video) for store in ensemble.stores]
    lacking = {frame for info in infos for frame in info.frames} - set(frames)
    known = (getattr(info, "geometry", None) for info in infos)
    geometry = next((each for each in known if each is not None), None)
    return Unit(video, frames, ensemble.size(video), geometry, len(lacking))
