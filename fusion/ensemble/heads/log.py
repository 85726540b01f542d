"""A weight for every unit and class: S_c = b_c + sum_u w_uc log P_uc."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fusion.ensemble.heads.base import Arrays, Floats, Head

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Log(Head):
    """Parameters: weight [U, C], bias [C]; below it is the geometric mean."""

    name: ClassVar = "log"
    about: ClassVar = "a weight for every unit and class over log-probabilities"
    below: ClassVar = None
    sizes: ClassVar = {"weight": "UC", "bias": "C"}

    @classmethod
    def start(cls, units: int, classes: int, below: Arrays | None) -> dict[str, Floats]:
        weight = np.full((units, classes), 1 / units, np.float32)
        return {"weight": weight, "bias": np.zeros(classes, np.float32)}

    @property
    def mixing(self) -> Floats:
        return self.arrays["weight"]

    @staticmethod
    def scores(arrays: Mapping[str, Tensor], logs: Tensor) -> Tensor:
        return (logs * arrays["weight"]).sum(dim=1) + arrays["bias"]
