"""The scenes that stand for VSPW."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import scenes


def test_scenes_are_repeatable_and_shifted(tmp_path, vspw):
    scenes.write(tmp_path, scenes.Sizes((64, 96), {"val": 1}, regions=5, frames=(2, 3)), seed=1)
    for file in sorted((tmp_path / "data").rglob("*.*")):
        assert file.read_bytes() == (vspw / file.relative_to(tmp_path)).read_bytes()
    frequencies = {split: scenes.class_frequencies(split, 1) for split in ("train", "val", "test")}
    np.testing.assert_array_equal(frequencies["train"], frequencies["val"])
    assert np.abs(frequencies["test"] - frequencies["val"]).sum() > 0.1
    assert frequencies["val"].max() / frequencies["val"].min() == pytest.approx(125 / 2)
