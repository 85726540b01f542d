"""What nnU-Net writes with --save_probabilities (version 2) or --save_npz (version 1).

SOURCE/<case>.npz          "probabilities" (version 1: "softmax") [C, Z, Y, X]; a picture's Z is 1
SOURCE/<case>.pkl          properties: spacing, affine, where the case was cropped
SOURCE/<case>.nii.gz       the labels it decided on; geometry where there is no .pkl
SOURCE/dataset.json        class names, or regions (sigmoid); here or above

SOURCE may be such a folder, a fold's folder, or a trained configuration with its
fold_X/validation, whose cases together are the training set, each predicted by the fold that had
not seen it.

Version 2 puts crops back and turns axes back before it saves, version 1 left crops as they were.
Early releases of version 2 put zeros around them for all classes alike. Here what lies outside the
crop is background, as later releases have it: probability 1 of class 0, and 0 of every region.
Source: nnunetv2/inference/export_prediction.py, utilities/label_handling, imageio.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from fusion.errors import InputError
from fusion.geometry import NIFTI, nifti_geometry, nifti_shape, orientation, placed, slice_ids
from fusion.parsing import parse_json
from fusion.stores.importers.arrays import load_array
from fusion.stores.importers.folders import checked, files_in, listed, stem
from fusion.stores.importers.pickles import read_plain
from fusion.stores.importers.protocol import Frames, Importer, Known, Source, option, refusal
from fusion.text import listed as say

VALIDATION, FOLD = "validation", "fold_"
FARTHEST = 1e12  # mm, of anything in an affine
ADVICE = "restore what nnU-Net wrote, or remove it: the geometry is then that of the .nii.gz"


class _Crop(NamedTuple):
    """Where a case lies in its image, in the order that nnU-Net works in."""

    shape: tuple[int, ...]
    box: tuple[tuple[int, int], ...]

    def turned(self, back: Sequence[int]) -> _Crop:
        return _Crop(tuple(self.shape[a] for a in back), tuple(self.box[a] for a in back))

    @property
    def sides(self) -> tuple[int, ...]:
        return tuple(end - start for start, end in self.box)


@dataclass(frozen=True)
class NnUnet(Importer):
    """nnU-Net's probabilities."""

    kind: ClassVar[str] = "nnunet"
    name: ClassVar[str] = "nnU-Net cases"
    holds: ClassVar[str] = "nnU-Net's <case>.npz with <case>.pkl or dataset.json"

    key: str | None = option(
        "name of the array in files of several (default: the only one, or nnU-Net's)"
    )

    @staticmethod
    def recognises(path: Path) -> bool:
        cases = _cases(path)
        if not cases:  # configurations side by side: `videos` says so
            return any(_of_folds(case) for case in _below(path))
        case = cases[0]
        beside = case.with_suffix(".pkl").is_file() or _nifti_of(case) is not None
        known = beside or _of_folds(case) or _document(case, "dataset.json") is not None
        return known

    def known(self, path: Path) -> Known:
        cases = _cases(path)
        document = _document(cases[0], "dataset.json") if cases else None
        if document is None:
            return Known("probabilities")
        return _read_labels(document)

    def videos(self, path: Path) -> list[Source]:
        cases = _cases(path)
        if not cases:
            raise _no_cases(path, self.holds)
        return checked(
            path, [Source(case.stem, (case,), named=False) for case in cases], self.holds
        )

    def frames(self, source: Source, classes: Sequence[str]) -> Frames:
        path = source.files[0]
        array = load_array(path, self.key, alone=False)
        if array.ndim == 3:
            array = array[:, None]
        if array.ndim != 4 or len(array) != len(classes):
            wanted = f"[C, Z, Y, X] with C = {len(classes)} classes"
            raise InputError(f"{path}: shape {list(array.shape)}, expected {wanted}")
        pickle = path.with_suffix(".pkl")
        properties = read_plain(pickle, ADVICE) if pickle.is_file() else {}
        if not isinstance(properties, dict):
            raise InputError(f"{pickle}: holds no properties of a case; {ADVICE}")
        volume = _Volume(array, _uncrop(path, array, properties), self._background(path))
        return _in_the_files_order(path, volume, properties)

    def _background(self, path: Path) -> bool:
        """Whether class 0 is what lies outside a crop: not where the channels are regions."""
        document = _document(path, "dataset.json")
        return document is None or _read_labels(document).values == "probabilities"


