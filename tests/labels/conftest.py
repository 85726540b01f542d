"""Two small data sets, one in each layout."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fusion.labels import colour_map, write_labels
from tests.labels.contract import maps


@pytest.fixture
def folder(tmp_path):
    for video in ("clip_10", "clip_2"):
        for frame in (1, 2, 10):
            write_labels(tmp_path / video / f"f{frame}.png", maps(frame))
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "classes.txt").write_text("road\n")
    (tmp_path / "clip_2" / "._f1.png").write_bytes(b"resource fork")
    return tmp_path


@pytest.fixture
def vspw(tmp_path):
    for video in ("9_b", "10_a"):
        mask = tmp_path / "data" / video / "mask"
        mask.mkdir(parents=True)
        raw = np.array([[0, 1, 2], [124, 255, 7]], dtype=np.uint8)
        Image.fromarray(raw).save(mask / "00000001.png")
        image = Image.fromarray(raw)
        image.putpalette(colour_map().tobytes())
        image.save(mask / "00000002.png")
    (tmp_path / "val.txt").write_text("9_b\n10_a\n")
    return tmp_path
