"""What an ensemble's stores share: classes, image sizes and (by id, never by position) frames."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real

from fusion.errors import InputError
from fusion.kernels.numbers import TEMPERATURES, is_temperature
from fusion.stores import Store

Stores = Sequence[Store]
Ids = tuple[str, ...]


def common_classes(stores: Stores) -> tuple[tuple[str, ...], bool]:
    """The one class list of all stores, and whether these are independent channels.

    InputError names the first difference.
    """
    first = stores[0]
    odd = next((store for store in stores if store.channels != first.channels), None)
    if odd is not None:
        got = f"values {odd.values!r}, in {first.place} {first.values!r}"
        do = "independent channels fuse with their like alone"
        raise InputError(f"{odd.place}: {got}; {do}")
    other = next((store for store in stores if store.classes != first.classes), None)
    if other is not None:
        how = f"{len(other.classes)} classes, {first.place} has {len(first.classes)}"
        if len(other.classes) == len(first.classes):
            pairs = enumerate(zip(other.classes, first.classes, strict=True))
            at, (ours, theirs) = next(pair for pair in pairs if len(set(pair[1])) > 1)
            how = f"class {at} is {ours!r}, in {first.place} {theirs!r}"
        raise InputError(f"{other.place}: {how}; write all stores with one class list in one order")
    return first.classes, first.channels


def common_frames(stores: Stores, *, strict: bool) -> tuple[dict[str, Ids], dict[str, list[str]]]:
    """Frame ids by video that all stores have, and who lacks what was left out.

    Args:
        stores: M.
        strict: anything that one store has and another lacks is an InputError.

    Returns:
        The frames, and paths of the lacking stores by video, or "video (count frames)".
    """
    kept: dict[str, Ids] = {}
    left_out: dict[str, list[str]] = {}
    for video in sorted({video for store in stores for video in store.videos}):
        lacking = [store for store in stores if video not in store.videos]
        if lacking and strict:
            raise _incomplete(lacking[0], f"has no video {video!r}, other stores have it")
        if lacking:
            left_out.setdefault(video, []).extend(store.place for store in lacking)
            continue
        sets = {store: set(store.frames(video)) for store in stores}
        common = set.intersection(*sets.values())
        for store, frames in sets.items():
            extra = frames - common
            if extra and strict:
                other = next(s for s in stores if not extra <= sets[s])
                what = f"lacks frame {min(extra - sets[other])!r} that {store.place} has"
                raise _incomplete(other, f"video {video!r} {what}")
            if extra:
                left_out.setdefault(f"{video} ({len(extra)} frames)", []).append(store.place)
        _check_size(video, stores)
        if common:  # in the order of the first store
            kept[video] = tuple(frame for frame in stores[0].frames(video) if frame in common)
    if not kept:
        share = f"the {len(stores)} stores share no video and frame"
        raise InputError(f"{stores[0].place}: {share}; check that they are of one split")
    return kept, left_out


def _incomplete(store: Store, message: str) -> InputError:
    return InputError(f"{store.place}: {message}; predict it too, or use align='intersect'")


def _check_size(video: str, stores: Stores) -> None:
    first = stores[0].describe(video).size
    for store in stores:
        size = store.describe(video).size
        if size != first:
            got = f"of {size[0]}x{size[1]} images, in {stores[0].place} of {first[0]}x{first[1]}"
            raise InputError(f"{store.place}: video {video!r} is {got}; write both with one size=")


def store_temperatures(stores: Stores, given: Mapping[str, float]) -> dict[Store, float]:
    """T of every store, default 1; `given` names them by path, file name or model name."""
    found = dict.fromkeys(stores, 1.0)
    for key, value in given.items():
        fits = [store for store in stores if store.is_called(key)]
        if not fits:
            advice = "use its path, file name or model name"
            raise InputError(f"temperatures: {key!r} names no store of the ensemble; {advice}")
        found |= dict.fromkeys(fits, _temperature(key, value))
    return found


def _temperature(key: str, value: object) -> float:
    plain = isinstance(value, Real) and not isinstance(value, bool) and value < 1e30
    number = float(value) if plain else math.nan  # type: ignore[arg-type]
    if not is_temperature(number):
        raise InputError(f"temperatures: {key!r} is {value!r:.80}; give a number {TEMPERATURES}")
    return number