class _Volume:
    """A case's slices [C, Y, X], with background around what was cropped.

    Args:
        array: [C, Z, Y, X] as saved.
        crop: the shape of the image, and where the array lies in it; None: it is all of it.
        background: whether class 0 is what lies outside.
    """

    def __init__(self, array: np.ndarray, crop: _Crop | None, background: bool) -> None:
        shape = array.shape[1:]
        self.array, self.background = array, background
        self.crop = crop or _Crop(shape, tuple((0, side) for side in shape))
        self.whole = shape == self.crop.shape  # zeros outside the crop, where there is one

    def __len__(self) -> int:
        return self.crop.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        (_, height, width), (deep, tall, wide) = self.crop.shape, self.crop.box
        inside = (slice(None), slice(*tall), slice(*wide))
        for z in range(len(self)):
            frame = np.zeros((len(self.array), height, width), self.array.dtype)
            if self.background:
                frame[0] = 1
            if deep[0] <= z < deep[1]:
                saved = self.array[:, z if self.whole else z - deep[0]]
                frame[inside] = saved[inside] if self.whole else saved
            yield frame


def _cases(path: Path) -> list[Path]:
    """The .npz files of a folder, of its validation, or of all its folds; or the one given."""
    if not path.is_dir():
        return [path] if path.is_file() and path.suffix == ".npz" else []
    for folder in (path, path / VALIDATION):
        if folder.is_dir() and (found := files_in(folder, (".npz",))):
            return list(found)
    folds = [entry for entry in listed(path) if entry.is_dir() and entry.name.startswith(FOLD)]
    found_in = [
        files_in(folder, (".npz",))
        for fold in folds
        for folder in (fold / VALIDATION, fold)
        if folder.is_dir()
    ]
    return [case for cases in found_in for case in cases]


def _of_folds(case: Path) -> bool:
    """Whether a file lies where nnU-Net puts the cases that it validates on."""
    return case.parent.name == VALIDATION or case.parent.name.startswith(FOLD)


def _below(path: Path) -> list[Path]:
    """The first case of each subfolder that has some."""
    entries = listed(path) if path.is_dir() else []
    return [cases[0] for entry in entries if entry.is_dir() and (cases := _cases(entry))]


def _no_cases(path: Path, holds: str) -> InputError:
    """What is there instead: trained configurations side by side, or nothing of nnU-Net's."""
    trained = [case.relative_to(path).parts[0] for case in _below(path)]
    if not trained:
        return refusal(path, holds)
    problem = f"holds {len(trained)} folders of cases ({say(trained, 3)})"
    return InputError(f"{path}: {problem}; give one of them, or each=True for a store of each")


def _document(case: Path, name: str) -> Path | None:
    """A configuration's file: beside the cases, or up to two folders above."""
    found = (folder / name for folder in list(case.parents)[:3])
    return next((path for path in found if path.is_file()), None)


def _nifti_of(case: Path) -> Path | None:
    paths = (case.with_name(stem(case, (".npz",)) + suffix) for suffix in NIFTI)
    return next((path for path in paths if path.is_file()), None)


def _read_labels(path: Path) -> Known:
    """Class names of a dataset.json by their labels, or names of its regions in their order."""
    document = _read_json(path)
    try:
        labels = dict(document["labels"])
        if labels and all(str(name).isdigit() for name in labels):  # version 1: number to name
            labels = {str(name): int(number) for number, name in labels.items()}
        labels.pop("ignore", None)
        lists = [value for value in labels.values() if isinstance(value, list)]
        if any(len(value) > 1 for value in lists):
            background = ([0], 0)
            return Known(
                "sigmoid-probabilities",
                tuple(name for name, value in labels.items() if value not in background),
            )
        flat = {
            name: int(value[0] if isinstance(value, list) else value)
            for name, value in labels.items()
        }
        names = sorted(flat, key=lambda name: flat[name])
        if not names or [flat[name] for name in names] != list(range(len(names))):
            raise ValueError("labels are not 0 to C-1")
    except (TypeError, ValueError, AttributeError, LookupError, OverflowError) as error:
        problem = f"its labels cannot be read ({error!r})"
        raise InputError(f"{path}: {problem}; restore the file or remove it") from error
    return Known("probabilities", tuple(names))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = parse_json(path.read_bytes())
        if not isinstance(document, dict):
            raise ValueError("no object")
        return document
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable JSON ({error}); restore or remove it") from error


