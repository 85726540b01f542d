"""The largest component: against nnU-Net's rule written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from scipy import ndimage

from fusion.errors import InputError
from fusion.postprocess.largest_component import LargestComponent
from tests.postprocess.contract import CLASSES, OperationContract
from tests.postprocess.volumes import (
    ORDER,
    VOLUMES,
    HeldThroughout,
    blocks,
    components,
    make_operation,
    run,
    video_of,
)


def nnunet(segmentation, labels, background):
    """nnunetv2/postprocessing/remove_connected_components.py with acvl_utils' component filter:
    full connectivity, and all components as large as the largest are kept.
    """
    mask = np.isin(segmentation, labels)
    ids, number = ndimage.label(mask, np.ones((3,) * segmentation.ndim))
    sizes = np.bincount(ids.ravel(), minlength=number + 1)[1:]
    keep = [k + 1 for k, size in enumerate(sizes) if size == sizes.max()]
    made = segmentation.copy()
    made[mask & ~np.isin(ids, keep)] = background
    return made


class TestLargestComponent(OperationContract):
    operation = LargestComponent()

    @pytest.mark.parametrize("dimensions", [2, 3])
    @pytest.mark.parametrize("together", [False, True])
    @settings(max_examples=60, deadline=None)
    @given(volume=VOLUMES)
    def test_it_is_nnunets_rule(self, dimensions, together, volume):
        operation = LargestComponent(dimensions=dimensions, together=together)
        expected = []
        for block in [volume] if dimensions == 3 else volume:
            made = block
            for labels in [[1, 2]] if together else [[1], [2]]:
                made = nnunet(made, labels, 0)
            expected.append(made)
        expected = expected[0] if dimensions == 3 else np.stack(expected)
        assert np.array_equal(run(operation, volume), expected)

    @pytest.mark.parametrize("connectivity", ORDER)
    @settings(max_examples=30, deadline=None)
    @given(volume=VOLUMES)
    def test_any_connectivity_and_background(self, connectivity, volume):
        how = {"classes": ("sky",), "background": "car"}
        operation = make_operation(LargestComponent, connectivity, **how)
        expected = volume.copy()
        for block, out in zip(blocks(operation, volume), blocks(operation, expected), strict=True):
            some = components(block, connectivity, [0])
            most = max((mask.sum() for _, mask in some), default=0)
            for _, mask in some:
                if mask.sum() < most:
                    out[mask] = 2
        assert np.array_equal(run(operation, volume), expected)

    def test_masks_stand_alone(self):
        draw = np.random.default_rng(3)
        masks = (draw.random((3, 2, 9, 9)) < 0.4).astype(np.uint8)
        video = video_of(masks, CLASSES[:2], independent=True)
        made = run(LargestComponent(dimensions=3), masks, video)
        for c in range(2):
            assert np.array_equal(made[:, c], nnunet(masks[:, c], [1], 0))
        made = run(LargestComponent(classes=("road",), dimensions=3), masks, video)
        assert np.array_equal(made[:, 0], masks[:, 0])

    @pytest.mark.parametrize(
        ("options", "independent", "said"),
        [
            ({"classes": ("sky",)}, False, "background 'sky' is among classes"),
            ({"background": "raod"}, False, "did you mean 'road'"),
            ({"together": True}, True, "masks stand alone"),
        ],
    )
    def test_what_does_not_go_is_refused(self, options, independent, said):
        with pytest.raises(InputError, match=said):
            LargestComponent(**options).check(CLASSES, independent=independent)


class TestLargestComponentOfVolumes(HeldThroughout, OperationContract):
    operation = LargestComponent(dimensions=3, connectivity=6)
