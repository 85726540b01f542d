"""Contested pixels: which can change their label under some weighting, and their labels under many.

Class d *dominates* class c at a pixel when no weights w >= 0 can make c the label in the float32
arithmetic of fusion.kernels.arithmetic:

    d < c:  P_gd >= P_gc in every group. Every rounded operation of F is monotone, so F_d >= F_c,
            and the lower class wins ties.
    d > c:  P_gd >= raise(P_gc) in every group, raise(x) = x (1 + (G + 2) 2^-20) + 2^-100. Here
            F_d > F_c must hold strictly, or the lower class would win the tie that rounding made.
            G products and G - 1 sums, each off by at most a factor 1 +- u (u = 2^-24) and, where
            they underflow, by 2^-126, turn S = sum_g w_g P_g into F with S (1 - u)^G - G 2^-126
            <= F <= S (1 + u)^G + G 2^-126. The normalised weights sum to 1 within G u. So
            S_d >= S_c (1 + (G + 2) 2^-20) (1 - 2u) + 2^-101 leaves F_d > F_c with room:
            ((1 + u) / (1 - u))^G is below 1 + 3 G u, and 2^-101 above 3 G 2^-126 (G < 2^23).

With class multipliers b in [1/r, r] class d dominates class c where P_gd >= r^2 raise(P_gc) in
every group, whichever is lower: r^2 = `ratio` is the most by which b_c / b_d can help c. The factor
of raise has room for the roundings of b and of b F too; its 2^-100 is multiplied by r^2 as well,
which makes up for b_d.

Dominated classes cannot win, so dropping all of them leaves every label as it was; groups of weight
zero add +0 and change nothing, because scores are finite and not negative. A pixel with one
undominated class is *uncontested* and only counted.

naive.py says what is computed, cpu.py and triton.py return the same numbers faster; layout.py holds
the arrays. Shape letters: G groups, C classes, P pixels, B weight vectors, V videos.
Source: the weighted sum of "5th Place Solution for VSPW 2021 Challenge", equation 1; lines that
never reach the upper envelope are dropped as in minimum error rate training (Macherey et al. 2008).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fusion.kernels.backends import choose
from fusion.kernels.contested.layout import Block, Floats, Ints, Parts
from fusion.kernels.contested.naive import BadPixel
from fusion.kernels.numbers import MOST_RATIO, as_read

if TYPE_CHECKING:
    from torch import Tensor

    from fusion.kernels.contested.triton import DeviceParts

__all__ = ["BadPixel", "Block", "Parts", "condense", "count", "on_device"]


def condense(
    means: Floats | Tensor, targets: NDArray[np.uint16], ignore: int, ratio: float = 1.0
) -> Block:
    """Drops from every pixel the classes that cannot win under any weights and multipliers.

    Args:
        means: float32 [G, C, P] in C order, the groups' probabilities; as a tensor, on a GPU.
        targets: uint16 [P].
        ignore: target of the pixels that do not count, whatever their scores.
        ratio: the most by which two multipliers may differ, 1 to 2^20; 1 where there are none.

    Raises:
        ValueError: shapes or types that do not fit.
        BadPixel: a counted pixel whose target is no class, or whose scores are not in 0..1.
    """
    shape, kinds = tuple(means.shape), (str(means.dtype).removeprefix("torch."), str(targets.dtype))
    fits = len(shape) == 3 and shape[0] and 0 < shape[1] < 1 << 16 and shape[2:] == targets.shape
    if not fits or kinds != ("float32", "uint16"):
        got = f"means {kinds[0]} {list(shape)}, targets {kinds[1]} {list(targets.shape)}"
        raise ValueError(f"condense: {got}; give float32 [G, C, P] and uint16 [P]")
    if not 1 <= ratio <= MOST_RATIO:
        raise ValueError(f"condense: ratio {ratio}; give one from 1 to 2^20")
    targets = as_read(targets, np.uint16)
    if not isinstance(means, np.ndarray):
        return choose("contested", "cuda").condense(means, targets, ignore, ratio)
    return choose("contested").condense(as_read(means, np.float32), targets, ignore, ratio)


def on_device(parts: Parts, device: str) -> Parts | DeviceParts:
    """Contested pixels where calls of `count` are to find them, "cpu" or a GPU."""
    return parts if device == "cpu" else choose("contested", "cuda").upload(parts, device)


def count(
    parts: Parts | DeviceParts,
    weights: Floats,
    classes: int,
    *,
    videos: int = 1,
    matrix: bool = True,
    multipliers: Floats | None = None,
) -> Ints:
    """Labels of contested pixels under many weight vectors, on the device of the pixels.

    Args:
        parts: the pixels, each run with its video's index.
        weights: float32 [B, G], normalised.
        classes: C.
        videos: V; 1 adds the pixels of all videos up.
        matrix: whether to count whole matrices, or only intersections and predictions.
        multipliers: float32 [B, C], normalised; None is all ones.

    Returns:
        int64 [V, B, C, C], rows targets; without `matrix` [V, B, 2, C], the intersections and the
        predictions of each class.

    Raises:
        ValueError: pixels that do not go with the groups, classes or videos; other shapes.
    """
    weights = as_read(weights, np.float32)
    if weights.ndim != 2 or videos < 1:
        raise ValueError(f"count: weights {list(weights.shape)}, {videos} videos; give [B, G], V")
    if multipliers is not None:
        multipliers = as_read(multipliers, np.float32)
        if multipliers.shape != (len(weights), classes):
            got = f"multipliers {list(multipliers.shape)}"
            raise ValueError(f"count: {got}; expected {[len(weights), classes]}")
    backend = choose("contested", "cpu" if isinstance(parts, Parts) else "cuda")
    if isinstance(parts, Parts):
        parts.check(weights.shape[1], classes)
        strange = [video for video, _ in parts.runs if videos > 1 and not 0 <= video < videos]
        if strange:
            raise ValueError(f"a run of video {strange[0]} where there are {videos}")
    how = {"videos": videos, "matrix": matrix, "multipliers": multipliers}
    return backend.count(parts, weights, classes, **how)
