"""Folds: one shuffle of things to hold out, dealt like cards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def dealt(items: Sequence[Item], folds: int, seed: int) -> list[list[Item]]:
    """Every item in one of `folds`, 1 or more, by a seeded shuffle; sizes differ by one at most."""
    order = np.random.default_rng(seed).permutation(len(items))
    return [[items[place] for place in order[fold::folds]] for fold in range(folds)]
