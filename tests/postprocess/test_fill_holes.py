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
        operation = FillHoles(classes=(CLASSES[label],), pixels=0, dimensions=dimensions)
        expected = volume.copy()
        if dimensions == 3:
            expected[ndimage.binary_fill_holes(volume == label)] = label
        else:
            for plane, out in zip(volume, expected, strict=True):
                out[ndimage.binary_fill_holes(plane == label)] = label
        assert np.array_equal(run(operation, volume), expected)

    @settings(max_examples=60, deadline=None)
    @given(volume=VOLUMES, most=st.sampled_from([0, 1, 3]), dimensions=st.sampled_from([2, 3]))
    def test_classes_are_filled_in_their_order_and_sizes_have_an_end(
        self, volume, most, dimensions
    ):
        order = ("car", "sky") if most == 1 else ()
        operation = FillHoles(order, pixels=most, dimensions=dimensions)
        expected = volume.copy()
        for name in order or CLASSES[:3]:
            label = CLASSES.index(name)
            for out in blocks(operation, expected):
                filled = ndimage.binary_fill_holes(
                    out[0] == label if len(out) == 1 else out == label
                )
                holes = np.broadcast_to(filled, out.shape) & (out != label)
                if dimensions == 3 and len(out) == 1:
                    continue  # no slice before or after: nothing is enclosed
                ids, number = ndimage.label(holes, structure(6 if dimensions == 3 else 4))
                for k in range(1, number + 1):
                    if not most or (ids == k).sum() <= most:
                        out[ids == k] = label
        assert np.array_equal(run(operation, volume), expected)

    def test_of_rings_in_each_other_the_outer_fills_all(self):
        rings = np.zeros((1, 9, 9), np.uint8)
        rings[0, 1:8, 1:8], rings[0, 3:6, 3:6], rings[0, 4, 4] = 1, 2, 0
        both = ("road", "car")
        assert (run(FillHoles(both, pixels=9), rings)[0, 1:8, 1:8] == 1).all()
        assert run(FillHoles(both, pixels=8), rings)[0, 4, 4] == 2
        assert (run(FillHoles(("car",), pixels=0), rings)[0, 3:6, 3:6] == 2).all()
        for order in ((), ("car", "road", "sky")):
            assert not run(FillHoles(order, pixels=0), rings).any()  # the sky encloses them

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
