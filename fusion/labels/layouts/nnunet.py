"""An nnU-Net data set: dataset.json, labelsTr and labelsTs, a file a case.

Files end as dataset.json says: .nii.gz (slices are frames), .png or .tif (one frame). Its labels
are the classes by rising id, "ignore" is void; regions give channels. The root is the data set's
folder, with split "Tr" (default) or "Ts", or the folder of the labels inside.
Isensee et al., "nnU-Net", Nature Methods 2021.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fusion.errors import InputError, StoreError
from fusion.labels.formats import FORMATS, Stored
from fusion.labels.known_maps import nnunet_map, read_json
from fusion.labels.layouts.base import Indexed, Layout, directory, masks_in, nothing
from fusion.labels.layouts.nifti import ENDINGS, Nifti
from fusion.labels.png import Size

FILE = "dataset.json"
SPLITS = {"Tr": "labelsTr", "Ts": "labelsTs", "train": "labelsTr", "test": "labelsTs"}


class NnUNet(Layout):
    """Cases of any of nnU-Net's kinds of file."""

    name = "nnunet"
    holds = "dataset.json and labelsTr/<case>.nii.gz"
    marked = splits = True

    def __init__(self, root: Path, split: str | None = None, **options: Any) -> None:
        super().__init__(directory(root), split, **options)
        document = read_json(_document(root))
        if not isinstance(document, dict):
            raise InputError(f"{_document(root)}: holds no object; restore it")
        self.class_map = nnunet_map(document, str(_document(root)))
        self.ending = str(document.get("file_ending", ENDINGS[0]))
        folder = directory(_labels(root, split))
        if self.ending in ENDINGS:
            self.cases: Layout = Nifti(folder)
        elif self.ending in FORMATS:
            self.cases = _Pictures(folder, ending=self.ending)
        else:
            choices = ", ".join([*ENDINGS, *FORMATS])
            got = f"file_ending is {self.ending!r}, which has no reader here"
            raise InputError(f"{_document(root)}: {got}; convert the labels to one of {choices}")
        self.units = self.cases.units

    @classmethod
    def recognises(cls, root: Path, split: str | None) -> bool:
        return root.is_dir() and _document(root).is_file() and _labels(root, split).is_dir()

    @classmethod
    def images(cls, root: Path, split: str | None) -> Path:
        """imagesTr or imagesTs, of pictures <case>_0000.png."""
        labels = _labels(root, split)
        return directory(labels.with_name(labels.name.replace("labels", "images")))

    def listing(self) -> object:
        return self.cases.listing()

    def frames(self, unit: str) -> list[str]:
        return self.cases.frames(unit)

    def place(self, unit: str, frame: str) -> Path:
        return self.cases.place(unit, frame)

    def size(self, unit: str, frame: str) -> Size:
        return self.cases.size(unit, frame)

    def stored(self, unit: str, frame: str, depth: int | None) -> Stored:
        return self.cases.stored(unit, frame, depth)

    def content(self, unit: str, frame: str) -> bytes:
        return self.cases.content(unit, frame)

    def geometry(self, unit: str) -> dict[str, Any] | None:
        return self.cases.geometry(unit)


class _Pictures(Indexed):
    """Files of one ending, each a unit of one frame."""

    name = "nnunet"
    holds = "<case> files"
    takes = ("ending",)

    def __init__(self, root: Path, split: str | None = None, **options: Any) -> None:
        super().__init__(root, split, **options)
        found = masks_in(root, (self.options["ending"],))
        if not found:
            ending = self.options["ending"]
            raise nothing(root, f"<case>{ending}", f"dataset.json says file_ending {ending}")
        self.index((case, case, name) for case, name in found)


def _document(root: Path) -> Path:
    inside = root / FILE
    return root.parent / FILE if root.name in SPLITS.values() and not inside.exists() else inside


def _labels(root: Path, split: str | None) -> Path:
    if root.name in SPLITS.values() and split is None:
        return root
    name = SPLITS.get(split or "Tr", split or "")
    if not name.startswith("labels"):
        raise StoreError(f"labels: {root} has splits Tr and Ts, got {split!r}; choose one of them")
    return (root.parent if root.name in SPLITS.values() else root) / name
