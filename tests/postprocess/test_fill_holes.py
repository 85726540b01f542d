"""Holes: against scipy's, class by class."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fusion.postprocess.fill_holes import FillHoles
from tests.postprocess.contract import CLASSES, OperationContract
from tests.postprocess.volumes import (
    VOLUMES,
    HeldThroughout,
    blocks,
    run,
    structure,
    video_of,
)


class TestFillHoles(OperationContract):
    operation = FillHoles()

    def test_it_changes_something(self):
        ring = np.ones((1, 5, 5), np.uint8)
        ring[0, 2, 2] = 0
        assert (run(FillHoles(), ring) == 1).all()

    @pytest.mark.parametrize("dimensions", [2, 3])
    @settings(max_examples=80, deadline=None)
    @given(volume=VOLUMES, label=st.integers(0, 2))
    def test_of_one_class_it_is_scipys(self, dimensions, volume, label):
        operation = FillHoles(classes=(CLASSES[label],), dimensions=dimensions)
        expected = volume.copy()
        if dimensions == 3:
            expected[ndimage.binary_fill_holes(volume == label)] = label
        else:
            for plane, out in zip(volume, expected, strict=True):
                out[ndimage.binary_fill_holes(plane == label)] = label
        assert np.array_equal(run(operation, volume), expected)

    @settings(max_examples=60, deadline=None)
    @given(volume=VOLUMES, most=st.sampled_from([0, 1, 3]), dimensions=st.sampled_from([2, 3]))
    def test_the_largest_hole_wins_and_sizes_have_an_end(self, volume, most, dimensions):
        operation = FillHoles(pixels=most, dimensions=dimensions)
        made = run(operation, volume)
        expected, largest = volume.copy(), np.zeros(volume.shape, int)
        connectivity = 6 if dimensions == 3 else 4
        for label in range(3):
            for block, out, size in zip(
                *(blocks(operation, each) for each in (volume, expected, largest)), strict=True
            ):
                ids, number = ndimage.label(block != label, structure(connectivity))
                for k in range(1, number + 1):
                    hole = ids == k
                    inner = hole[:, 1:-1, 1:-1]
                    inner = inner[1:-1] if dimensions == 3 else inner
                    count = hole.sum()
                    enclosed = inner.sum() == count and (block == label).any()
                    if enclosed and (not most or count <= most):
                        more = hole & (count > size)
                        out[more], size[more] = label, count
        assert np.array_equal(made, expected)

    def test_holes_of_masks_are_filled(self):
        masks = np.ones((1, 2, 5, 5), np.uint8)
        masks[0, :, 2, 2] = 0
        video = video_of(masks, CLASSES[:2], independent=True)
        made = run(FillHoles(classes=("road",)), masks, video)
        assert made[0, 0, 2, 2] == 0
        assert made[0, 1, 2, 2] == 1

    def test_a_class_that_comes_late_has_holes_too(self):
        volume = np.zeros((6, 5, 5), np.uint8)
        volume[2:5, 1:4, 1:4] = 1
        volume[3, 2, 2] = 2
        made = run(FillHoles(classes=("road",), dimensions=3), volume)
        assert made[3, 2, 2] == 1


class TestFillHolesOfVolumes(HeldThroughout, OperationContract):
    operation = FillHoles(dimensions=3)

    def test_it_changes_something(self):
        volume = np.ones((3, 5, 5), np.uint8)
        volume[1, 2, 2] = 0
        assert (run(self.operation, volume) == 1).all()
        volume[0, 2, 2] = 0
        assert (run(self.operation, volume) == volume).all()
