"""Where clips are: what a configuration's [data] says, and the options that commands share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from fusion.cli import MAP_HELP
from fusion.errors import InputError
from fusion.labels import LAYOUTS
from fusion.labels.classes import read_classes
from fusion.labels.labels import STRAYS
from fusion.labels.layouts import AUTO
from fusion.models.data.clips import Clips
from fusion.models.section import Rule, Section, one_of, within
from fusion.text import did_you_mean, listed

ANY = Rule("text", lambda value: True)
# which keys say something beside the one that says where images are; class names always may
PLACES = {
    "root": ("split", "layout", "column", "class_map", "stray"),
    "vspw": ("split", "stray"),
    "images": ("split", "labels", "layout", "pattern", "class_map", "stray"),
}
OF_MASKS = ("layout", "pattern", "class_map", "stray")  # say nothing without any


@dataclass(frozen=True)
class Source(Section):
    """A data set, or a folder of images and masks; see `Clips.dataset` and `Clips.folder`.

    vspw: a VSPW release.

    split: part of a data set (default train), or a subfolder of images and labels.

    images: a folder of images, or of one folder of them a video.

    labels: a folder of their masks, in any layout.

    classes: a file of names, one a line, a JSON list, or VSPW's names by number.

    root: a data set that keeps images and masks, such as Cityscapes, VOC, ADE20K.

    layout: how the data set, or its masks, lie; auto is whichever recognises them.

    pattern: of masks, such as {unit}/{frame}_mask.png.

    class_map: what values in masks mean, such as cityscapes or a JSON file.

    stray: values that are no class: an error, or void.

    column: of masks in a Hugging Face data set (default label, mask, annotation, ...).
    """

    vspw: str = ""
    split: str = ""
    images: str = ""
    labels: str = ""
    classes: str = ""
    root: str = within(ANY, "", later=True)
    layout: str = within(ANY, AUTO, later=True)
    pattern: str = within(ANY, "", later=True)
    class_map: str = within(ANY, "", later=True)
    stray: str = within(one_of(*STRAYS), "error", later=True)
    column: str = within(ANY, "", later=True)

    def open(self, *, labelled: bool, classes: Sequence[str] | None = None) -> Clips:
        """The clips. classes: names that hold where no file of names is given.

        InputError: several places or none, a key that says nothing there, no class names for masks
        of ids, no masks if needed.
        """
        place = self._place()
        names = read_classes(self.classes) if self.classes else classes
        layout = "glob" if self.pattern else self.layout
        how: dict[str, Any] = {"class_map": self.class_map or None, "stray": self.stray}
        how |= {"pattern": self.pattern or None, "column": self.column or None}
        if place != "images":
            split, kind = self.split or "train", "vspw" if self.vspw else layout
            sets: dict[str, Any] = {"layout": kind, "classes": names, "labelled": labelled}
            return Clips.dataset(self.vspw or self.root, split, **sets, **how)
        if labelled and not self.labels:
            raise InputError("clips: masks are needed here; give their folder (labels)")
        labels = self.labels if labelled else None
        how |= {"classes": names, "layout": layout}
        return Clips.folder(self.images, labels, self.split or None, **how)

    def _place(self) -> str:
        """Which key says where images are; InputError where one does that has no use of another."""
        given = {key.name for key in fields(Source) if getattr(self, key.name) != key.default}
        places = [key for key in PLACES if key in given]
        if len(places) != 1:
            got = f"{listed(places)} each say where" if places else "nothing says where images are"
            advice = "a data set (root), a VSPW release (vspw), or a folder of images (images)"
            raise InputError(f"clips: {got}; give {advice}, one of them")
        place = places[0]
        if odd := sorted(given - {place, "classes", *PLACES[place]}):
            why = f"says nothing beside {place}"
            fits = [k for k, keys in PLACES.items() if odd[0] in keys]
            raise InputError(
                f"clips: {odd[0]} {why}; leave it out, or give {' or '.join(fits)} instead"
            )
        if place == "images" and not self.labels and (odd := sorted(given & {*OF_MASKS})):
            raise InputError(f"clips: {odd[0]} is of masks, and labels are not given; give labels")
        if self.pattern and self.layout not in (AUTO, "glob"):
            got = f"pattern says nothing beside layout {self.layout!r}"
            raise InputError(f"clips: {got}; leave one of them out")
        if self.layout not in (AUTO, *LAYOUTS):
            raise InputError(f"layout: got {self.layout!r}{did_you_mean(self.layout, LAYOUTS)}")
        return place


def add_source(parser: argparse.ArgumentParser) -> None:
    """The options that `source_of` reads."""
    group = parser.add_argument_group("clips (one of --root, --vspw, --images)")

    def add(name: str, default: str = "", **facts: Any) -> None:
        group.add_argument(name, default=default, **facts)

    add(
        "--root", metavar="DIR", help="a data set that keeps images and masks: Cityscapes, VOC, ..."
    )
    add("--vspw", metavar="DIR", help="a VSPW release")
    add("--split", metavar="NAME", help="its split (default train), or a subfolder of --images")
    add("--images", metavar="DIR", help="<video>/<frame>.jpg, or single images")
    add("--labels", metavar="DIR", help="with --images: their masks, in any layout")
    names = "class names, one a line, in a JSON list, or by number as VSPW's file has them"
    add("--classes", metavar="FILE", help=names)
    layouts = f"how masks lie: {', '.join(LAYOUTS)} (default: whichever recognises them)"
    add("--label-layout", dest="layout", default=AUTO, metavar="NAME", help=layouts)
    pattern = "of files below --labels, such as {unit}/{frame}_mask.png"
    add("--label-pattern", dest="pattern", metavar="PATTERN", help=pattern)
    column = "with --root: of masks in a Hugging Face data set"
    add("--label-column", dest="column", metavar="NAME", help=column)
    add("--label-map", dest="class_map", metavar="MAP", help=MAP_HELP)
    strays = "values that are no class and not void (default error)"
    add("--stray", choices=STRAYS, default="error", help=strays)


def source_of(options: argparse.Namespace) -> Source:
    return Source(**{key.name: getattr(options, key.name) for key in fields(Source)})
