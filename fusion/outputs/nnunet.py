"""nnU-Net's folder of predictions, as nnUNetv2_predict leaves one.

    <out>/dataset.json                 labels, regions_class_order, file_ending
    <out>/plans.json                   only where one lies beside the dataset.json that was given
    <out>/<case>.nii.gz or .png        label map
    <out>/<case>.npz, <case>.pkl       with probabilities: "probabilities" float32 [C, Z, Y, X], and
                                       where the case lies, plain lists and numbers

nnUNetv2_ensemble and nnUNetv2_evaluate_folder go on from there; both want plans.json as well.
nnU-Net calls class 0 "background" and decides by argmax, or 0.5 for regions: class multipliers and
thresholds are in our label maps, not in what it makes of the probabilities.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fusion import plain
from fusion.errors import InputError, StoreError
from fusion.files import refusals, replacing, write_bytes
from fusion.geometry import write_nifti
from fusion.outputs.content import Content
from fusion.outputs.output import Output, Part, option
from fusion.outputs.png import write_picture
from fusion.outputs.unit import Unit
from fusion.parsing import parse_json
from fusion.text import listed

VOLUME, PICTURE = ".nii.gz", ".png"
RESERVED = ("background", "ignore")


@dataclass(frozen=True)
class NnUnet(Output):
    """nnU-Net's layout; channels are regions. `prepared` fills in the fields that are no options:
    the files' ending, the content of dataset.json, ids of regions, whether there are probabilities.
    """

    name: ClassVar = "nnunet"
    about: ClassVar = "<out>/<case>.nii.gz, dataset.json, with probabilities <case>.npz"
    keeps: ClassVar = ("labels", "stored", "probabilities")
    packed: ClassVar = ("*.nii.gz", "*.png", "*.npz", "*.pkl", "dataset.json", "plans.json")
    shared: ClassVar = ("dataset.json", "plans.json")
    beside: ClassVar = True

    dataset_json: Path | None = option(  # noqa: RUF009  it makes a field
        "--dataset-json", "nnU-Net's own, to copy (default: made)", type=Path, metavar="FILE"
    )
    ending: str = VOLUME
    document: str = ""
    order: tuple[int, ...] | None = None
    with_probabilities: bool = False

    def prepared(self, content: Content, units: Sequence[Unit]) -> NnUnet:
        if self.dataset_json is not None:
            text, known = _read(self.dataset_json)
            ending, order = known["file_ending"], _fits(self.dataset_json, known, content)
        else:
            flat = all(len(u.frames) == 1 and u.kind in (None, "geotiff") for u in units)
            ending, order = PICTURE if flat else VOLUME, content.regions
            text = _made(content, ending)
        for unit in units:
            if ending == VOLUME:
                unit.place("nifti")
            elif len(unit.frames) > 1:
                got = f"unit {unit.video!r} has {len(unit.frames)} slices, file_ending is {ending}"
                raise InputError(f"nnunet: {got}; give a dataset.json of {VOLUME}")
        kind = content.kind == "probabilities"
        return replace(self, ending=ending, document=text, order=order, with_probabilities=kind)

    def parts(self, unit: Unit) -> list[Part]:
        beside = (".npz", ".pkl") if self.with_probabilities else ()
        return [Part(tuple(unit.name + end for end in (*beside, self.ending)), unit.frames)]

    def start(self, out: Path, content: Content, units: Sequence[Unit], *, overwrite: bool) -> None:
        shared = {"dataset.json": self.document.encode()}
        if self.dataset_json is not None and self.dataset_json.with_name("plans.json").is_file():
            with refusals(self.dataset_json.with_name("plans.json"), problem="cannot be read"):
                shared["plans.json"] = self.dataset_json.with_name("plans.json").read_bytes()
        for name, data in shared.items():
            path = out / name
            try:
                there = plain.content(path, follow=False)
            except OSError:  # none, or a link or pipe, which is replaced
                there = None
            if there is not None and there != data and not overwrite:
                what = "is there with other content; give overwrite=, another folder"
                raise StoreError(f"{path}: {what}, or this one as dataset_json=")
            if there != data:
                write_bytes(path, data, overwrite=overwrite or there is None)

    def write(
        self, out: Path, unit: Unit, parts: Sequence[Part], content: Content, *, overwrite: bool
    ) -> None:
        paths, content = (
            [out / name for name in parts[0].files],
            replace(content, regions=self.order),
        )
        frames, place = unit.frames, unit.geometry
        if self.with_probabilities:
            fused = self.volume(content.fused(unit, frames), content, len(frames))
            if content.independent and len(fused) == 1:  # nnU-Net knows one label as two classes
                fused = np.concatenate([1 - fused, fused])
            with (
                refusals(paths[0], fused.nbytes),
                replacing(paths[0], overwrite=overwrite) as scratch,
                scratch.open("xb") as file,
            ):
                np.savez_compressed(file, probabilities=fused)
            properties = _properties(place, self.ending)
            write_bytes(paths[1], pickle.dumps(properties, protocol=4), overwrite=overwrite)
            del fused
        labels = self.volume(content.labels(unit, frames), content, len(frames))
        if self.ending == VOLUME:
            write_nifti(paths[-1], labels, place, overwrite=overwrite)
        else:
            write_picture(paths[-1], labels[0], overwrite=overwrite)


def _made(content: Content, ending: str) -> str:
    """A dataset.json: labels of the classes, or regions of the channels.

    Label maps of regions are without loss where each lies inside the one before, as nnU-Net's do:
    region k is then where any of the ids from its own on is.
    """
    if content.stored is not None:
        raise InputError("nnunet: stored ids need their own dataset.json; give dataset_json=")
    names, labels = content.names, dict[str, Any](background=0)
    if not content.independent:
        names = names[1:]
    if wrong := [name for name in names if name in RESERVED]:
        what = f"class {wrong[0]!r} has a name that nnU-Net keeps for another"
        raise InputError(f"nnunet: {what}; rename it, or give dataset_json=")
    document: dict[str, Any] = {"labels": labels, "file_ending": ending}
    if content.independent and len(names) > 1:
        if content.regions is None:
            got = f"{len(names)} channels in one pixel"
            do = "give compose= an id for each, or dataset_json="
            raise InputError(f"nnunet: {got}; {do}")
        ids = content.regions
        rest = [list(ids[k:]) for k in range(len(ids))]
        labels |= {n: r if len(r) > 1 else r[0] for n, r in zip(names, rest, strict=True)}
        document["regions_class_order"] = list(ids)
    else:
        labels |= {name: k for k, name in enumerate(names, start=1)}
        if content.regions not in (None, (1,)):
            raise InputError(f"compose: got {content.regions[0]}; nnU-Net's only label is 1")
    return json.dumps(document, indent=1) + "\n"


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    """A dataset.json: its text, and what it says."""
    try:
        text = plain.content(path).decode()
        known = parse_json(text)
        labels, ending = known["labels"], known["file_ending"]
        if not isinstance(labels, dict) or ending not in (VOLUME, PICTURE):
            raise ValueError(f"file_ending {ending!r}, {VOLUME} and {PICTURE} are written")
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (ValueError, KeyError, TypeError) as error:
        do = "give nnU-Net's dataset.json with labels and file_ending"
        raise InputError(f"{path}: is none that can be copied ({error}); {do}") from error
    return text, known


def _fits(path: Path, known: dict[str, Any], content: Content) -> tuple[int, ...] | None:
    """Ids of regions that a dataset.json of this content names; None where classes exclude each
    other. InputError where it is of another."""
    labels = {name: value for name, value in known["labels"].items() if name != "ignore"}
    order = known.get("regions_class_order")
    if content.stored is not None:  # whoever stores other ids says what they mean
        return content.regions
    if content.independent and len(content.names) > 1:
        regions = [name for name, value in labels.items() if value not in (0, [0])]
        whole = isinstance(order, list) and all(type(n) is int and 0 < n < 65536 for n in order)
        if not whole or len(order or ()) != len(regions) or regions != [*content.names]:
            got = f"regions {listed(regions)}, the ensemble {listed(content.names)}"
            raise InputError(f"{path}: {got}; give one of these regions with regions_class_order")
        if content.regions not in (None, tuple(order or ())):
            raise InputError(f"compose: {path} has regions_class_order {order}; leave one out")
        return tuple(order or ())
    names = content.names if content.independent else content.names[1:]
    if {**labels, "background": 0} != {"background": 0, **{n: k for k, n in enumerate(names, 1)}}:
        got = f"labels {listed(labels)}, the ensemble {listed(content.names)}"
        raise InputError(f"{path}: {got}; give one of these classes in this order")
    return content.regions


def _properties(place: Any, ending: str) -> dict[str, Any]:
    """What nnU-Net's readers know of a case, which its writers ask for, as plain numbers.

    SimpleITK's axes point to the left and back where NIfTI's point to the right and front.
    """
    if ending == PICTURE:
        return {"spacing": [999, 1, 1]}
    from nibabel.orientations import aff2axcodes

    affine = np.asarray((place or {}).get("affine", np.eye(4)), np.float64)
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    flip = np.array([-1.0, -1.0, 1.0])
    direction = flip[:, None] * affine[:3, :3] / spacing
    forms = {"original_affine": affine.tolist()}
    if aff2axcodes(affine) == ("R", "A", "S"):  # readers that reorient would turn others' arrays
        forms["reoriented_affine"] = affine.tolist()
    return {
        "spacing": spacing[::-1].tolist(),
        "sitk_stuff": {
            "spacing": tuple(spacing.tolist()),
            "origin": tuple((flip * affine[:3, 3]).tolist()),
            "direction": tuple(direction.ravel().tolist()),
        },
        "nibabel_stuff": forms,
    }
