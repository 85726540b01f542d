"""What an importer is: a reader of one kind of folder that somebody else's program wrote.

A new kind is one file with a frozen dataclass of this protocol, and its name in IMPORTERS. Its
options are the dataclass's fields, each made by `option`: the command line takes them from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from fusion.errors import InputError


@dataclass(frozen=True)
class Source:
    """One video to import.

    Args:
        video: its id.
        files: what it is made of, in order; errors name them.
        named: whether the files say what the frames are called.
    """

    video: str
    files: tuple[Path, ...]
    named: bool


class Importer(Protocol):
    """One kind of source."""

    name: ClassVar[str]
    holds: ClassVar[str]  # what a folder of this kind holds, as help and errors put it

    @staticmethod
    def recognises(folder: Path) -> bool:
        """Whether there is something of this kind in a folder; opens no file."""

    def videos(self, folder: Path) -> list[Source]:
        """What there is to import, ids in natural order; InputError where there is nothing."""

    def frames(self, source: Source, classes: int) -> tuple[Sequence[str], Iterable[np.ndarray]]:
        """A video's frames.

        Args:
            source: one of `videos`.
            classes: C, to tell or to check the axes.

        Returns:
            Frame ids (numbers where the files do not say), and as many [C, h, w] arrays.

        Raises:
            InputError: damaged or unclear, now or at the array concerned; names the file.
        """


def option(text: str, *, choices: Sequence[str] | None = None) -> Any:
    """An importer's option: None by default, `text` is its help."""
    return field(default=None, metadata={"help": text, "choices": choices})


def refusal(folder: Path, *holds: str) -> InputError:
    """The error of a folder where none of these kinds is found."""
    wanted = " or ".join(holds)
    if not folder.is_dir():
        return InputError(f"{folder}: no such folder; give one that holds {wanted}")
    return InputError(f"{folder}: no {wanted} inside; give the folder that holds them")
