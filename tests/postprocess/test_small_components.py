"""Small components: against the rule written out pixel by pixel."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import InputError
from fusion.postprocess import operation_of
from fusion.postprocess.small_components import SmallComponents
from tests.postprocess.contract import CLASSES, OperationContract
from tests.postprocess.volumes import (
    ORDER,
    VOID,
    VOLUMES,
    HeldThroughout,
    blocks,
    components,
    make_operation,
    run,
    video_of,
)


def small_by_hand(block, connectivity, limit, fill=None):
    """`SmallComponents`, the obvious way."""
    some = components(block, connectivity, np.unique(block[block != VOID]))
    made, waiting = block.copy(), []
    for label, mask in some:
        if mask.sum() < limit(label):
            waiting.append(mask)
            if fill is not None:
                made[mask] = fill
    while waiting and fill is None:
        unknown = np.any(waiting, axis=0)
        chosen = []
        for mask in waiting:
            votes = {}
            for place in np.argwhere(mask):
                for axis, step in itertools.product(range(3), (-1, 1)):
                    other = place.copy()
                    other[axis] += step
                    if 0 <= other[axis] < block.shape[axis]:
                        there = tuple(other)
                        if not mask[there] and not unknown[there] and made[there] != VOID:
                            votes[made[there]] = votes.get(made[there], 0) + 1
            if votes:
                chosen.append((mask, min(votes, key=lambda label: (-votes[label], label))))
        if not chosen:
            break
        for mask, label in chosen:
            made[mask] = label
        done = [id(mask) for mask, _ in chosen]
        waiting = [mask for mask in waiting if id(mask) not in done]
    return made


class TestSmallComponents(OperationContract):
    operation = SmallComponents(pixels=60)

    def test_it_looks_at_no_other_frame(self):
        assert not self.operation.temporal

    def test_a_speck_takes_what_surrounds_it(self):
        plane = np.zeros((1, 6, 8), np.uint8)
        plane[:, :, 4:] = 1
        plane[0, 2:4, 3:5] = 2  # on the edge between both, as many faces to either: the lowest
        plane[0, 5, 6:8] = 2
        made = run(SmallComponents(pixels=5), plane)
        assert (made[0, 2:4, 3:5] == 0).all()
        assert (made[0, 5, 6:8] == 1).all()
        assert np.array_equal(run(SmallComponents(pixels=4), plane)[0, 2:4], plane[0, 2:4])

    @pytest.mark.parametrize("connectivity", ORDER)
    @settings(max_examples=60, deadline=None)
    @given(volume=VOLUMES, pixels=st.integers(0, 12))
    def test_it_is_the_rule_written_out(self, connectivity, volume, pixels):
        operation = make_operation(SmallComponents, connectivity, pixels=pixels)
        expected = [
            small_by_hand(block, connectivity, lambda label: pixels)
            for block in blocks(operation, volume)
        ]
        assert np.array_equal(run(operation, volume), np.concatenate(expected))

    @settings(max_examples=40, deadline=None)
    @given(volume=VOLUMES)
    def test_classes_have_limits_of_their_own_and_a_filling(self, volume):
        limits = {0: 0, 1: 4, 2: 9}
        how = {"pixels": 9, "by_class": {"road": 4}, "classes": ("road", "car")}
        for fill in (None, 0):
            word = "neighbours" if fill is None else "sky"
            operation = SmallComponents(dimensions=3, fill=word, **how)
            expected = small_by_hand(volume, 26, limits.get, fill)
            assert np.array_equal(run(operation, volume), expected)

    def test_where_all_is_small_nothing_changes(self):
        noise = np.random.default_rng(0).integers(0, 3, (4, 9, 9)).astype(np.uint8)
        for dimensions in (2, 3):
            operation = SmallComponents(pixels=10**6, dimensions=dimensions)
            assert np.array_equal(run(operation, noise), noise)

    def test_masks_stand_alone(self):
        draw = np.random.default_rng(1)
        masks = (draw.random((3, 2, 12, 12)) < 0.4).astype(np.uint8)
        masks[0, 0, 0, 0] = VOID
        for dimensions, connectivity in ((2, 8), (3, 26)):
            operation = SmallComponents(pixels=6, dimensions=dimensions, by_class={"road": 3})
            made = run(operation, masks, video_of(masks, CLASSES[:2], independent=True))
            for c, pixels in enumerate((6, 3)):
                expected = masks[:, c].copy()
                for block, out in zip(
                    blocks(operation, masks[:, c]), blocks(operation, expected), strict=True
                ):
                    for _, mask in components(block, connectivity, [1]):
                        if mask.sum() < pixels:
                            out[mask] = 0
                assert np.array_equal(made[:, c], expected)

    def test_many_classes_are_two_bytes_wide(self):
        plane = np.full((1, 8, 8), 300, np.uint16)
        plane[0, 3, 3], plane[0, 0, 0] = 255, 65535
        video = video_of(plane, tuple(f"c{k}" for k in range(400)))
        made = run(SmallComponents(pixels=3), plane, video)
        assert made[0, 3, 3] == 300
        assert made[0, 0, 0] == 65535

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"by_class": {"rod": 3}}, "did you mean 'road'"),
            ({"by_class": {"road": -1}}, "0 or more"),
            ({"by_class": {"road": "much"}}, "'much' for 'road'"),
            ({"classes": ("caar",)}, "did you mean 'car'"),
            ({"fill": "skyy"}, "did you mean 'sky'"),
        ],
    )
    def test_what_is_no_class_is_refused(self, options, said):
        with pytest.raises(InputError, match=said):
            SmallComponents(**options).check(CLASSES, independent=False)

    def test_connectivity_goes_with_dimensions(self):
        with pytest.raises(InputError, match="26 in 2 dimensions; choose one of"):
            SmallComponents(connectivity=26)
        with pytest.raises(InputError, match="by_class"):
            SmallComponents(by_class=3)

    def test_text_says_numbers_of_classes(self):
        given = operation_of("small-components:pixels=9,by_class=road:4+car:20,classes=road+car")
        assert given == SmallComponents(9, {"road": 4.0, "car": 20.0}, ("road", "car"))

    def test_without_the_package_it_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "cc3d", None)
        with pytest.raises(InputError, match=r"pip install 'segfusion\[components\]'"):
            SmallComponents().check(CLASSES, independent=False)


class TestSmallComponentsOfVolumes(HeldThroughout, OperationContract):
    operation = SmallComponents(pixels=200, dimensions=3)
