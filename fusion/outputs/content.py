"""What is written of an ensemble: label maps, masks of channels, raw ids, colours, probabilities.

H W pixels, C classes or channels. Kinds, and the arrays of a frame:

    labels          [H, W] uint8 or uint16: classes; 0 and 1 of a single channel; composed regions
    channels        [C, H, W] uint8 of 0 and 1, C > 1
    stored          what `stored` makes of those: [H, W], or colours uint8 [H, W, 3]
    probabilities   [C, H, W] float32
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.ensemble.channels import composed
from fusion.errors import InputError
from fusion.outputs.seals import Sealed, unsealed
from fusion.outputs.unit import Unit
from fusion.text import did_you_mean, listed

if TYPE_CHECKING:
    from fusion.ensemble import Ensemble

Maps = Iterator[tuple[str, np.ndarray]]  # frame id, array
Stored = Callable[[np.ndarray], Any]
Tick = Callable[[str, str], None]  # video, frame


def _unseen(video: str, frame: str) -> None:
    """The `Tick` of nobody."""


@dataclass(frozen=True)
class Content:
    """An ensemble, and what of it is written.

    Args:
        ensemble: or what has its interface.
        probabilities: these in the place of label maps.
        regions: an id for each channel, in their order, or None.
        stored: made of every label map [H, W] (masks [C, H, W] of channels that are not composed)
            before it is written.
        tick: told of every frame that has been worked out.
        sealed: may be told of files that have been written, so that a run which is stopped need
            not write them again; of all others it is told when their unit is whole.
        scheduler: of tasks of a video.
    """

    ensemble: Ensemble
    probabilities: bool = False
    regions: tuple[int, ...] | None = None
    stored: Stored | None = None
    tick: Tick = _unseen
    sealed: Sealed = unsealed
    scheduler: str = "synchronous"

    @property
    def names(self) -> tuple[str, ...]:
        """C classes, or channels."""
        return tuple(self.ensemble.channels or self.ensemble.classes)

    @property
    def independent(self) -> bool:
        """Whether classes are independent channels."""
        return self.ensemble.channels is not None

    @property
    def kind(self) -> str:
        """One of the module's kinds."""
        if self.probabilities:
            return "probabilities"
        if self.stored is not None:
            return "stored"
        apart = self.independent and len(self.names) > 1 and self.regions is None
        return "channels" if apart else "labels"

    def maps(self, unit: Unit, frames: Sequence[str]) -> Maps:
        """(frame id, array) of some frames of a unit, in that order."""
        return (self.fused if self.probabilities else self.labels)(unit, frames)

    def labels(self, unit: Unit, frames: Sequence[str]) -> Maps:
        """Label maps, or what is made of them."""
        maps = self.ensemble.label_maps(unit.video, list(frames))
        for wanted, (frame, labels) in zip(frames, maps, strict=True):
            assert frame == wanted
            self.tick(unit.video, frame)
            yield frame, self._made(labels)

    def fused(self, unit: Unit, frames: Sequence[str]) -> Maps:
        """Probabilities float32 [C, H, W], a frame at a time."""
        for frame, fused in self.ensemble.probability_maps(unit.video, list(frames)):
            self.tick(unit.video, frame)
            yield frame, fused

    def _made(self, labels: np.ndarray) -> np.ndarray:
        made = labels
        if self.independent and self.regions is not None:
            made = composed(labels, self.regions)
        if self.stored is not None:
            made = np.asarray(self.stored(made))
        if self.independent and made.ndim == 3 and len(made) == 1:
            made = made[0]
        return made if self.stored is None else _checked(made, labels.shape[-2:])


def _checked(made: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    ids = made.shape == size and made.dtype in (np.uint8, np.uint16)
    if ids or (made.shape == (*size, 3) and made.dtype == np.uint8):
        return made
    wanted = f"give uint8 or uint16 {list(size)}, or colours uint8 {[*size, 3]}"
    raise InputError(f"stored: got {made.dtype} {list(made.shape)}; {wanted}")


def is_colours(array: np.ndarray, content: Content) -> bool:
    """Whether an array of a frame is [H, W, 3]."""
    return content.kind == "stored" and array.ndim == 3


def regions_of(
    compose: Mapping[str, int] | None, channels: Sequence[str] | None
) -> tuple[int, ...] | None:
    """An id for each channel, in their order, of compose: {name: id}.

    InputError: no channels, other names, ids outside 1..65535.
    """
    if compose is None:
        return None
    if channels is None:
        got = "classes of this ensemble exclude each other, there is nothing to compose"
        raise InputError(f"compose: {got}; leave it out")
    if unknown := [name for name in compose if name not in channels]:
        raise InputError(f"compose: no channel {unknown[0]!r}{did_you_mean(unknown[0], channels)}")
    if lacking := [name for name in channels if name not in compose]:
        do = "give every channel an id"
        raise InputError(f"compose: no id for {listed(lacking)}; {do}")
    ids = tuple(compose[name] for name in channels)
    whole = all(isinstance(n, int | np.integer) and 1 <= n <= 65535 for n in ids)
    if not whole or len(set(ids)) < len(ids):
        got = listed(f"{name}={n}" for name, n in compose.items())
        raise InputError(f"compose: got {got}; give each channel an id of its own, 1 to 65535")
    return tuple(map(int, ids))
