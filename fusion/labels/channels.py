"""Targets of independent channels (sigmoid): uint8 [C, H, W] of 0, 1 and void 255.

H W pixels, C channels. They come from arrays of channels, from a binary mask (C = 1), or from ids
and colours by a class map: regions, bits, or one channel a class.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError
from fusion.kernels.numbers import NARROW_VOID, void_label
from fusion.labels.class_map import ClassMap
from fusion.labels.lookup import Array, Lookup, Value, counted, pack
from fusion.text import listed

VOID, STRAY = NARROW_VOID, NARROW_VOID - 1
Channels = NDArray[np.uint8]
Found = tuple[Channels, dict[Value, int]]  # and the pixels of values that are in no entry
HOW = "give a class map of regions, bits or classes (class_map=FILE)"


def of_channels(stored: Array, classes: int) -> Found:
    """Channels as stored, [C, H, W] or [H, W, C], of 0, 1 and 255 for void."""
    if stored.shape[0] != classes and stored.shape[-1] == classes:
        stored = np.moveaxis(stored, -1, 0)
    if len(stored) != classes:
        raise InputError(f"holds {len(stored)} channels, {classes} are wanted; give one a class")
    rule = "channels are 0, 1, and 255 where void"
    return _zero_one_void(stored, rule, "write 1 where a channel's class is")


def of_mask(stored: Array) -> Found:
    """One channel of a mask [H, W] of 0 and 1, 255 where void."""
    do = "class_map='binary' makes 255 the foreground, class_map='binary-void' void"
    return _zero_one_void(stored[None], "a mask is 0, 1, and 255 where void", do)


def _zero_one_void(stored: Array, rule: str, do: str) -> Found:
    outside = (stored != 0) & (stored != 1) & (stored != VOID)
    if stored.size and (stored == VOID).any() and not (stored == 1).any():
        raise InputError(f"holds 255 and no 1, and {rule}: {do}")
    stray = counted(stored[outside]) if outside.any() else {}
    return np.where(outside, VOID, stored).astype(np.uint8), stray


def of_map(known: ClassMap, stored: Array, classes: int | Sequence[str]) -> Found:
    """The channels of ids [H, W] or colours [H, W, 3] by a class map.

    Args:
        known: the map.
        stored: as the data set has them.
        classes: how many channels, or their names; of a map of two classes the second, foreground,
            is a single channel.
    """
    channels = chosen(known, classes)
    if known.exclusive:
        labels, stray = known.read(stored)
        made = np.empty((len(channels), *labels.shape), np.uint8)
        for plane, channel in zip(made, channels, strict=True):
            np.equal(labels, channel, out=plane.view(bool))
        return _voided(made, labels == void_label(len(known.names))), stray
    if known.form == "bits":
        return _of_bits(known, known.keys(stored), channels)
    keys = known.keys(stored)
    tables = _region_codes(known)
    made = np.stack([tables[channel](keys) for channel in channels]).astype(np.uint8, copy=False)
    outside = made[0] == STRAY
    stray = known.said(counted(keys[outside])) if outside.any() else {}
    return _voided(made, outside), stray


def _voided(channels: Channels, void: NDArray[np.bool_]) -> Channels:
    """Channels [C, H, W], void in all of them where `void` [H, W] is."""
    for plane in channels if void.any() else ():
        np.putmask(plane, void, VOID)
    return channels


def chosen(known: ClassMap, classes: int | Sequence[str]) -> list[int]:
    """Places of the wanted channels among the map's classes; InputError: others."""
    names, wanted = ([], classes) if isinstance(classes, int) else (list(classes), len(classes))
    if names and set(names) <= set(known.names):
        return [known.names.index(name) for name in names]
    there = len(known.names)
    if known.form == "bits" and not known.names:
        return list(range(wanted))
    if wanted == 1 and there == 2 and known.exclusive:
        return [1]
    if wanted != there:
        got = f"the class map has {there} classes ({listed(known.names, 5)}), {wanted} are wanted"
        raise InputError(f"{got}; give a map of those")
    return list(range(there))


def _of_bits(known: ClassMap, keys: Array, channels: Sequence[int]) -> Found:
    if keys.dtype.itemsize > 2 and keys.size and not 0 <= keys.min() <= keys.max() < 1 << 16:
        raise InputError("holds ids beyond 16 bits; bits are of 8- or 16-bit masks")
    places = [pack(known.values[c][0]) if known.names else c for c in channels]
    every = [pack(values[0]) for values in known.values] or places
    if max(places, default=0) > 15:
        raise InputError(f"a mask has 16 bits at most, {max(places) + 1} are wanted")
    bits = keys.astype(np.uint16, copy=False)
    made = np.stack([((bits >> place) & 1).astype(np.uint8) for place in places])
    void = np.isin(bits, [pack(value) for value in known.void])
    outside = (bits & ~np.uint16(sum(1 << place for place in every))) != 0
    outside &= ~void
    stray = counted(keys[outside]) if outside.any() else {}
    return _voided(made, void | outside), stray


@functools.lru_cache(maxsize=32)
def _region_codes(known: ClassMap) -> list[Lookup]:
    """A table for each region: 1 inside, 0 outside, void, and what is in no entry."""
    inside = {pack(value) for values in known.values for value in values}
    base = dict.fromkeys(inside | set(map(pack, known.background)), 0)
    base |= {pack(value): VOID for value in known.void}
    regions = ({pack(value): 1 for value in values} for values in known.values)
    return [Lookup(base | region, STRAY, np.uint8) for region in regions]