def _uncrop(path: Path, array: np.ndarray, properties: dict[str, Any]) -> _Crop | None:
    """Where the array lies in its image, in the order of its own axes."""
    second = "shape_before_cropping" in properties
    names = (
        ("shape_before_cropping", "bbox_used_for_cropping")
        if second
        else ("original_size_of_raw_data", "crop_bbox")
    )
    shape, box = (properties.get(name) for name in names)
    if shape is None or box is None:
        return None
    pickle = path.with_suffix(".pkl")
    try:
        sides = tuple(int(side) for side in shape)
        crop = _Crop(sides, tuple((int(start), int(end)) for start, end in box))
        sound = all(0 <= a < b <= n for n, (a, b) in zip(sides, crop.box, strict=True))
    except (TypeError, ValueError, OverflowError):
        sound = False
    if not sound or len(sides) != 3:
        got = f"says shape {shape!r:.60}, crop {box!r:.60}"
        raise InputError(f"{pickle}: {got}; {ADVICE}")
    there = array.shape[1:]
    turned = crop.turned(_transpose_backward(path)) if second else crop
    if there in (turned.shape, turned.sides):
        return turned
    got = f"array of {list(there)}, its .pkl says {list(turned.shape)}, cropped to"
    raise InputError(f"{path}: {got} {list(turned.sides)}; restore plans.json and .pkl beside it")


def _transpose_backward(path: Path) -> tuple[int, ...]:
    """The file's order of axes from nnU-Net's own, by plans.json; as they are without one."""
    plans = _document(path, "plans.json")
    back = _read_json(plans).get("transpose_backward") if plans else None
    if back is None:
        return (0, 1, 2)
    if back not in [list(order) for order in permutations(range(3))]:
        raise InputError(f"{plans}: transpose_backward is {back!r:.60}; restore the file")
    return tuple(back)


def _in_the_files_order(path: Path, volume: _Volume, properties: dict[str, Any]) -> Frames:
    """Frames and geometry in the order of the image's file.

    `NibabelIOWithReorient` works on axes turned to right, front, up; the image's file has others.
    """
    ids = slice_ids(len(volume))
    try:
        if "nibabel_stuff" in properties:
            stuff = properties["nibabel_stuff"]
            affine = _affine(stuff["original_affine"])
            if "reoriented_affine" in stuff:
                clip = np.stack(list(volume), axis=1)
                clip = _turn_back(clip, affine)
                return Frames(slice_ids(clip.shape[1]), clip.swapaxes(0, 1), placed(affine))
            return Frames(ids, volume, placed(affine))
        if "sitk_stuff" in properties or "itk_spacing" in properties:
            stuff = properties.get("sitk_stuff") or {
                name: properties[f"itk_{name}"] for name in ("spacing", "origin", "direction")
            }
            place = _itk_affine(stuff["spacing"], stuff["origin"], stuff["direction"])
            return Frames(ids, volume, None if place is None else placed(place))
    except (KeyError, TypeError, ValueError) as error:
        problem = f"its geometry cannot be read ({error!r:.80})"
        raise InputError(f"{path.with_suffix('.pkl')}: {problem}; {ADVICE}") from error
    labels = _nifti_of(path)
    if labels is None:
        return Frames(ids, volume)
    if nifti_shape(labels) != volume.crop.shape:
        got = f"probabilities of {list(volume.crop.shape)}, {labels.name} of"
        advice = "restore the .pkl that nnU-Net wrote"
        raise InputError(f"{path}: {got} {list(nifti_shape(labels))} [Z, Y, X]; {advice}")
    return Frames(ids, volume, nifti_geometry(labels))


def _affine(numbers: Any) -> np.ndarray:
    affine = np.asarray(numbers, np.float64)
    if affine.shape != (4, 4) or not (np.abs(affine) <= FARTHEST).all():
        raise ValueError(f"affine of shape {affine.shape}")
    return affine


def _itk_affine(spacing: Any, origin: Any, direction: Any) -> np.ndarray | None:
    """NIfTI's affine (to the right, the front, up) of ITK's (left, back, up); None for pictures."""
    if len(spacing) != 3:
        return None
    turn = np.asarray(direction, np.float64).reshape(3, 3)
    affine = np.eye(4)
    with np.errstate(all="ignore"):  # what is no number then is refused below
        affine[:3, :3] = turn * np.asarray(spacing, np.float64)
        affine[:3, 3] = np.asarray(origin, np.float64)
        turned = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    return _affine(turned)


def _turn_back(clip: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """[C, Z, Y, X] of axes to right, front, up, in the order and directions of a file's affine."""
    axes, signs = orientation(affine)
    volume = clip.transpose(0, 3, 2, 1).transpose(0, *(axis + 1 for axis in axes))
    flips = (slice(None, None, sign) for sign in signs)
    return volume[(slice(None), *flips)].transpose(0, 3, 2, 1)
