"""A Hugging Face data set: a folder of `save_to_disk`, or a Dataset (`Labels.from_dataset`).

A row is a mask: an image column of PNGs, or arrays [H, W] or channels [C, H, W]. Without a column
of units each row is a unit of one frame, 00000, 00001, ...; with one, rows of equal units are its
frames in order, by the column of frames or numbered so. The frame of a unit of one row has its id.
Training reads images of the other column of type Image.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from fusion.errors import InputError, StoreError
from fusion.geometry import slice_ids
from fusion.images import Images
from fusion.labels.formats import Stored, as_stored
from fusion.labels.layouts.base import Held, Layout, directory
from fusion.labels.png import Size, decode_png, png_size, reading
from fusion.text import did_you_mean, listed

MARKS = ("dataset_info.json", "dataset_dict.json")
COLUMNS = (
    "label",
    "labels",
    "mask",
    "masks",
    "annotation",
    "segmentation",
    "semantic_segmentation",
)


class HuggingFace(Layout):
    """Masks in a column; read with datasets. Options: column (default: the one that has a name of
    `COLUMNS`), unit_column, frame_column.
    """

    name = "hf"
    holds = "what datasets' save_to_disk wrote"
    marked = splits = True
    takes: ClassVar[tuple[str, ...]] = ("column", "unit_column", "frame_column")

    def __init__(self, root: Path, split: str | None = None, **options: Any) -> None:
        super().__init__(directory(root), split, **options)
        self._take(_loaded(root, split))

    @classmethod
    def recognises(cls, root: Path, split: str | None) -> bool:
        return any((root / mark).is_file() for mark in MARKS)

    @classmethod
    def split_in(cls, root: Path) -> bool:
        return (root / MARKS[1]).is_file()

    @classmethod
    def pictures(cls, root: Path, split: str | None, **options: Any) -> Images:
        """The column of images beside the masks'; InputError: several, or none."""
        features = _loaded(root, split).features
        masks = {*COLUMNS, options.get("column")}
        kinds = {name: type(feature).__name__ for name, feature in features.items()}
        found = [name for name, kind in kinds.items() if kind == "Image" and name not in masks]
        if len(found) != 1:
            got = f"{root} has {len(found)} columns that may be images, of {listed(features)}"
            do = "leave one of type Image (cast_column, remove_columns)"
            raise InputError(f"images: {got}; {do}")
        layout = cls(root, split, **{**options, "column": found[0]})
        part = root / str(split)  # where its files are; splits have rows of the same ids
        return Column(part if part.is_dir() else root, layout=layout)

    def _take(self, dataset: Any) -> None:
        names, column = dataset.column_names, self.options.get("column")
        if column is None:
            found = [name for name in COLUMNS if name in names]
            if len(found) != 1:
                got = f"{len(found)} columns that may be masks, of {listed(names)}"
                raise InputError(f"labels: {self.root} has {got}; say which (column=NAME)")
            column = found[0]
        self.column = column
        wanted = [column, *(self.options.get(key) for key in ("unit_column", "frame_column"))]
        for name in filter(None, wanted):
            if name not in names:
                raise InputError(f"column: got {name!r}{did_you_mean(name, names)}")
        _check_columns(dataset, [name for name in wanted if name], self.root)
        self._index(dataset)
        rows = dataset.select_columns([column])
        self.is_image = type(rows.features[column]).__name__ == "Image"
        if self.is_image:
            from datasets import Image

            self.rows = rows.cast_column(column, Image(decode=False))
        else:
            self.rows = rows.with_format("numpy")

    def _index(self, dataset: Any) -> None:
        """Rows by unit and frame."""
        unit, frame = (self.options.get(key) for key in ("unit_column", "frame_column"))
        owners = [str(u) for u in dataset[unit]] if unit else slice_ids(len(dataset))
        named = [str(f) for f in dataset[frame]] if frame else None
        rows: dict[str, list[int]] = {}
        for row, owner in enumerate(owners):
            rows.setdefault(owner, []).append(row)
        self._rows: dict[str, dict[str, int]] = {}
        for owner, some in rows.items():
            default = [owner] if len(some) == 1 else slice_ids(len(some))
            ids = [named[row] for row in some] if named else default
            if len(set(ids)) != len(ids):
                got = f"unit {owner!r} has {len(ids)} rows, {len(set(ids))} different frames"
                raise InputError(f"labels: {self.root}: {got}; name each frame once")
            self._rows[owner] = dict(zip(ids, some, strict=True))
        self.units = tuple(self._rows)
        if not self.units:
            raise StoreError(f"labels: {self.root} has no row; give a data set with masks")

    def listing(self) -> object:
        return self._rows

    def frames(self, unit: str) -> list[str]:
        return list(self._rows[unit])

    def place(self, unit: str, frame: str) -> Path:
        if frame not in self._rows[unit]:
            raise self.lacks(unit, frame)
        return self.root / f"{self.column}[{self._rows[unit][frame]}]"

    def size(self, unit: str, frame: str) -> Size:
        place, value = self.place(unit, frame), self._value(unit, frame)
        with reading(place):
            return png_size(value) if isinstance(value, bytes) else as_stored(value).size

    def stored(self, unit: str, frame: str, depth: int | None) -> Stored:
        place, value = self.place(unit, frame), self._value(unit, frame)
        with reading(place):
            if not isinstance(value, bytes):
                return as_stored(value)
            array = decode_png(value, depth)
        return Stored("colours" if array.ndim == 3 else "ids", array)

    def content(self, unit: str, frame: str) -> bytes:
        self.place(unit, frame)
        value = self._value(unit, frame)
        if isinstance(value, bytes):
            return value
        return f"{value.dtype.str} {value.shape} ".encode() + value.tobytes()

    def _value(self, unit: str, frame: str) -> bytes | np.ndarray:
        """The bytes of a PNG, or an array."""
        with reading(self.place(unit, frame)):
            try:
                value = self.rows[self._rows[unit][frame]][self.column]
            except Exception as error:  # of datasets and pyarrow
                reason = (str(error) or type(error).__name__).splitlines()[0]
                raise StoreError(f"cannot be read ({reason}); restore it") from error
            if not self.is_image:
                return np.asarray(value)
            if value is None:
                raise StoreError("has no mask; drop the row")
            content = value["bytes"]
            return bytes(content) if content is not None else Path(value["path"]).read_bytes()


