"""Palettes: a colour for each class, by name or from a file.

    vspw, voc     PASCAL VOC's, of any number of classes (`fusion.labels.png.colour_map`)
    cityscapes    the data set's own, by the names of its classes
    safe          generated: told apart with normal sight, protanopia and deuteranopia

`safe` takes colour after colour, each as far as can be from those before it, and from the black of
void, in the view where it is nearest to one. Distances are Euclidean in OKLab, views those of
Machado, Oliveira, Fernandes: "A Physiologically-based Model for Simulation of Color Vision
Deficiency", IEEE TVCG 2009, at full severity. Fewer classes have the first of its colours.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.errors import InputError
from fusion.labels.known_maps import MAPS, read_json
from fusion.labels.lookup import Colour, one_colour
from fusion.labels.png import PathLike, colour_map
from fusion.text import did_you_mean

MOST = 256  # colours of an indexed picture
Names = Sequence[str]
_LEVELS = 18  # of each channel, among which `safe` chooses
_LIGHTNESS = (0.35, 0.93)  # OKLab: neither void's black nor paper's white
# of the views; normal sight gets further with a colour, and less than 1 asks for more of it
_SHARES = np.array([0.55, 1.0, 1.0])
# linear RGB as it is seen
_VIEWS = np.array(
    [
        np.eye(3),
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
    ]
)
# Ottosson 2020, "A perceptual color space for image processing"
_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def seen(colours: ArrayLike) -> NDArray[np.float64]:
    """OKLab [3, n, 3] of colours uint8 [n, 3]: normal, protanopic and deuteranopic sight."""
    part = np.asarray(colours, np.float64) / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    views = np.clip(np.einsum("vij,nj->vni", _VIEWS, linear), 0, 1)
    return np.asarray(np.cbrt(views @ _TO_CONES.T) @ _TO_LAB.T)


@functools.cache
def _safe() -> NDArray[np.uint8]:
    steps = np.round(np.linspace(0, 255, _LEVELS)).astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    places = seen(grid)
    low, high = _LIGHTNESS
    kept = (places[0, :, 0] >= low) & (places[0, :, 0] <= high)
    grid, places = grid[kept], places[:, kept]
    nearest = _distance(places, seen([[0, 0, 0]]))
    chosen: list[int] = []
    for _ in range(MOST):
        # rounded: of colours as far as each other the first, on every machine
        chosen.append(int(np.argmax(np.round(nearest, 9))))
        nearest = np.minimum(nearest, _distance(places, places[:, chosen[-1:]]))
    return grid[chosen]


def _distance(places: NDArray[np.float64], one: NDArray[np.float64]) -> NDArray[np.float64]:
    """To one colour [n], in the view where it is smallest."""
    apart = np.linalg.norm(places - one, axis=-1)
    return np.asarray((apart * _SHARES[:, None]).min(axis=0))


def safe(names: Names) -> NDArray[np.uint8]:
    """Colours uint8 [C, 3] that the colour-blind can tell apart, C at most 256; none is black."""
    if len(names) > MOST:
        rule = f"safe has {MOST}; give vspw, or a file"
        raise InputError(f"palette: got {len(names)} classes, {rule}")
    return _safe()[: len(names)].copy()


def _voc(names: Names) -> NDArray[np.uint8]:
    return colour_map(max(MOST, len(names)))[: len(names)]


def _own(name: str, names: Names) -> NDArray[np.uint8]:
    """The colours of a class map: by name where it has all the names, else in its order."""
    known = MAPS[name]()
    if set(names) <= set(known.names):
        places = [known.names.index(each) for each in names]
    elif len(names) == len(known.names):
        places = [*range(len(names))]
    else:
        other = next(each for each in names if each not in known.names)
        what = f"{name} has colours of its {len(known.names)} classes, {other!r} is none of them"
        raise InputError(f"palette: {what}{did_you_mean(other, known.names)}")
    return np.array([known.palette[place] for place in places], np.uint8)


PALETTES: Mapping[str, Callable[[Names], NDArray[np.uint8]]] = {
    "vspw": _voc,
    "voc": _voc,
    "cityscapes": functools.partial(_own, "cityscapes"),
    "safe": safe,
}


def palette_of(given: PathLike, classes: Names) -> tuple[Colour, ...]:
    """Colours of classes.

    Args:
        given: a name in PALETTES, or a file as `read_palette` takes it.
        classes: the C names.

    Returns:
        C colours; fewer where a file has fewer.

    Raises:
        InputError: no such name or file, or one without colours of these classes.
    """
    if str(given) in PALETTES:
        return tuple(map(tuple, PALETTES[str(given)](classes).tolist()))
    return read_palette(given, classes)


def read_palette(path: PathLike, classes: Names) -> tuple[Colour, ...]:
    """Colours of classes: a JSON list in their order, or {name: colour} of all of them.

    Raises:
        InputError: no such file, no colours, an unknown or missing name, or more than classes.
    """
    place = Path(path)
    if not os.path.isfile(place):
        rule = f"a JSON file of colours [R, G, B], or {', '.join(PALETTES)}"
        raise InputError(f"palette: got {str(path)!r}, which is no file; give {rule}")
    document = read_json(place)
    if isinstance(document, Mapping):
        wrong = sorted(set(document) ^ set(classes))
        if wrong:
            state = "is no class" if wrong[0] in document else "has no colour"
            raise InputError(f"palette: {place}: {wrong[0]!r} {state}; name each class once")
        document = [document[name] for name in classes]
    if not isinstance(document, list) or not 0 < len(document) <= len(classes):
        got = (
            f"{len(document)} colours" if isinstance(document, list) else json.dumps(document)[:40]
        )
        raise InputError(f"palette: {place} has {got}; give at most {len(classes)}, [R, G, B] each")
    what = f"palette: {place}"
    return tuple(one_colour(colour, what) for colour in document)
