"""What an importer is: a reader of one kind of folder or file that somebody else's program wrote.

A new kind is one file with a frozen dataclass that inherits `Importer`, and its name in IMPORTERS.
Its options are the dataclass's fields, each made by `option`: the command line takes them from
there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from fusion.errors import InputError


@dataclass(frozen=True)
class Source:
    """One video to import.

    Args:
        video: its id.
        files: what it is made of, in order; errors name them.
        named: whether the files say what the frames are called.
        part: what it is called inside its one file, where that holds several.
        index: where it is along the first axis of that, which holds several videos.
    """

    video: str
    files: tuple[Path, ...]
    named: bool
    part: str | None = None
    index: int | None = None


class Frames(NamedTuple):
    """A video's frames.

    Args:
        ids: frame ids (numbers where the files do not say).
        arrays: as many, each [C, h, w]; read one by one, where the format allows it.
        geometry: where they lie in the world, as `fusion.geometry` writes it.
    """

    ids: Sequence[str]
    arrays: Iterable[np.ndarray]
    geometry: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Known:
    """What a format says by itself.

    Args:
        values: one of `fusion.stores.format.VALUES`.
        classes: C names in channel order.
        warning: what people must know who import it.
        step: of the numbers, where they were rounded to few: their sums are that far from 1.
    """

    values: str | None = None
    classes: tuple[str, ...] | None = None
    warning: str | None = None
    step: float = 0.0


class Importer:
    """One kind of source."""

    kind: ClassVar[str]  # one word, to choose it by
    name: ClassVar[str]  # in the plural, as errors put it
    holds: ClassVar[str]  # what a folder of this kind holds, as help and errors put it

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether a folder or file is of this kind; reads one file's header at most."""
        raise NotImplementedError

    def known(self, path: Path) -> Known:
        """What the format says of the numbers. InputError: it says nonsense."""
        return Known()

    def videos(self, path: Path) -> list[Source]:
        """What there is to import, ids in natural order; InputError where there is nothing."""
        raise NotImplementedError

    def frames(self, source: Source, classes: Sequence[str]) -> Frames:
        """A video's frames.

        Args:
            source: one of `videos`.
            classes: C names, to tell or to check the axes.

        Raises:
            InputError: damaged or unclear, now or at the array concerned; names the file.
        """
        raise NotImplementedError


def option(text: str, **facts: Any) -> Any:
    """An importer's option: None by default, `text` is its help, `facts` are argparse's."""
    return field(default=None, metadata={"help": text, "default": None, **facts})


def refusal(path: Path, *holds: str) -> InputError:
    """The error of a folder where none of these kinds is found."""
    wanted = " or ".join(holds)
    if not path.exists():
        return InputError(f"{path}: no such file or folder; give what a model predicted")
    if path.is_file():
        return InputError(f"{path}: not a file that can be imported; give {wanted}")
    return InputError(f"{path}: no {wanted} inside; give the folder that holds them")
