"""Independent channels (sigmoid), each a problem of two classes: "not c" is 2c, "c" is 2c + 1.

A pixel of C channels is scored as C pixels of 2C classes, each with two candidates, 1 - P_c and
P_c. So confusion matrices, objectives, contested pixels and every search serve channels as they
are; and a class multiplier is a threshold: b_c F_c > b_not (1 - F_c) where F_c > t_c,

    t_c = b_not / (b_not + b_c)

Exactly at a threshold a channel is not there, as argmax takes the lower class. Objectives are over
the classes 2c + 1: the IoU or Dice of what is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fusion.ensemble.factors import Multipliers
from fusion.errors import InputError
from fusion.kernels.numbers import NARROW_VOID, void_label
from fusion.text import did_you_mean

NOT = "not "
Thresholds = Mapping[str, float] | Sequence[float] | float | None


def outcome_names(channels: Sequence[str]) -> tuple[str, ...]:
    """The 2C classes of C channels; InputError where two have one name."""
    names = tuple(name for channel in channels for name in (NOT + channel, channel))
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"classes: {twice!r} is also how the absence of another is called; rename")
    return names


def outcomes(masks: np.ndarray) -> np.ndarray:
    """Masks [C, ...] of 0, 1 and void 255 as ids of the 2C classes and their void label."""
    void = void_label(2 * len(masks))
    wide = masks.astype(np.min_scalar_type(void))
    wide += np.arange(0, 2 * len(masks), 2, dtype=wide.dtype).reshape(-1, *(1,) * (masks.ndim - 1))
    wide[masks == NARROW_VOID] = void
    return wide


def with_thresholds(
    multipliers: Multipliers, thresholds: Thresholds, channels: Sequence[str] | None
) -> Multipliers:
    """The multipliers that were given, or those that decide at the thresholds that were.

    InputError: both, or thresholds of classes that exclude each other (channels: None).
    """
    if thresholds is None:
        return multipliers
    if channels is None:
        do = "give multipliers=, or values='sigmoid' where they do not"
        raise InputError(f"thresholds: these classes exclude each other; {do}")
    if multipliers is not None:
        raise InputError("thresholds: got multipliers beside them; give one of the two")
    return multipliers_at(thresholds, channels)


def multipliers_at(thresholds: Thresholds, channels: Sequence[str]) -> dict[str, float] | None:
    """Multipliers of the 2C classes that decide at these thresholds.

    Args:
        thresholds: above 0 and below 1, of all channels (one number, or C in their order) or of
            some by name; others are at 0.5.
        channels: C names.

    Raises:
        InputError: an unknown channel, or a number outside 0..1.
    """
    if thresholds is None:
        return None
    if isinstance(thresholds, Mapping):
        if unknown := [name for name in thresholds if name not in channels]:
            near = did_you_mean(unknown[0], channels)
            raise InputError(f"thresholds: unknown class {unknown[0]!r}{near}")
        given: list[Any] = [thresholds.get(name, 0.5) for name in channels]
    elif isinstance(thresholds, (int, float)):
        given = [thresholds] * len(channels)
    else:
        given = list(thresholds)
    sound = len(given) == len(channels) and all(
        isinstance(t, (int, float, np.number)) and 0 < t < 1 for t in given
    )
    if not sound:
        do = f"give {len(channels)} numbers above 0 and below 1, or one for all"
        raise InputError(f"thresholds: got {thresholds!r:.80}; {do}")
    pairs = (pair for t in given for pair in (float(t), 1.0 - float(t)))
    return dict(zip(outcome_names(channels), pairs, strict=True))


def thresholds_of(
    multipliers: Mapping[str, float] | None, channels: Sequence[str]
) -> dict[str, float]:
    """What the multipliers of the 2C classes say, by channel; 0.5 without them."""
    if multipliers is None:
        return dict.fromkeys(channels, 0.5)
    numbers = list(multipliers.values())
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return {name: off / (off + on) for name, (off, on) in zip(channels, pairs, strict=True)}


def composed(masks: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """One label map of overlapping regions, painted in the order of the channels.

    nnU-Net's `regions_class_order`: label l_0 where region 0 is, then l_1 over it where region 1
    is, and so on; 0 elsewhere.

    Args:
        masks: [C, ...] of 0 and 1, or [T, C, H, W].
        labels: C ids in the order of the channels.

    Returns:
        [...] or [T, H, W], uint8, or uint16 for ids beyond 255.

    Raises:
        InputError: another number of ids than of channels.
    """
    planes = np.moveaxis(masks, 1, 0) if masks.ndim == 4 else masks
    if len(planes) != len(labels) or min(labels, default=-1) < 0:
        got = f"{len(labels)} labels {list(labels)!r:.60} for {len(planes)} regions"
        raise InputError(f"regions: {got}; give an id for each, in their order")
    painted = np.zeros(planes.shape[1:], np.min_scalar_type(max(labels)))
    for plane, label in zip(planes, labels, strict=True):
        painted[plane == 1] = label
    return painted
