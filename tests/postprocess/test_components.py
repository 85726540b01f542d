"""Components: against scipy on whole volumes, and rules written out pixel by pixel."""

from __future__ import annotations

import gc
import itertools
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from fusion.errors import InputError
from fusion.kernels.arithmetic import Fused
from fusion.postprocess import Frame, Video, operation_of
from fusion.postprocess.components import Table, marks
from fusion.postprocess.fill_holes import FillHoles
from fusion.postprocess.largest_component import LargestComponent
from fusion.postprocess.small_components import SmallComponents
from tests.postprocess.contract import CLASSES, OperationContract, frames_of, make_video

ORDER = {4: (2, 1), 8: (2, 2), 6: (3, 1), 18: (3, 2), 26: (3, 3)}  # scipy's ranks
VOID = 255
VOLUMES = arrays.arrays(
    np.uint8,
    arrays.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6),
    elements=st.sampled_from([0, 0, 0, 1, 1, 2, VOID]),
)


def video_of(volume, classes=CLASSES[:3], independent=False):
    size = volume.shape[-2:]
    return Video("v", tuple(f"{z:03d}" for z in range(len(volume))), size, classes, independent)


def run(operation, volume, video=None):
    """A volume [Z, Y, X], or [Z, C, Y, X] of channels, through an operation."""
    video = video_of(volume) if video is None else video
    frames = [Frame(name, values) for name, values in zip(video.frames, volume, strict=True)]
    made = list(operation.apply(iter(frames), video))
    assert [frame.name for frame in made] == list(video.frames)
    assert all(frame.values.dtype == volume.dtype for frame in made)
    return np.stack([frame.values for frame in made])


def blocks(operation, volume):
    """What components are of: the volume, or slice by slice; as [Z, Y, X] each."""
    return [volume] if operation.dimensions == 3 else [plane[None] for plane in volume]


def structure(connectivity):
    rank, order = ORDER[connectivity]
    made = ndimage.generate_binary_structure(rank, order)
    return made if rank == 3 else np.stack([np.zeros_like(made), made, np.zeros_like(made)])


def components(block, connectivity, labels):
    """[(label, mask)] of every component, by scipy."""
    found = []
    for label in labels:
        ids, number = ndimage.label(block == label, structure(connectivity))
        found += [(label, ids == k) for k in range(1, number + 1)]
    return found


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


def make_operation(kind, connectivity, **options):
    dimensions = ORDER[connectivity][0]
    return kind(dimensions=dimensions, connectivity=connectivity, **options)


class HeldThroughout:
    """Contract of operations that read the whole video first: what lies in memory is counted."""

    def test_it_holds_no_more_frames_than_it_says(self, tmp_path):
        video, alive, most = make_video(frames=40), set(), 0

        def source():
            nonlocal most
            for k, frame in enumerate(frames_of(self.operation, video)):
                values = frame.values.copy()
                alive.add(k)
                weakref.finalize(values, alive.discard, k)
                fresh = Frame(frame.name, values, frame.beside)
                del values
                yield fresh
                del fresh
                gc.collect()
                most = max(most, len(alive))

        assert sum(1 for _ in self.operation.apply(source(), video)) == 40
        assert most <= self.operation.holds(video)

    def test_what_lies_beside_comes_back(self):
        video = make_video(frames=3)
        soft = [torch.rand(5, 24, 32) for _ in range(3)]
        frames = [
            Frame(frame.name, frame.values, Fused(probabilities=p, confidence=p[0]))
            for frame, p in zip(frames_of(self.operation, video), soft, strict=True)
        ]
        for frame, expected in zip(self.operation.apply(iter(frames), video), soft, strict=True):
            assert torch.equal(frame.beside.probabilities, expected)
            assert torch.equal(frame.beside.confidence, expected[0])
            assert frame.beside.margin is None

    def test_it_looks_at_other_frames(self):
        assert self.operation.temporal


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


@pytest.mark.parametrize("connectivity", ORDER)
def test_a_table_counts_what_scipy_counts(connectivity):
    """Noise at which components percolate: snakes that are joined late, over many slices."""
    draw = np.random.default_rng(connectivity)
    volume = (draw.random((20, 24, 24)) < 0.3).astype(np.uint8) * 2
    for block in [volume] if connectivity > 8 or connectivity == 6 else volume[:4, None]:
        table = Table(connectivity, contacts=True)
        for plane in block:
            table.add(marks(plane))
        found = table.finish()
        rows = np.stack([table.rows(z, marks(plane)) for z, plane in enumerate(block)])
        for label in (0, 2):
            ids, number = ndimage.label(block == label, structure(connectivity))
            mine = found.root[rows] * (block == label)
            pairs = {(int(a), int(b)) for a, b in zip(ids.ravel(), mine.ravel(), strict=True)}
            assert len(pairs - {(0, 0)}) == number
            assert len({b for _, b in pairs}) == len({a for a, _ in pairs})
            sizes = np.bincount(ids.ravel(), minlength=number + 1)
            assert all(found.size[b] == sizes[a] for a, b in pairs if a)


def test_contacts_are_summed_meanwhile(monkeypatch):
    from fusion.postprocess import components as module

    draw = np.random.default_rng(0)
    volume = draw.integers(0, 3, (12, 16, 16)).astype(np.uint8)
    operation = SmallComponents(pixels=30, dimensions=3, connectivity=6)
    expected = run(operation, volume)
    monkeypatch.setattr(module, "PENDING", 10)
    assert np.array_equal(run(operation, volume), expected)


def test_what_the_disk_refuses_is_said(monkeypatch, tmp_path):
    import tempfile

    from fusion.errors import StoreError

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(StoreError, match="nowhere"):
        run(SmallComponents(dimensions=3), np.zeros((2, 4, 4), np.uint8))
