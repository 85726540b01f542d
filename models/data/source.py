"""Which clips a command works on: the arguments that `predict` and `statistics` share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fusion.errors import InputError, StoreError
from fusion.models.data.clips import Clips


def add_source(parser: argparse.ArgumentParser) -> None:
    source = parser.add_argument_group("clips (one of --vspw, --images)")
    source.add_argument("--vspw", type=Path, metavar="DIR", help="a VSPW release")
    source.add_argument("--split", default="train", help="its split (default train)")
    source.add_argument("--images", type=Path, metavar="DIR", help="<video>/<frame>.jpg or .png")
    source.add_argument(
        "--labels", type=Path, metavar="DIR", help="with --images: <video>/<frame>.png"
    )
    source.add_argument("--classes", type=Path, metavar="FILE", help="class names, one a line")


def open_source(
    options: argparse.Namespace, *, labelled: bool, classes: Sequence[str] | None = None
) -> Clips:
    """The clips that the arguments name. classes: instead of a file of names."""
    names = read_names(options.classes) if options.classes else classes
    return open_clips(
        options.vspw, options.split, options.images, options.labels, names, labelled=labelled
    )


def open_clips(
    vspw: str | Path | None,
    split: str,
    images: str | Path | None,
    labels: str | Path | None,
    classes: Sequence[str] | None,
    *,
    labelled: bool,
) -> Clips:
    """Clips of either layout. InputError: both or none named, no class names for a folder, no masks where they are needed."""
    if bool(vspw) == bool(images):
        raise InputError(
            "clips: give a VSPW release (vspw) or a folder of images (images), one of the two"
        )
    if vspw:
        return Clips.vspw(vspw, split, classes=classes, labelled=labelled)
    if classes is None:
        raise InputError(
            "clips: a folder of images needs class names; give a file with one a line (classes)"
        )
    if labelled and not labels:
        raise InputError("clips: masks are needed here; give their folder (labels)")
    assert images is not None
    return Clips.folder(images, labels if labelled else None, classes=classes)


def read_names(path: str | Path) -> tuple[str, ...]:
    """Class names, one a line. StoreError: no such file; InputError: none, or one twice."""
    try:
        names = tuple(
            line.strip()
            for line in Path(path).read_text(encoding="utf-8").splitlines()
            if line.strip()
        )
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(
            f"classes: {path} cannot be read ({error}); give a text file with one class name a line"
        ) from error
    if not names or len(set(names)) != len(names):
        raise InputError(
            f"classes: {path} has {len(names)} names, {len(set(names))} different; give each class a name of its own"
        )
    return names
