"""What an output format is: which files a unit becomes, and how they are written.

A new format is one file with a frozen dataclass of this class, and its name in OUTPUTS. Its options
are the dataclass's fields made by `option`: the command line takes them from there. Names of a
unit's files are known without any work, which is what overwriting and resuming go by; every file
appears whole or not at all.
"""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from fusion.errors import InputError
from fusion.files import refusals
from fusion.outputs.content import Content, Maps, is_colours
from fusion.outputs.unit import Unit
from fusion.text import listed

PREDICTED = "segfusion.predicted"  # in attributes: what is of this room


def option(flag: str, help: str, **form: Any) -> Any:
    """An option of a format, None where nobody says.

    Args:
        flag: on the command line.
        help: of the command line.
        form: argparse's own: type, metavar, choices, action.
    """
    return field(default=None, metadata={"flag": flag, "form": {**form, "help": help}})


@dataclass(frozen=True)
class Part:
    """Files that appear for some frames of a unit; of several the last stands for all.

    Args:
        files: below the output folder.
        frames: ids.
    """

    files: tuple[str, ...]
    frames: tuple[str, ...]


@dataclass(frozen=True)
class Output(ABC):
    """A format.

    name: as callers and the command line say it. about: what it is, in a few words. keeps: the
    kinds of content (`fusion.outputs.content`) that it can hold, "colours" for those of `stored`.
    packed: patterns of its files. shared: names of those that are no unit's. makes: what it writes,
    where that is neither label maps nor probability maps. beside: whether probabilities come beside
    label maps and not in their place. record: the JSON file that says of what the outputs are, and
    what else stands in it. hidden: whether files whose names begin with a dot may stand there
    too; else the record says which outputs are whole. draws: whether label maps become colours
    for people to look at.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    keeps: ClassVar[tuple[str, ...]]
    packed: ClassVar[tuple[str, ...]]
    shared: ClassVar[tuple[str, ...]] = ()
    beside: ClassVar[bool] = False
    makes: ClassVar[str] = ""
    record: ClassVar[tuple[str, Mapping[str, Any]]] = (".predicted.json", {})
    hidden: ClassVar[bool] = True
    draws: ClassVar[bool] = False

    @property
    def is_probabilities(self) -> bool:
        """Whether it holds nothing else, so that nobody need ask for them."""
        return self.keeps == ("probabilities",)

    def prepared(self, content: Content, units: Sequence[Unit]) -> Self:
        """The format as these units need it; InputError for what it cannot hold.

        Args:
            content: what will be written.
            units: all of the ensemble, which may be more than will be written.
        """
        if content.kind not in self.keeps:
            raise InputError(f"{self.name}: {self.refusal(content)}")
        return self

    def refusal(self, content: Content) -> str:
        """Why content of a kind that it does not keep is refused, and what to do."""
        if content.kind == "channels":
            do = "give compose= an id for each, or choose npy, which keeps them apart"
            return f"{len(content.names)} channels in one pixel; {do}"
        held = listed(kind for kind in self.keeps if kind not in ("stored", "colours"))
        return f"got {content.kind}, holds {held}; choose another format"

    @abstractmethod
    def parts(self, unit: Unit) -> list[Part]:
        """What a unit becomes, every frame in one part."""

    def check(self, content: Content, units: Sequence[Unit]) -> None:  # noqa: B027  most need none
        """Before any work: that what is needed beside the ensemble, such as pictures, is there."""

    def look(self, out: Path, content: Content) -> None:  # noqa: B027  most folders will do
        """Before any work: StoreError where the output folder is something else's."""

    def start(  # noqa: B027  most share nothing
        self, out: Path, content: Content, units: Sequence[Unit], *, overwrite: bool
    ) -> None:
        """Whatever all units share is made; StoreError where another's is there."""

    @abstractmethod
    def write(
        self, out: Path, unit: Unit, parts: Sequence[Part], content: Content, *, overwrite: bool
    ) -> None:
        """Writes some parts of a unit, each file whole or not at all.

        Args:
            out: the output folder.
            unit: whose parts they are.
            parts: of `parts(unit)`.
            content: gives the maps.
            overwrite: False for a StoreError where something came meanwhile.
        """

    def is_mine(self, path: Path) -> bool:
        """Whether what has a file's name may be replaced: a file or link, never a folder."""
        return path.is_symlink() or not path.is_dir()

    def remove(self, path: Path) -> None:
        """Removes a file, or a folder that is the format's; a link, not its target."""
        with refusals(path, problem="cannot be removed"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif os.path.lexists(path):
                path.unlink()

    def no_colours(self, array: np.ndarray, content: Content) -> np.ndarray:
        """The array of a frame; InputError where colours are not kept."""
        if is_colours(array, content) and "colours" not in self.keeps:
            raise InputError(f"{self.name}: cannot hold colours; choose png, npy or geotiff")
        return array

    def volume(self, maps: Maps, content: Content, frames: int) -> np.ndarray:
        """Maps of all frames as [Z, Y, X] or [C, Z, Y, X]."""
        whole = np.empty(0)
        for z, (_, array) in enumerate(maps):
            array = self.no_colours(array, content)
            if z == 0:
                whole = np.empty((*array.shape[:-2], frames, *array.shape[-2:]), array.dtype)
            whole[..., z, :, :] = array
        return whole
