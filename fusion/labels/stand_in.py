"""Label maps in memory: stands in for `Labels.from_arrays` where that is not there yet.

`fusion.arrays` takes `Labels.from_arrays` as soon as it exists; this file then goes, whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fusion.errors import InputError
from fusion.kernels.numbers import void_label
from fusion.labels.labels import Labels
from fusion.text import did_you_mean, listed


@dataclass(frozen=True)
class ArrayLabels(Labels):
    """Labels whose maps are arrays."""

    maps: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict, compare=False)

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, np.ndarray], *, frames: Mapping[str, Sequence[str]]
    ) -> ArrayLabels:
        """Labels of units [T, H, W], or [T, C, H, W] of channels, whose frames have these ids."""
        maps = {unit: dict(zip(frames[unit], clip, strict=True)) for unit, clip in arrays.items()}
        return cls(Path("memory"), tuple(arrays), maps=maps)

    def frames(self, video: str) -> list[str]:
        return list(self._maps(video))

    def path(self, video: str, frame: str) -> Path:
        raise InputError(f"labels: video {video!r} lies in memory, not in a file")

    def size(self, video: str, frame: str | None = None) -> tuple[int, int]:
        first = next(iter(self._maps(video).values())) if frame is None else self._of(video, frame)
        return first.shape[-2], first.shape[-1]

    def raw(self, video: str, frame: str, *, classes: int | None = None) -> np.ndarray:
        return self._of(video, frame)

    def read(
        self,
        video: str,
        frame: str,
        *,
        classes: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> np.ndarray:
        labels, void = self._of(video, frame), void_label(classes)
        limit = void if classes is None else classes
        outside = (labels >= limit) & (labels != void)
        if outside.any():
            wrong = f"holds {listed(np.unique(labels[outside]))} outside 0..{limit - 1}"
            raise InputError(f"labels: video {video!r}, frame {frame!r} {wrong}; correct it")
        if size is not None and labels.shape != tuple(size):
            got = f"is {list(labels.shape)} [H, W], expected {list(size)}"
            raise InputError(f"labels: video {video!r}, frame {frame!r} {got}")
        return labels

    def channels(self, video: str, frame: str, names: Sequence[str]) -> np.ndarray:
        """Masks [C, H, W] of 0, 1 and void 255."""
        return self._of(video, frame)

    def digest(
        self, videos: Iterable[str] | None = None, frames: Mapping[str, Sequence[str]] | None = None
    ) -> str:
        total = hashlib.sha256(b"arrays")
        for video in sorted(self.videos if videos is None else videos):
            for frame in sorted(self.frames(video) if frames is None else frames[video]):
                array = self._of(video, frame)
                total.update(f"{video!r} {frame!r} {array.dtype} {array.shape}\n".encode())
                total.update(array.tobytes())
        return total.hexdigest()

    def _maps(self, video: str) -> Mapping[str, Any]:
        if video not in self.maps:
            near = did_you_mean(video, self.videos, cutoff=0.5)
            raise InputError(f"labels: no video {video!r}{near}")
        return self.maps[video]

    def _of(self, video: str, frame: str) -> np.ndarray:
        maps = self._maps(video)
        if frame not in maps:
            near = did_you_mean(frame, maps, cutoff=0.5)
            raise InputError(f"labels: video {video!r} has no frame {frame!r}{near}")
        return maps[frame]
