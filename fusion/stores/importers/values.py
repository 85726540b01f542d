"""Whether numbers can be what they are said to be. Refuses contradictions; decides nothing."""

from __future__ import annotations

import numpy as np

from fusion.errors import InputError

CLOSE = 1e-3  # how near to 1 the sums of softmax outputs come that were kept in float16
FAR = 1e-2  # what no rounding explains


def check_values(
    array: np.ndarray,
    values: str,
    *,
    told: bool,
    normalise: bool = False,
    first: bool = True,
    step: float = 0.0,
) -> None:
    """InputError where numbers contradict what they were said to be; says not where they lie.

    Args:
        array: [C, h, w] floats; NaN is left to the writer.
        values: one of `fusion.stores.format.VALUES`.
        told: whether somebody said so, a person or the format, or it was assumed.
        normalise: whether probabilities may sum to something else than 1.
        first: whether it is a video's first frame, at which logits are looked at.
        step: of the numbers, where they were rounded.
    """
    if array.ndim != 3 or array.dtype.kind != "f" or not array.size:
        return  # the writer says what is wrong with it
    if values == "probabilities" and not normalise:
        _check_range(array, 1 + FAR, "logits")
        _check_sums(array, FAR + len(array) * step / 2)
    elif values == "sigmoid-probabilities":
        _check_range(array, 1.0, "sigmoid")
    elif values in ("logits", "sigmoid") and first:
        _check_logits(array, values, told=told)


def _check_range(array: np.ndarray, most: float, other: str) -> None:
    outside = (array < 0) | (array > most)
    if outside.any():
        place = np.argwhere(outside)[0]
        found = f"{int(outside.sum())} of {array.size} numbers lie outside 0..1, the first"
        where = f"{array[tuple(place)]:.6g} at [class, y, x] = {place.tolist()}"
        raise InputError(f"{found} {where}; write logits with values='{other}'")


def _check_sums(array: np.ndarray, most: float) -> None:
    total = array.sum(axis=0, dtype=np.float32)
    off = np.abs(total - 1) > most
    if off.any():
        place = np.argwhere(off)[0]
        found = f"probabilities sum to something else than 1 at {int(off.sum())} of {off.size}"
        where = f"pixels, to {total[tuple(place)]:.6g} at the first, [y, x] = {place.tolist()}"
        one = "values='sigmoid-probabilities'"
        say = f"say {one} where classes are independent, or normalise=True to divide by the sum"
        raise InputError(f"{found} {where}; {say}")


def _check_logits(array: np.ndarray, values: str, *, told: bool) -> None:
    single = len(array) == 1
    if single and values == "logits" and not told:
        say = "say values='sigmoid' for its logits, values='sigmoid-probabilities' for 0..1"
        raise InputError(f"there is one class, of which a softmax is 1 everywhere; {say}")
    if not (array.min() >= 0 and array.max() <= 1):
        return
    inside = "all numbers lie within 0..1"
    if values == "sigmoid":
        say = "give them as values='sigmoid-probabilities'"
        raise InputError(f"{inside}, where logits decide for every class at every pixel; {say}")
    if not single and np.abs(array.sum(axis=0, dtype=np.float32) - 1).max() <= CLOSE:
        say = "give them as values='probabilities'"
        raise InputError(f"{inside} and sum to 1 at every pixel, so they are no logits; {say}")
    if not told:
        say = "say values='sigmoid-probabilities' or values='logits', whichever they are"
        raise InputError(f"{inside} but do not sum to 1 at every pixel; {say}")
