"""Mixing for many classes: W_u = diag(w_u) + A_u B^T, of rank R beside the diagonal.

B says which R mixtures of classes are looked at, the same in all units, and A_u what a unit makes
of them: 22 units of 124 classes have 48,000 parameters where full mixing has 338,000.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fusion.ensemble.heads.base import Arrays, Floats, Head
from fusion.ensemble.heads.log import Log

if TYPE_CHECKING:
    from torch import Tensor

RANK, SEED = 16, 0


@dataclass(frozen=True, eq=False, repr=False)
class LowRank(Head):
    """Parameters: weight [U, C], left A [U, C, R], right B [C, R], bias [C]."""

    name: ClassVar = "lowrank"
    about: ClassVar = "mixing of low rank, for many classes"
    below: ClassVar = "log"
    sizes: ClassVar = {"weight": "UC", "left": "UCR", "right": "CR", "bias": "C"}
    strengths: ClassVar = (0.1, 0.03, 0.01)
    classes_first: ClassVar = True

    @classmethod
    def start(cls, units: int, classes: int, below: Arrays | None) -> dict[str, Floats]:
        small, rank = below or Log.start(units, classes, None), min(RANK, classes)
        # orthonormal columns; A alone is zero, so that the gradient can leave this point
        drawn = np.random.default_rng(SEED).standard_normal((classes, rank))
        right = np.linalg.qr(drawn)[0].astype(np.float32)
        left = np.zeros((units, classes, rank), np.float32)
        return {"weight": small["weight"], "left": left, "right": right, "bias": small["bias"]}

    @property
    def mixing(self) -> Floats:
        diagonal = self.arrays["weight"][:, :, None] * np.eye(len(self.classes), dtype=np.float32)
        return diagonal + self.arrays["left"] @ self.arrays["right"].T

    @staticmethod
    def scores(arrays: Mapping[str, Tensor], logs: Tensor) -> Tensor:
        left = arrays["left"].transpose(1, 2).flatten(0, 1)
        mixed = (logs.flatten(0, 1) @ arrays["right"]).view(len(logs), -1) @ left
        return mixed + Log.scores(arrays, logs)

    def scaled(self, factor: float) -> Arrays:
        return {**super().scaled(factor), "right": self.arrays["right"]}  # A B^T once, not twice
