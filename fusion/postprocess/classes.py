"""Parameters that name classes: checked where classes are known, and spelled out for each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fusion.errors import InputError
from fusion.text import did_you_mean

ByClass = Mapping[str, float] | Sequence[float]  # class name -> number, or one each in their order


def class_ids(what: str, names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Ids of classes; InputError names one that there is not.

    Args:
        what: operation and parameter, for the error.
        names: of some classes.
        classes: names of all, in order.
    """
    for name in names:
        if name not in classes:
            raise InputError(f"{what}: no class {name!r}{did_you_mean(str(name), classes)}")
    return [classes.index(name) for name in names]


def by_class(
    what: str, given: ByClass, classes: Sequence[str], usual: float, low: float, high: float
) -> list[float]:
    """A number for each of C classes.

    Args:
        what: operation and parameter, for errors.
        given: of some classes by name, or of all in their order.
        classes: names of all.
        usual: of the others.
        low, high: both allowed.

    Raises:
        InputError: no such class, another number of them, or numbers out of range.
    """
    if not isinstance(given, Mapping):
        if len(given) not in (0, len(classes)):
            raise InputError(f"{what}: got {len(given)} numbers for {len(classes)} classes")
        given = dict(zip(classes, given, strict=False))
    class_ids(what, list(given), classes)
    for name, value in given.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and low <= value <= high):
            ends = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
            raise InputError(f"{what}: got {value!r:.40} for {name!r}; give a number, {ends}")
    return [float(given.get(name, usual)) for name in classes]
