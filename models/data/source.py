"""Where clips are: what a configuration's [data] says, and the options that commands share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial

from fusion.errors import InputError
from fusion.labels.classes import read_classes
from fusion.models.data.clips import Clips
from fusion.models.section import Section


@dataclass(frozen=True)
class Source(Section):
    """A VSPW release and its split, or folders of images and labels and a file of class names."""

    vspw: str = ""
    split: str = "train"
    images: str = ""
    labels: str = ""
    classes: str = ""

    def open(self, *, labelled: bool, classes: Sequence[str] | None = None) -> Clips:
        """The clips. classes: names that hold where no file of names is given.

        InputError: both layouts named or none, no class names for a folder, no masks if needed.
        """
        if bool(self.vspw) == bool(self.images):
            advice = "give a VSPW release (vspw) or a folder of images (images), one of the two"
            raise InputError(f"clips: {advice}")
        names = read_classes(self.classes) if self.classes else classes
        if self.vspw:
            return Clips.vspw(self.vspw, self.split, classes=names, labelled=labelled)
        if names is None:
            advice = "give a file with one a line, or a JSON list (classes)"
            raise InputError(f"clips: a folder of images needs class names; {advice}")
        if labelled and not self.labels:
            raise InputError("clips: masks are needed here; give their folder (labels)")
        return Clips.folder(self.images, self.labels if labelled else None, classes=names)


def add_source(parser: argparse.ArgumentParser) -> None:
    """The options that `source_of` reads."""
    group = parser.add_argument_group("clips (one of --vspw, --images)")
    add = partial(group.add_argument, default="")
    add("--vspw", metavar="DIR", help="a VSPW release")
    add("--split", default="train", help="its split (default train)")
    add("--images", metavar="DIR", help="<video>/<frame>.jpg or .png")
    add("--labels", metavar="DIR", help="with --images: <video>/<frame>.png")
    add("--classes", metavar="FILE", help="class names, one a line or a JSON list")


def source_of(options: argparse.Namespace) -> Source:
    return Source(**{key.name: getattr(options, key.name) for key in fields(Source)})
