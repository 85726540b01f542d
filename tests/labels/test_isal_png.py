"""Label maps through ISA-L: Pillow reads the pixels and colours that it would have written."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from fusion.labels import isal_png, png
from fusion.labels.png import read_png, write_labels

SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=40)
MAPS = st.sampled_from([np.uint8, np.uint16]).flatmap(lambda kind: arrays.arrays(kind, SHAPES))


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content), formats=["PNG"])
    image.load()
    return image


@settings(deadline=None, max_examples=60)
@given(MAPS)
def test_pillow_reads_what_it_would_have_written(labels):
    quick = opened(png.encode(labels, "vspw"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(isal_png, "_isal", lambda: None)
        usual = opened(png.encode(labels, "vspw"))
    assert quick.mode == usual.mode
    assert quick.getpalette() == usual.getpalette()
    assert np.array_equal(np.array(quick), np.array(usual))
    assert np.array_equal(np.array(quick), labels)


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_files_read_back_equal_with_and_without(installed, kind, tmp_path, monkeypatch):
    if not installed:
        monkeypatch.setattr(isal_png, "_isal", lambda: None)
    draw = np.random.default_rng(3)
    labels = np.repeat(draw.integers(0, 256, (20, 3)), 11, axis=1).astype(kind)
    write_labels(tmp_path / "a.png", labels)
    write_labels(tmp_path / "b.png", labels[::-1, ::2].astype(labels.dtype.newbyteorder()))
    depth = 8 * labels.dtype.itemsize
    assert np.array_equal(read_png(tmp_path / "a.png", depth=depth), labels)
    assert np.array_equal(read_png(tmp_path / "b.png", depth=depth), labels[::-1, ::2])
