"""What an operation is: an object whose fields are its parameters, and one call on a stream.

    for frame in Window(radius=2).apply(frames, video): ...

T frames of a video, C classes or independent channels, h w store pixels, H W label pixels.
"""

from __future__ import annotations

import itertools
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from fusion.errors import InputError
from fusion.images import Images
from fusion.text import did_you_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from fusion.kernels.arithmetic import Fused

MAPS, PROBABILITIES, LABELS = STAGES = ("maps", "probabilities", "labels")
NUMBER = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class Video:
    """What operations may know of the video that their frames are of.

    Args:
        name: its id.
        frames: ids of all T frames, in order.
        size: (H, W) of its label maps.
        classes: names of C classes, or of channels.
        independent: whether they are independent channels, whose label maps are masks [C, H, W].
        images: its pictures, None where there are none.
    """

    name: str
    frames: tuple[str, ...]
    size: tuple[int, int]
    classes: tuple[str, ...]
    independent: bool = False
    images: Images | None = None

    @cached_property
    def times(self) -> Mapping[str, int]:
        """When each frame was taken, in frames of the source video.

        That is the last number in its id, where all ids have one and these rise: frames 00010 and
        00070 are 60 apart. Else frames are one apart.
        """
        found = [NUMBER.findall(frame) for frame in self.frames]
        numbers = [int(some[-1]) for some in found if some]
        rising = all(a < b for a, b in itertools.pairwise(numbers))
        whole = len(numbers) == len(self.frames) and rising
        return dict(zip(self.frames, numbers if whole else range(len(self.frames)), strict=True))

    def image(self, frame: str) -> NDArray[np.uint8]:
        """The picture of a frame, uint8 [H, W, 3]. InputError: there are none, or of other size."""
        if self.images is None:
            raise InputError("postprocess: it looks at pictures; give their folder (images=)")
        return self.images.read(self.name, frame, self.size)


@dataclass(frozen=True)
class Frame:
    """A frame on its way through the operations.

    Args:
        name: its id.
        values: in the stage "maps" float32 [C, h, w], a tensor on the ensemble's device; in
            "probabilities" float32 [C, H, W]; in "labels" a NumPy array uint8 or uint16 [H, W], of
            channels uint8 [C, H, W].
        beside: in the stage "labels" what else was made of the frame: probabilities where an
            operation `looks_at` them.
    """

    name: str
    values: Any
    beside: Fused | None = None

    def having(self, values: Tensor | NDArray[Any]) -> Frame:
        """The frame with other values."""
        return replace(self, values=values)


Stream = Iterator[Frame]


def parameter(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[Any] | None = None,
    grid: Sequence[Any] = (),
    in_frames: bool = False,
) -> Any:
    """A parameter of an operation.

    Args:
        default: and its type: bool, int, float, str, tuple (of names) or dict (class name ->
            number, or C numbers in their order; the operation checks these).
        help: what it does, in a few words.
        low, high: the range of a number, both allowed.
        choices: of a word.
        grid: values that tuning tries; default only `default`.
        in_frames: whether it is a time, whose grid is in steps from one frame to the next.
    """
    facts = {"help": help, "low": low, "high": high, "choices": choices, "in_frames": in_frames}
    facts["grid"] = tuple(grid) or (default,)
    if isinstance(default, dict | list):
        return field(default_factory=lambda: default.copy(), metadata=facts)
    return field(default=default, metadata=facts)


