"""Every class looks at every class of every unit: S_c = b_c + sum_u sum_k W_uck log P_uk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fusion.ensemble.heads.base import Arrays, Floats, Head
from fusion.ensemble.heads.log import Log

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Mix(Head):
    """Parameters: weight [U, C, C] as [unit, class of the score, class of the unit], bias [C]."""

    name: ClassVar = "mix"
    about: ClassVar = "every class looks at every class of every unit"
    below: ClassVar = "log"
    sizes: ClassVar = {"weight": "UCC", "bias": "C"}
    strengths: ClassVar = (0.1, 0.03, 0.01)

    @classmethod
    def start(cls, units: int, classes: int, below: Arrays | None) -> dict[str, Floats]:
        small = below or Log.start(units, classes, None)
        return {
            "weight": small["weight"][:, :, None] * np.eye(classes, dtype=np.float32),
            "bias": small["bias"],
        }

    @property
    def mixing(self) -> Floats:
        return self.arrays["weight"]

    @staticmethod
    def scores(arrays: Mapping[str, Tensor], logs: Tensor) -> Tensor:
        weight = arrays["weight"].transpose(1, 2).flatten(0, 1)
        return logs.flatten(1) @ weight + arrays["bias"]
