"""What predictions are multiplied by: a weight for each group, a multiplier for each class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fusion.errors import InputError
from fusion.kernels.arithmetic import normalised_multipliers
from fusion.text import did_you_mean, listed

Weights = Mapping[str, float] | None
Multipliers = Mapping[str, float] | Sequence[float] | None
SHOWN = 4  # multipliers in a repr


def checked_weights(groups: Mapping[str, Any], weights: Weights) -> dict[str, float]:
    """A weight for every group; InputError for what no weights can be."""
    if not isinstance(groups, Mapping) or not groups:
        raise InputError(f"groups: got {groups!r:.80}; give a dict of name -> list of stores")
    weights = {} if weights is None else weights
    if not isinstance(weights, Mapping):
        raise InputError(f"weights: got {weights!r:.80}; give a dict of group name -> number")
    unknown = sorted(set(weights) - set(groups))
    if unknown:
        raise InputError(f"weights: unknown group {unknown[0]!r}; the groups are {list(groups)}")
    try:
        full = {name: float(weights.get(name, 1.0)) for name in groups}
    except (TypeError, ValueError) as error:
        raise InputError(f"weights: {error}; give a number per group") from error
    bad = {name: value for name, value in full.items() if not math.isfinite(value) or value < 0}
    if bad or not any(full.values()):
        advice = "give finite numbers >= 0, at least one of them above 0"
        raise InputError(f"weights: got {bad or full}; {advice}")
    return full


def checked_multipliers(multipliers: Any, classes: Sequence[str]) -> dict[str, float] | None:
    """A multiplier for every class, from a mapping of all names or C numbers in their order.

    InputError: an unknown or missing class, a number that is not finite and above 0, or numbers
    further apart than a factor of 2^20.
    """
    if multipliers is None:
        return None
    if isinstance(multipliers, Mapping):
        unknown = [name for name in multipliers if name not in classes]
        if unknown:
            got = f"unknown class {unknown[0]!r}{did_you_mean(unknown[0], classes)}"
            raise InputError(f"multipliers: {got}")
        missing = [name for name in classes if name not in multipliers]
        if missing:
            do = "give a number above 0 for every class, 1 where nothing is to change"
            raise InputError(f"multipliers: no number for {listed(missing)}; {do}")
        multipliers = [multipliers[name] for name in classes]
    try:
        numbers = [float(number) for number in multipliers]
    except (TypeError, ValueError) as error:
        raise InputError(f"multipliers: {error}; give a number above 0 per class") from error
    pairs = zip(classes, numbers, strict=False)
    bad = {name: b for name, b in pairs if not (math.isfinite(b) and b > 0)}
    if bad:
        raise InputError(f"multipliers: got {bad}; give finite numbers above 0")
    try:
        normalised_multipliers(numbers, len(classes))
    except ValueError as error:
        raise InputError(str(error)) from error
    return dict(zip(classes, numbers, strict=True))


def said_factors(
    multipliers: Mapping[str, float] | None, thresholds: Mapping[str, float] | None
) -> str:
    """The classes whose multiplier is furthest from the others', or thresholds, for a repr."""
    if multipliers is None:
        return ""
    if thresholds is not None:
        said = (f"{name} {t:.3g}" for name, t in thresholds.items())
        return f"; thresholds {listed(said, SHOWN)}"
    middle = math.exp(math.fsum(map(math.log, multipliers.values())) / len(multipliers))
    relative = {name: number / middle for name, number in multipliers.items()}
    ranked = sorted(relative, key=lambda name: -abs(math.log(relative[name])))
    said = (f"{name} {relative[name]:.3g}" for name in ranked)
    return f"; multipliers {listed(said, SHOWN)}"