@dataclass(frozen=True)
class Column(Images):
    """Pictures in a column. layout: of that column, in the masks' place."""

    layout: HuggingFace = field(kw_only=True)

    def find(self, unit: str, frame: str) -> Path:
        """Names a picture in errors; StoreError: there is none."""
        if unit not in self.layout.units:
            got = f"{self.root} has no unit {unit!r}"
            raise StoreError(f"images: {got}{did_you_mean(unit, self.layout.units)}")
        return self.layout.place(unit, frame)

    def open(self, unit: str, frame: str) -> Path | IO[bytes]:
        value = self.layout._value(unit, frame)
        return io.BytesIO(bytes(value))

    def units(self) -> tuple[str, ...]:
        return self.layout.units

    def frames(self, unit: str) -> list[str]:
        return self.layout.frames(unit)


class HeldDataset(Held, HuggingFace):
    """A Dataset that Python holds; option `dataset`."""

    takes = ("dataset", *HuggingFace.takes)

    def __init__(self, root: Path, split: str | None = None, **options: Any) -> None:
        Layout.__init__(self, root, split, **options)
        dataset = self.options.pop("dataset")
        if not hasattr(dataset, "select_columns") or not hasattr(dataset, "__len__"):
            got = f"got a {type(dataset).__name__}"
            raise InputError(f"labels: {got}; give a datasets.Dataset, one split of it")
        self.fingerprint = str(getattr(dataset, "_fingerprint", ""))
        self._take(dataset)

    def listing(self) -> object:
        return self._rows, self.fingerprint


def _check_columns(dataset: Any, names: list[str], root: Path) -> None:
    """StoreError where lists say that they lie beyond their numbers: Arrow ends the process."""
    try:
        for name in names:
            dataset.data.column(name).validate(full=True)
    except Exception as error:  # of pyarrow
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise StoreError(f"labels: {root} cannot be read ({reason}); restore it") from error


def _loaded(root: Path, split: str | None) -> Any:
    try:
        import datasets
    except ImportError as error:
        do = "pip install datasets"
        raise InputError(f"layout hf needs datasets, which is not installed; {do}") from error
    try:
        found = datasets.load_from_disk(str(root))
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise StoreError(f"labels: {root} cannot be read ({reason}); restore it") from error
    if isinstance(found, datasets.DatasetDict):
        name = split or ("validation" if "validation" in found else "val")
        if name not in found:
            raise InputError(f"labels: {root} has no split {name!r}{did_you_mean(name, found)}")
        return found[name]
    if split is not None:
        raise InputError(f"labels: {root} is one split; leave split={split} out")
    return found
