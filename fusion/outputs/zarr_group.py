"""A Zarr group with an array per unit: chunks of a frame, read in part by whoever likes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from fusion import plain
from fusion.errors import InputError, StoreError
from fusion.files import STAGING, publish, refusals, replace, staged, sweep
from fusion.outputs.content import Content, Maps, is_colours
from fusion.outputs.output import PREDICTED, Output, Part
from fusion.outputs.unit import Unit
from fusion.parsing import parse_json

METADATA = "zarr.json"
GROUP = {"zarr_format": 3, "node_type": "group"}


@dataclass(frozen=True)
class ZarrGroup(Output):
    """<out> is a group of Zarr's third format, <out>/<unit> an array: [T, H, W] labels,
    [T, C, H, W] channels or probabilities, [T, H, W, 3] colours; ids of frames and names of classes
    are its attributes.
    """

    name: ClassVar = "zarr"
    about: ClassVar = "<out> a Zarr group, an array a unit"
    keeps: ClassVar = ("labels", "channels", "stored", "colours", "probabilities")
    packed: ClassVar = ("**/*",)
    record: ClassVar = (METADATA, GROUP)
    hidden: ClassVar = False  # zarr would warn of members that are none

    def parts(self, unit: Unit) -> list[Part]:
        if unit.name == METADATA or unit.name.startswith("__"):
            raise InputError(f"zarr: id {unit.name!r} is a name that Zarr keeps; choose other ids")
        return [Part((unit.name,), unit.frames)]

    def look(self, out: Path, content: Content) -> None:
        path = out / METADATA
        with refusals(path, problem="cannot be read"):
            text = plain.content(path, follow=False) if os.path.lexists(path) else None
        with contextlib.suppress(ValueError, KeyError, TypeError):
            if text is None or PREDICTED in parse_json(text)["attributes"]:
                return
        raise StoreError(f"{path}: is no group of predictions, or damaged; choose another folder")

    def is_mine(self, path: Path) -> bool:
        return super().is_mine(path) or os.path.lexists(path / METADATA)

    def write(
        self, out: Path, unit: Unit, parts: Sequence[Part], content: Content, *, overwrite: bool
    ) -> None:
        place = out / unit.name
        sweep(out)  # what a killed process left: nobody else looks after a folder of outputs
        try:
            with refusals(place), staged(out) as folder:
                _fill(folder / "array", unit, content.maps(unit, unit.frames), content)
                if overwrite:
                    replace(folder / "array", place)
                elif not publish(folder / "array", place):
                    raise StoreError(f"{place}: exists; give overwrite= to replace it")
        finally:  # readers of the group would warn of a member that is none
            with contextlib.suppress(OSError):
                (out / STAGING).rmdir()


def _fill(folder: Path, unit: Unit, maps: Maps, content: Content) -> None:
    import zarr
    from zarr.codecs import ZstdCodec

    facts: dict[str, Any] = {"video": unit.video, "content": content.kind}
    facts["classes"] = list(content.names)
    if unit.geometry is not None:
        facts["geometry"] = dict(unit.geometry)
    target: Any = None
    for t, (_, array) in enumerate(maps):
        if target is None:
            axes = ("frame", "class", "y", "x") if array.ndim == 3 else ("frame", "y", "x")
            if is_colours(array, content):
                axes = ("frame", "y", "x", "colour")
            target = zarr.create_array(
                store=str(folder),
                shape=(len(unit.frames), *array.shape),
                dtype=array.dtype,
                chunks=(1, *array.shape),
                compressors=ZstdCodec(level=3, checksum=True),
                fill_value=0,
                dimension_names=axes,
                attributes={"frames": list(unit.frames), PREDICTED: facts},
                config={"write_empty_chunks": True},
            )
        target[t] = array
