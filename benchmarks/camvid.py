"""camvid22 as problems of a search: groups of its 22 networks, condensed over all ten clips.

What is chosen on some of the clips is then scored on others without a pixel being read again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fusion import kernels
from fusion.contested import Builder, Condensed, condense
from fusion.metrics import Scores
from fusion.search.folds import only
from fusion.search.formation import auto_groups
from fusion.search.method import Problem

Groups = Mapping[str, Sequence[str]]
MISSING = "SEGFUSION_DATA names no folder with its files"


@dataclass(frozen=True)
class Clips:
    """The folder that SEGFUSION_DATA names.

    stride: scores at an s-th of the labels' size, by the label in the middle. reach: of
    multipliers. made: condensed groups so far.
    """

    folder: Path
    stride: int = 4
    reach: float = 4.0
    made: dict[Any, Condensed] = field(default_factory=dict)

    @classmethod
    def there(cls, **how: Any) -> Clips | None:
        """None without the data."""
        folder = Path(os.environ.get("SEGFUSION_DATA", ""))
        return cls(folder, **how) if (folder / "meta.json").is_file() else None

    @cached_property
    def meta(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads((self.folder / "meta.json").read_text())
        return read

    @property
    def clips(self) -> list[str]:
        return list(self.meta["videos"])

    @cached_property
    def frames(self) -> dict[str, list[tuple[dict[str, torch.Tensor], np.ndarray]]]:
        """By clip: codes [C, h, w] of every network, and targets [H, W], of every frame."""
        networks, made = {n: np.load(self.folder / f"{n}.npz") for n in self.meta["models"]}, {}
        for clip, names in self.meta["videos"].items():
            codes = {name: torch.from_numpy(network[clip]) for name, network in networks.items()}
            paths = [self.folder / "labels" / clip / f"{frame}.png" for frame in names]
            made[clip] = [
                ({name: each[t] for name, each in codes.items()}, np.array(Image.open(path)))
                for t, path in enumerate(paths)
            ]
        return made

    @cached_property
    def singles(self) -> dict[str, Scores]:
        """Of every network alone."""
        found = {}
        for name in self.meta["models"]:
            pixels = self.condensed({name: [name]})
            matrices = pixels.confusion([1.0])
            found[name] = Scores(dict(zip(pixels.videos, matrices, strict=True)), pixels.classes)
        return found

    def groups(self, clips: Sequence[str]) -> Groups:
        """The three groups that these clips form."""
        miou = {name: only(scores, clips).score for name, scores in self.singles.items()}
        basic = [name for name in miou if name.startswith("espnet")]
        other = [name for name in miou if name not in basic]
        return auto_groups(basic, other, miou)

    def formed(self, clips: Sequence[str]) -> Problem:
        """The problem over all clips whose groups are formed on these."""
        return self.problem(self.groups(clips))

    def problem(self, groups: Groups, reach: float | None = None) -> Problem:
        """Over all clips, with multipliers within reach (that of these clips by default)."""
        reach = reach or self.reach
        wide = self.condensed(groups, reach)
        return Problem(self.condensed(groups), wide=wide, reach=reach)

    def condensed(self, groups: Groups, reach: float = 1.0) -> Condensed:
        """Groups over all clips."""
        key = tuple((name, *members) for name, members in groups.items())
        if (reach, key) not in self.made:
            self.made[reach, key] = self._condensed(groups, reach)
        return self.made[reach, key]

    def _condensed(self, groups: Groups, reach: float) -> Condensed:
        members = [name for group in groups.values() for name in group]
        places = iter(range(len(members)))
        index, step = [[next(places) for _ in group] for group in groups.values()], self.stride
        names = self.meta["classes"]
        builder, middle = Builder(tuple(groups), names), slice(step // 2, None, step)
        for clip, frames in self.frames.items():
            for codes, target in frames:
                labels = np.ascontiguousarray(target[middle, middle])
                given = [codes[name] for name in members], [1.0] * len(groups), labels.shape
                how: dict[str, Any] = {"groups": index, "outputs": ("group_means",)}
                means = kernels.upsample_softmax_average(*given, **how).group_means
                assert means is not None
                what = means.numpy(), labels, len(names)
                builder.append(clip, condense(*what, ignore=255, video=clip, reach=reach))
        return replace(builder.finish(), reach=reach)
