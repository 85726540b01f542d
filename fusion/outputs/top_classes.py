"""The most probable classes of a pixel, and one shared rest."""

from __future__ import annotations

import numpy as np


def top_classes(probabilities: np.ndarray, count: int) -> np.ndarray:
    """A distribution whose classes beyond the largest share evenly what these leave.

    None of them gets more than the least that is kept, so classes keep their order.

    Args:
        probabilities: [C, ...] of a sum above 0.
        count: how many are kept as they are, of equal ones the lower.

    Returns:
        [C, ...] of the same dtype.
    """
    classes = len(probabilities)
    if count >= classes - 1:  # a rest of one class is that class
        return probabilities
    ranked = np.argsort(-probabilities, axis=0, kind="stable")
    rest = np.take_along_axis(probabilities, ranked[count:], axis=0)
    share = rest.sum(axis=0, dtype=np.float64) / (classes - count)
    kept = np.take_along_axis(probabilities, ranked[:count], axis=0)
    made = np.empty_like(probabilities)
    made[...] = np.minimum(share.astype(made.dtype), kept[-1])  # rounded, it may be one bit more
    np.put_along_axis(made, ranked[:count], kept, axis=0)
    return made
