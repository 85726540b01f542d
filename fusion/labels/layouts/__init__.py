"""How data sets lay out their units: a class per layout, under the name that `Labels` keeps.

    folder      <root>/<video>/<frame>.png              ids as stored
    flat        <root>/<image>.png                      single images
    glob        what a pattern of {unit} and {frame} matches
    vspw        <root>/data/<video>/mask/<frame>.png    124 classes, videos listed in <split>.txt
    cityscapes  <root>/gtFine/<split>/<city>/..._gtFine_labelIds.png
    voc         <root>/SegmentationClass/<image>.png    listed in ImageSets/Segmentation
    ade20k      <root>/annotations/<split>/<image>.png  150 classes, 0 is void
    nnunet      <root>/dataset.json, labelsTr/          classes and void as dataset.json says
    coco        panoptic_<split>.json and its PNGs
    csv         columns mask, image, unit, frame
    nifti       <root>/<case>.nii.gz                    slices are frames
    geotiff     <root>/<image>.tif                      single rasters
    zarr        an array a unit, or one of single images
    hf          a column of a Hugging Face data set

In memory: `Labels.from_arrays`, `Labels.from_dataset`. A new layout is a class in a file of its own
and its line here; its tests are `LayoutContract`'s.
"""

from __future__ import annotations

from pathlib import Path

from fusion.errors import InputError, StoreError
from fusion.labels.layouts.ade20k import Ade20k
from fusion.labels.layouts.base import Layout
from fusion.labels.layouts.cityscapes import Cityscapes
from fusion.labels.layouts.coco import Coco
from fusion.labels.layouts.flat import Flat
from fusion.labels.layouts.folder import Folder
from fusion.labels.layouts.geotiff import GeoTiff
from fusion.labels.layouts.hf import HuggingFace
from fusion.labels.layouts.nifti import Nifti
from fusion.labels.layouts.nnunet import NnUNet
from fusion.labels.layouts.pattern import Pattern
from fusion.labels.layouts.table import Table
from fusion.labels.layouts.voc import Voc
from fusion.labels.layouts.vspw import Vspw
from fusion.labels.layouts.zarr_arrays import ZarrArrays
from fusion.labels.png import reading
from fusion.text import did_you_mean, listed

__all__ = ["AUTO", "LAYOUTS", "Layout", "open_layout", "recognised"]

AUTO = "auto"  # whichever recognises a place
LAYOUTS: dict[str, type[Layout]] = {
    kind.name: kind
    for kind in (
        *(Folder, Flat, Pattern, Vspw, Cityscapes, Voc, Ade20k, NnUNet, Coco, Table),
        *(Nifti, GeoTiff, ZarrArrays, HuggingFace),
    )
}


def open_layout(name: str, root: Path, split: str | None = None, **options: object) -> Layout:
    """The layout of a data set; splits of layouts without own ones are subfolders of their names.

    Args:
        name: in `LAYOUTS`, or "auto".
        root: where the data set lies.
        split: which part of it.
        options: of the layout; None stands for not given.

    Raises:
        InputError: no such layout, several recognise the place, or none does.
        StoreError: as the layout's own.
    """
    if name != AUTO and name not in LAYOUTS:
        raise InputError(f"layout: got {name!r}{did_you_mean(name, LAYOUTS)}")
    with reading(root):
        if name == AUTO:
            name = Pattern.name if options.get("pattern") else recognised(root, split)
        kind = LAYOUTS[name]
        if split is not None and not kind.splits:
            return kind(subfolder(root, split), None, **options)
        return kind(root, split, **options)


def subfolder(root: Path, split: str) -> Path:
    """The folder of a split. StoreError: there is none."""
    if (root / split).is_dir():
        return root / split
    if root.name == split:
        return root
    raise StoreError(
        f"labels: {root} has no folder {split!r}; leave split={split} out or correct it"
    )


def recognised(root: Path, split: str | None = None) -> str:
    """The name of the layout of a place. InputError: none, or several."""
    if not root.exists():
        beside = [entry.name for entry in root.parent.iterdir()] if root.parent.is_dir() else []
        raise StoreError(f"labels: {root} does not exist{did_you_mean(root.name, beside)}")
    inside = root / split if split and (root / split).is_dir() else root
    found = [
        kind for kind in LAYOUTS.values() if kind.recognises(root if kind.splits else inside, split)
    ]
    marked = [kind for kind in found if kind.marked]
    found = marked or found
    if not found and split:  # a layout whose splits are others says so better than none
        found = [kind for kind in LAYOUTS.values() if kind.splits and kind.recognises(root, None)]
    if len(found) == 1:
        return found[0].name
    if found:
        said = listed(f"{kind.name} ({kind.holds})" for kind in found)
        raise InputError(f"labels: {root} may be {said}; say which (layout=NAME)")
    wanted = "; ".join(f"{kind.name}: {kind.holds}" for kind in LAYOUTS.values())
    do = "say which (layout=NAME), or give a pattern (pattern={unit}/{frame}_mask.png)"
    raise InputError(f"labels: {root} is of no known layout; {do}; looked for {wanted}")
