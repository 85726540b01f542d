"""COCO panoptic: <name>.json beside the folder <name> of PNGs, or beside the PNGs.

A segment's id is R + 256 G + 65536 B of its pixels, 0 where nothing is; the JSON says its category.
Classes are the categories in the JSON's order, nothing is void; single images are units.
Kirillov et al., "Panoptic Segmentation", CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fusion.errors import InputError, StoreError
from fusion.labels.class_map import ClassMap
from fusion.labels.formats import Stored
from fusion.labels.known_maps import read_json
from fusion.labels.layouts.base import Indexed, directory
from fusion.labels.lookup import Lookup, counted, one_colour
from fusion.labels.png import read_png
from fusion.text import listed

NOTHING = 65535  # of a segment's id 0, as a category: categories are numbered from 0 or 1


class Coco(Indexed):
    """The root is the JSON, or a folder with a single panoptic one in it."""

    name = "coco"
    holds = "panoptic_<split>.json and panoptic_<split>/<image>.png"
    marked = splits = True

    def __init__(self, root: Path, split: str | None = None, **options: Any) -> None:
        self.file_of_segments = _document(root, split)
        folder = self.file_of_segments.with_suffix("")
        folder = folder if folder.is_dir() else folder.parent
        super().__init__(root, split, **options)
        self.folder = folder
        document = read_json(self.file_of_segments)
        try:
            self.class_map = _classes(document["categories"])
            known = {int(value) for (value,) in self.class_map.values}  # type: ignore[arg-type]
            self._segments, names = {}, [each["file_name"] for each in document["annotations"]]
            for name, each in zip(names, document["annotations"], strict=True):
                found = {int(s["id"]): int(s["category_id"]) for s in each["segments_info"]}
                if odd := set(found.values()) - known:
                    raise ValueError(f"category {min(odd)} is none")
                self._segments[Path(name).stem] = found
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            got = f"{self.file_of_segments}: no panoptic annotations ({error!r:.80})"
            raise InputError(f"{got}; give panoptic_<split>.json") from error
        if not names:
            raise StoreError(f"labels: {self.file_of_segments} lists no image; give another file")
        for name in names:
            if Path(name).name != name or not name.endswith(".png"):
                got = f"file_name {name!r} is no name of a PNG in {folder}"
                raise InputError(f"{self.file_of_segments}: {got}; correct it")
        self.index((Path(name).stem, Path(name).stem, name) for name in names)

    @classmethod
    def recognises(cls, root: Path, split: str | None) -> bool:
        if root.is_dir():
            return bool(_documents(root, split))
        if root.suffix != ".json" or not root.is_file():
            return False
        with root.open("rb") as file:  # segments_info is in any of some size
            return b'"segments_info"' in file.read(1 << 26)

    @classmethod
    def images(cls, root: Path, split: str | None) -> Path:
        """<name> of panoptic_<name>.json, beside it or beside the folder that it is in."""
        document = _document(root, split)
        name = document.stem.removeprefix("panoptic_")
        places = [document.parent / name, document.parent.parent / name]
        return directory(next((place for place in places if place.is_dir()), places[1]))

    def file(self, unit: str, frame: str) -> Path:
        path = self._files[unit].get(frame)
        if path is None:
            raise self.lacks(unit, frame, self.folder)
        return self.folder / path

    def stored(self, unit: str, frame: str, depth: int | None) -> Stored:
        path = self.file(unit, frame)
        colours, segments = read_png(path, depth=None).astype(np.uint32), self._segments[unit]
        if colours.ndim == 2:
            raise StoreError(f"labels: {path} is no RGB image of segments; give the panoptic PNG")
        ids = colours[..., 0] | colours[..., 1] << 8 | colours[..., 2] << 16
        codes = Lookup({**segments, 0: NOTHING}, NOTHING - 1, np.uint16)(ids)
        if (outside := codes == NOTHING - 1).any():
            said = listed(f"{n} ({p} pixels)" for n, p in counted(ids[outside]).items())
            where = f"labels: {path} holds segments that {self.file_of_segments.name} lacks: {said}"
            raise StoreError(f"{where}; the two are not of one release")
        return Stored("ids", codes)

    def content(self, unit: str, frame: str) -> bytes:
        segments = repr(sorted(self._segments[unit].items())).encode()
        return self.file(unit, frame).read_bytes() + segments


def _classes(categories: list[Mapping[str, Any]]) -> ClassMap:
    names, ids = [c["name"] for c in categories], [(int(c["id"]),) for c in categories]
    if not all(isinstance(name, str) for name in names):
        raise TypeError("names of categories are text")
    if len(set(names)) != len(names) or not all(0 <= i < NOTHING - 1 for (i,) in ids):
        raise ValueError("names of categories must differ, and their ids be 0..65533")
    given = [c["color"] for c in categories if "color" in c]
    colours = [one_colour(c, "color") for c in given]
    shown: tuple[Any, ...] = tuple(colours) if len(colours) == len(names) else ()
    return ClassMap("classes", tuple(names), tuple(ids), (NOTHING,), palette=shown)


def _documents(root: Path, split: str | None) -> list[Path]:
    """The panoptic files in a folder or its annotations/, of a split if one is named."""
    places = [root, root / "annotations"]
    found = [path for place in places for path in sorted(place.glob("panoptic*.json"))]
    return [path for path in found if split is None or split in path.stem]


def _document(root: Path, split: str | None) -> Path:
    if not root.is_dir():
        if not root.is_file():
            raise StoreError(f"labels: {root} does not exist; give panoptic_<split>.json")
        return root
    found = _documents(root, split)
    if len(found) != 1:
        names = f": {listed(path.name for path in found)}" if found else ""
        got = f"{root} has {len(found)} panoptic*.json{names}"
        raise StoreError(f"labels: {got}; give one of them, or its split")
    return found[0]
