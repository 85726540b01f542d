"""Predictions on their way into a store: the one place of this room that writes.

A unit (a video, a single image, a 3D case) is committed whole. Nobody says beforehand how many
frames it has, so they are held until the next unit's first one arrives, or the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fusion.errors import InputError
from fusion.stores import LogitStore, LogitWriter, PackWriter

Size = tuple[int, int]


@dataclass
class _Unit:
    name: str
    size: Size | None
    geometry: Mapping[str, Any] | None = None
    frames: list[str] = field(default_factory=list)
    predictions: Any = field(default_factory=list)  # as many


class Units:
    """Fills a store unit by unit; as a context, what is whole is committed even after an error.

    Args:
        path: the store.
        classes: C names in channel order.
        pack: many single images in one file; they are committed together, `finish` is a must.
        store: more of `LogitWriter`: profile, values, model, provenance.
    """

    def __init__(
        self, path: str | Path, classes: Sequence[str], *, pack: bool = False, **store: Any
    ) -> None:
        self._writer = LogitWriter(path, classes, **store)
        self.path = Path(path)
        self._there = frozenset(LogitStore(path).videos)
        self._seen: set[str] = set()
        self._unit: _Unit | None = None  # whose frames are arriving
        self._packs = pack
        self._pack: PackWriter | None = None
        self._ending = ExitStack()

    def __enter__(self) -> Units:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()
        else:
            self.abandon()

    def committed(self, unit: str) -> bool:
        """Whether a unit was in the store at the start: it needs no predictions."""
        return unit in self._there

    def add(self, unit: str, frame: str | None, prediction: Any, size: Size | None = None) -> None:
        """Adds a frame, [C, h, w] floats; None of a committed unit. No frame id: a single image.

        InputError: the unit was left and comes again, or its frames' images differ in size; also
        what the writer says of numbers and ids.
        """
        if self._unit is None or self._unit.name != unit or frame is None:
            self._begin(_Unit(unit, size))
        now = self._unit
        assert now is not None
        if size != now.size and not self.committed(unit):
            got = f"frames of images {now.size} and {size} (height, width)"
            raise InputError(f"unit {unit!r}: {got}; all frames of a unit have one size")
        now.frames.append(unit if frame is None else frame)
        if not self.committed(unit):
            # held until the unit ends: nobody may write into it until then
            now.predictions.append(prediction if frame is None else _copy(prediction))
        if frame is None:
            self._commit()

    def add_whole(
        self,
        unit: str,
        frames: Sequence[str],
        predictions: Iterable[Any],
        size: Size | None = None,
        geometry: Mapping[str, Any] | None = None,
    ) -> None:
        """Commits a unit of as many frames as predictions [C, h, w], and its place in the world."""
        self._begin(_Unit(unit, size, geometry, list(frames), predictions))
        self._commit()

    def finish(self) -> None:
        """Commits the unit that is open; the end."""
        with self._ending:
            self._commit()

    def abandon(self) -> None:
        """Drops the unit that is open, which may lack frames; whole ones stay. The end."""
        self._unit = None
        self._ending.close()

    def _begin(self, unit: _Unit) -> None:
        self._commit()
        if unit.name in self._seen:
            got = "comes again after others, or twice"
            advice = "keep the frames of a unit together and its id unique (shuffle=False)"
            raise InputError(f"unit {unit.name!r}: {got}; {advice}")
        self._seen.add(unit.name)
        self._unit = unit

    def _commit(self) -> None:
        unit, self._unit = self._unit, None
        if unit is None:
            return
        goal = self._packed() if self._packs and len(unit.frames) == 1 else self._writer
        how: dict[str, Any] = {"size": unit.size, "geometry": unit.geometry}
        with goal.video(unit.name, frames=unit.frames, **how) as out:
            out.extend(unit.predictions)

    def _packed(self) -> PackWriter:
        if self._pack is None:
            self._pack = self._ending.enter_context(self._writer.pack())
        return self._pack


def _copy(prediction: Any) -> Any:
    if hasattr(prediction, "detach"):
        return prediction.detach().to("cpu", copy=True)
    return np.array(prediction)
