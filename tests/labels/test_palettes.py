"""Palettes by name; the generated one as the colour-blind see it, by other models than its own."""

from __future__ import annotations

import numpy as np
import pytest

from fusion.errors import InputError
from fusion.labels import MAPS, colour_map
from fusion.labels.palettes import MOST, PALETTES, palette_of, safe

# Viénot, Brettel, Mollon 1999, for linear RGB
VIENOT = {
    "normal": np.eye(3),
    "protanopia": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
    "deuteranopia": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
}
XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]


def cielab(colours, view):
    """CIE 1976 L*a*b* under D65 of what is seen of colours [n, 3]."""
    part = np.asarray(colours) / 255
    linear = np.where(part > 0.04045, ((part + 0.055) / 1.055) ** 2.4, part / 12.92)
    shown = np.clip(linear @ np.array(VIENOT[view]).T, 0, 1)
    ratio = shown @ np.array(XYZ).T / [0.9505, 1.0, 1.089]
    cube = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = cube.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def nearest(colours, view):
    """The distance of the two colours that are nearest to each other."""
    places = cielab(colours, view)
    apart = np.linalg.norm(places[:, None] - places, axis=-1)
    np.fill_diagonal(apart, np.inf)
    return apart.min()


@pytest.mark.parametrize("count", [8, 11, 19, 64, 124, 256])
def test_safe_keeps_colours_apart_for_everybody(count):
    draw, colours = np.random.default_rng(0), safe(range(count))
    assert colours.shape == (count, 3)
    worst = min(nearest(colours, view) for view in VIENOT)
    random = (draw.integers(0, 256, (count, 3)) for _ in range(50))
    assert worst > max(min(nearest(some, view) for view in VIENOT) for some in random)
    assert worst > 4 * min(nearest(colour_map()[:count], view) for view in VIENOT)
    black = np.vstack([colours, np.zeros(3)])
    assert min(nearest(black, view) for view in VIENOT) == worst  # void is no nearer
    floor = {8: 32, 11: 19, 19: 11, 64: 4.6, 124: 1.9, 256: 1.0}
    assert worst > floor[count]


def test_safe_is_the_same_everywhere_and_of_any_number():
    assert safe("abc").tolist() == [[195, 255, 0], [165, 0, 255], [0, 105, 0]]
    assert np.array_equal(safe(range(8)), safe(range(MOST))[:8])
    safe("abc")[:] = 0  # the caller's own
    assert safe("abc").any()
    with pytest.raises(InputError, match="palette: got 257 classes, safe has 256; give vspw"):
        safe(range(257))


@pytest.mark.parametrize("name", PALETTES)
def test_every_name_gives_a_colour_a_class(name):
    classes = MAPS["cityscapes"]().names
    colours = palette_of(name, classes)
    assert len(colours) == 19
    assert all(0 <= part <= 255 for colour in colours for part in colour)


def test_a_data_sets_own_colours_by_name():
    assert palette_of("cityscapes", ("sky", "road")) == ((70, 130, 180), (128, 64, 128))
    assert palette_of("voc", ("sky", "road")) == ((0, 0, 0), (128, 0, 0))
    others = [f"class_{c}" for c in range(19)]  # in the order of the data set
    assert palette_of("cityscapes", others) == MAPS["cityscapes"]().palette
    with pytest.raises(InputError, match=r"colours of its 19 classes, 'rode' is none.*mean 'road'"):
        palette_of("cityscapes", ("sky", "rode"))


def test_more_classes_than_an_indexed_picture_has():
    colours = palette_of("vspw", [str(c) for c in range(300)])
    assert len(set(colours)) == 300
    assert colours[:256] == tuple(map(tuple, colour_map().tolist()))