@dataclass(frozen=True)
class Operation(ABC):
    """A step of postprocessing; `from_config(operation.get_config()) == operation`.

    name: as callers and the command line say it. about: what it does, in a few words. stage: what
    it works on. temporal: whether it looks at other frames of the video. looks_at: whether
    probabilities come beside label maps. channels: whether it takes independent channels. pictures:
    whether it always needs them. reference: paper or library whose rule this is.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    stage: ClassVar[str]
    temporal: ClassVar[bool] = False
    looks_at: ClassVar[bool] = False
    channels: ClassVar[bool] = True
    pictures: ClassVar[bool] = False
    reference: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for each in fields(self):
            _check(self.name, each.name, each.metadata, getattr(self, each.name), each)

    @abstractmethod
    def apply(self, stream: Stream, video: Video) -> Stream:
        """The same frames in the same order, changed; values that come in are not written to."""

    def check(self, classes: Sequence[str], *, independent: bool) -> None:
        """InputError where it does not go with these classes; what derives from it calls it too."""
        if independent and not self.channels:
            got = "classes are independent channels"
            raise InputError(f"{self.name}: {got}, it needs classes that exclude each other")

    def holds(self, video: Video) -> int:
        """How many frames it keeps at most at a time."""
        return 1

    @property
    def needs_pictures(self) -> bool:
        """Whether, as it is, it looks at pictures."""
        return self.pictures

    def fitted(self, rows: Sequence[int]) -> Self:
        """The operation with what it takes from labels; `rows`: labelled pixels of every class."""
        return self

    @classmethod
    def parameters(cls) -> dict[str, Mapping[str, Any]]:
        """Facts of each parameter, as `parameter` got them, and its default."""
        return {each.name: {**each.metadata, "default": _usual(each)} for each in fields(cls)}

    @classmethod
    def candidates(cls, step: int = 1) -> list[Self]:
        """What tuning tries: all combinations of the parameters' grids.

        step: from one frame of the data to the next, as `Video.times` counts.
        """
        grids = {
            name: _stepped(facts, step) if facts["in_frames"] else facts["grid"]
            for name, facts in cls.parameters().items()
        }
        return [
            cls(**dict(zip(grids, each, strict=True)))
            for each in itertools.product(*grids.values())
        ]

    def get_config(self) -> dict[str, Any]:
        """Name and parameters, as JSON has them."""
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        return {"operation": self.name, **{name: _plain(value) for name, value in given.items()}}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The operation of a configuration; InputError for a parameter that it does not have."""
        given = {name: value for name, value in config.items() if name != "operation"}
        known = {each.name for each in fields(cls)}
        if unknown := [name for name in given if name not in known]:
            takes = did_you_mean(unknown[0], known) if known else "; it takes none"
            raise InputError(f"{cls.name}: no parameter {unknown[0]!r}{takes}")
        return cls(**{n: tuple(v) if isinstance(v, list) else v for n, v in given.items()})

    def __str__(self) -> str:
        changed = {
            name: getattr(self, name)
            for name, facts in self.parameters().items()
            if getattr(self, name) != facts["default"] and getattr(self, name) not in ({}, ())
        }
        said = ",".join(f"{name}={_said(value)}" for name, value in changed.items())
        return f"{self.name}:{said}" if said else self.name


def _stepped(facts: Mapping[str, Any], step: int) -> list[Any]:
    """A grid in steps, as far as its range goes."""
    high = math.inf if facts["high"] is None else facts["high"]
    return [value * step for value in facts["grid"] if value * step <= high]


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple) and all(isinstance(each, str) for each in value):
        return "+".join(value)
    if isinstance(value, Mapping | tuple):
        return f"{len(value)} classes"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _usual(each: Field[Any]) -> Any:
    return each.default if each.default_factory is MISSING else each.default_factory()


def _check(operation: str, name: str, facts: Mapping[str, Any], value: Any, declared: Any) -> None:
    """InputError where a parameter is of another type, or outside its range."""
    usual = _usual(declared)
    choices, low, high = (facts.get(fact) for fact in ("choices", "low", "high"))
    if choices is not None and value not in choices:
        said = did_you_mean(str(value), map(str, choices))
        raise InputError(f"{operation}: {name}={value!r}{said}")
    if isinstance(usual, bool):
        if not isinstance(value, bool):
            raise InputError(f"{operation}: {name}={value!r}; give true or false")
    elif isinstance(usual, int | float):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        whole = not isinstance(usual, int) or isinstance(value, int)
        inside = number and (low is None or value >= low) and (high is None or value <= high)
        if not (number and whole and inside and np.isfinite(value)):
            ends = f"{low:g} or more" if high is None else f"{low or 0:g} to {high:g}"
            kind = "a whole number" if isinstance(usual, int) else "a number"
            raise InputError(f"{operation}: {name}={value!r}; give {kind}, {ends}")
    elif isinstance(usual, tuple) and not (
        isinstance(value, tuple) and all(isinstance(each, str) for each in value)
    ):
        raise InputError(f"{operation}: {name}={value!r:.60}; give a list of names")
    elif isinstance(usual, dict) and not isinstance(value, Mapping | tuple):
        raise InputError(f"{operation}: {name}={value!r:.60}; give {{CLASS: VALUE}}")
    elif isinstance(usual, str) and not isinstance(value, str):
        raise InputError(f"{operation}: {name}={value!r:.60}; give a word")
