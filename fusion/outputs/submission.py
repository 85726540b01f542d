"""What challenge servers take: their ids, their names, in a zip.

    vspw         <video>/<frame>.png, class ids 0..123. Masks of the data set are one higher, but
                 its evaluation takes 1 from the masks alone, and its own code saves class ids.
                 github.com/VSPW-dataset/VSPW_baseline: test.py; VSPW_code: evaluator_test.py
    cityscapes   <city>_<sequence>_<frame>.png, labelIds, none twice
                 github.com/mcordts/cityscapesScripts: evalPixelLevelSemanticLabeling.py

A submission is an output format as others are, and it knows what it writes: a new one is a class
here and its name in SUBMISSIONS.
"""

from __future__ import annotations

import glob
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fusion.arguments import checked
from fusion.errors import InputError
from fusion.labels import MAPS, write_labels
from fusion.labels.stored_as import StoredAs
from fusion.outputs.archive import archive_of, check_archive, pack
from fusion.outputs.content import Content, Stored
from fusion.outputs.names import safe_name
from fusion.outputs.output import Output, Part
from fusion.outputs.png import write_picture
from fusion.outputs.run import Written, write
from fusion.outputs.unit import Unit
from fusion.text import did_you_mean

if TYPE_CHECKING:
    from fusion.ensemble import Ensemble

NAME = re.compile(r"[A-Za-z-]+_\d{6}_\d{6}(?!\d)")  # <city>_<sequence>_<frame>


@dataclass(frozen=True)
class Submission(Output):
    """PNGs of a server."""

    keeps: ClassVar = ("stored",)

    def ids(self, classes: Sequence[str]) -> Stored:
        """From class ids to those of the data set's masks, whatever the order of its classes."""
        count = len(MAPS[self.name]().names)
        if len(classes) != count:
            raise InputError(f"{self.name}: got {len(classes)} classes, its server takes {count}")
        made = StoredAs.of(classes, self.name, "stored").stored
        assert made is not None
        return made

    @abstractmethod
    def stored(self, classes: Sequence[str]) -> Stored:
        """What the server takes in the place of a label map; InputError for other classes."""

    def write(
        self, out: Path, unit: Unit, parts: Sequence[Part], content: Content, *, overwrite: bool
    ) -> None:
        maps = content.labels(unit, [frame for part in parts for frame in part.frames])
        for part, (_, array) in zip(parts, maps, strict=True):
            self.save(out / part.files[0], array, overwrite=overwrite)
            content.sealed(part.files)

    @abstractmethod
    def save(self, path: Path, array: np.ndarray, *, overwrite: bool) -> None:
        """A file of the server's kind."""


@dataclass(frozen=True)
class Vspw(Submission):
    """Video scene parsing in the wild, its validation and test server."""

    name: ClassVar = "vspw"
    about: ClassVar = "<video>/<frame>.png, class ids 0..123"
    packed: ClassVar = ("*/*.png",)

    def stored(self, classes: Sequence[str]) -> Stored:
        ids = self.ids(classes)

        def below_void(labels: np.ndarray) -> np.ndarray:
            masks = ids(labels)
            if masks.size and masks.min() == 0:  # the server would count it as some class
                raise InputError("vspw: got void, its server takes a class for every pixel")
            return np.asarray(masks - 1)

        return below_void

    def parts(self, unit: Unit) -> list[Part]:
        return [Part((f"{unit.name}/{safe_name(f)}.png",), (f,)) for f in unit.frames]

    def save(self, path: Path, array: np.ndarray, *, overwrite: bool) -> None:
        write_labels(path, array, overwrite=overwrite)


@dataclass(frozen=True)
class Cityscapes(Submission):
    """Cityscapes, pixel-level semantic labeling. Units and frames may share a name out between
    them, as long as <city>_<sequence>_<frame> comes out; what stands behind it is left out.
    """

    name: ClassVar = "cityscapes"
    about: ClassVar = "<city>_<sequence>_<frame>.png, labelIds"
    packed: ClassVar = ("*.png",)

    def stored(self, classes: Sequence[str]) -> Stored:
        return self.ids(classes)

    def parts(self, unit: Unit) -> list[Part]:
        return [Part((f"{self._named(unit, frame)}.png",), (frame,)) for frame in unit.frames]

    def _named(self, unit: Unit, frame: str) -> str:
        single = [unit.video] if len(unit.frames) == 1 else []
        for name in (frame, *single, f"{unit.video}_{frame}"):
            if found := NAME.match(name):
                return safe_name(found[0])
        got = f"unit {unit.video!r}, frame {frame!r} is none"
        do = "name units as the images, <city>_<sequence>_<frame>"
        raise InputError(f"cityscapes: {got} of the benchmark's images; {do}")

    def save(self, path: Path, array: np.ndarray, *, overwrite: bool) -> None:
        write_picture(path, array, overwrite=overwrite)


SUBMISSIONS: Mapping[str, Submission] = {kind.name: kind for kind in (Vspw(), Cityscapes())}


def submission_of(name: str) -> Submission:
    """A submission by its name; InputError for others."""
    if name not in SUBMISSIONS:
        raise InputError(f"submission: got {name!r}{did_you_mean(name, SUBMISSIONS)}")
    return SUBMISSIONS[name]


@checked
def submit(ensemble: Ensemble, out: str | Path, name: str, **options: Any) -> tuple[Written, Path]:
    """Writes what an ensemble predicts as a server takes it, and packs it into OUT.zip.

    Args:
        ensemble: an `Ensemble`.
        out: the folder of the files, OUT; its zip stands beside it.
        name: a key of SUBMISSIONS.
        options: of `write`: videos, overwrite, resume, scheduler, progress.

    Returns:
        What was written, and the zip: exactly the files of these videos.

    Raises:
        InputError: other classes than the server's, ids that are no names of its images.
        StoreError: something is there already, or the disk refuses.
    """
    kind, folder = submission_of(name), Path(out)
    replaces = bool(options.get("overwrite") or options.get("resume"))
    check_archive(archive_of(folder), overwrite=replaces)
    if ensemble.channels is not None:
        got = f"{len(ensemble.channels)} independent channels"
        raise InputError(f"{name}: got {got}, its server takes one class a pixel")
    written = write(ensemble, folder, kind, stored=kind.stored(ensemble.classes), **options)
    files = [glob.escape(file) for file in written.files]
    return written, pack(folder, files, overwrite=replaces)
