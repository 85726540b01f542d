"""Colours of classes, and label maps and shares painted in them. H W pixels, C classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fusion.kernels.numbers import void_label
from fusion.labels import Labels
from fusion.labels.palettes import MOST, safe
from fusion.labels.png import colour_map
from fusion.report.facts import Floats, Picture

VOID = (0, 0, 0)
NOWHERE = (225, 225, 225)  # of independent channels: none of them
HEAT = ((13, 8, 35), (94, 18, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
WIDEST = 480  # pixels of a picture


def class_colours(truth: Labels, names: Sequence[str]) -> Picture:
    """A colour of each class, void last [C + 1, 3]: the data set's own where it has them."""
    known = truth.class_map
    if known is not None and known.colours and tuple(known.names) == tuple(names):
        return np.array([*known.colours, VOID], np.uint8)
    made = safe(names) if len(names) <= MOST else colour_map(len(names))
    return np.concatenate([made, np.array([VOID], np.uint8)])


def painted(ids: np.ndarray, colours: Picture, *, channels: bool = False) -> Picture:
    """A label map [H, W] of class ids and void as a picture [H, W, 3].

    Of independent channels ids [C, H, W] of the 2C classes: a channel covers those before it.
    """
    if not channels:
        classes = len(colours) - 1
        void = void_label(classes)
        return colours[np.where(ids == void, classes, ids)]
    void = void_label(2 * len(ids))
    made = np.full((*ids.shape[1:], 3), NOWHERE, np.uint8)
    made[(ids == void).all(axis=0)] = colours[-1]
    for colour, plane in zip(colours[:-1], ids, strict=True):
        made[(plane != void) & (plane % 2 == 1)] = colour
    return made


def heat(shares: Floats) -> Picture:
    """Shares [H, W] from 0, dark, to 1, light, as a picture [H, W, 3]."""
    stops = np.linspace(0, 1, len(HEAT))
    planes = [np.interp(shares, stops, plane) for plane in np.array(HEAT, float).T]
    return np.rint(np.stack(planes, axis=-1)).astype(np.uint8)


def smaller(picture: np.ndarray) -> np.ndarray:
    """Every n-th row and column of [H, W, ...], the n that makes it narrow enough."""
    step = -(-picture.shape[1] // WIDEST)
    return np.ascontiguousarray(picture[::step, ::step])
