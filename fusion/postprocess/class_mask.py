"""Classes that a video cannot have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

import torch

from fusion.errors import InputError
from fusion.postprocess.classes import class_ids
from fusion.postprocess.operation import MAPS, Operation, Stream, Video, parameter


@dataclass(frozen=True)
class ClassMask(Operation):
    """Probability 0 for classes that a video cannot have; the others' sum to 1 again.

    A pixel that has no other is uniform over the classes that are left.
    """

    name: ClassVar = "class-mask"
    about: ClassVar = "classes that a video cannot have, by the pattern of its id"
    stage: ClassVar = MAPS

    classes: tuple[str, ...] = parameter((), "that `videos` do not have")
    videos: tuple[str, ...] = parameter((), "patterns of ids such as night_*; none: all videos")
    absent: Mapping[str, Sequence[str]] = parameter(
        {}, "pattern of video ids -> classes that these do not have"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        lists = isinstance(self.absent, Mapping) and all(
            isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
            for names in self.absent.values()
        )
        if not lists:
            got = f"absent={self.absent!r:.60}"
            raise InputError(f"{self.name}: {got}; give {{PATTERN: [CLASS, ...]}}")
        plain = {str(pattern): tuple(names) for pattern, names in self.absent.items()}
        object.__setattr__(self, "absent", plain)

    def check(self, classes: Sequence[str], *, independent: bool) -> None:
        super().check(classes, independent=independent)
        if not self.classes and not any(self.absent.values()):
            raise InputError(f"{self.name}: no class; give classes, or absent")
        for names in (self.classes, *self.absent.values()):
            self._some_left(class_ids(self.name, names, classes), classes, independent)

    def missing(self, video: Video) -> list[int]:
        """Ids of the classes that a video does not have."""
        names = [*self.classes] if _matches(video.name, self.videos or ("*",)) else []
        for pattern, some in self.absent.items():
            names += some if _matches(video.name, (pattern,)) else ()
        found = sorted(set(class_ids(self.name, names, video.classes)))
        self._some_left(found, video.classes, video.independent, f" of video {video.name!r}")
        return found

    def _some_left(
        self, found: Sequence[int], classes: Sequence[str], independent: bool, where: str = ""
    ) -> None:
        if len(set(found)) == len(classes) and not independent:
            raise InputError(f"{self.name}: all classes{where} are masked; leave one")

    def apply(self, stream: Stream, video: Video) -> Stream:
        missing = self.missing(video)
        left = torch.ones(len(video.classes), 1, 1)
        left[missing] = 0
        for frame in stream:
            if not missing:
                yield frame
                continue
            there = left.to(frame.values.device)
            values = frame.values * there
            if not video.independent:
                mass = values.sum(0, keepdim=True)
                values = torch.where(mass == 0, there / left.sum(), values / mass)
            yield frame.having(values)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
