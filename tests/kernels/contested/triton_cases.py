"""The Triton count of contested pixels against the two CPU counts: cases for a GPU, or interpreted.

test_triton.py runs this file in a process of its own with TRITON_INTERPRET=1; on a machine with a
GPU also `pytest tests/kernels/contested/triton_cases.py`.
"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

triton_contested = pytest.importorskip("fusion.kernels.contested.triton")
from fusion.contested import Builder, Condensed  # noqa: E402
from fusion.kernels import contested  # noqa: E402
from fusion.kernels.arithmetic import normalised  # noqa: E402
from fusion.kernels.contested import cpu, layout, naive  # noqa: E402
from fusion.kernels.contested.layout import LANES, Block, Parts  # noqa: E402

# plain "cpu" is the compiled count
DEVICE = "cpu:0" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"


def some_values(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Scores [..., G] of which some tie, some differ in their last bits and some are subnormal."""
    coarse = rng.integers(0, 4, shape).astype(np.float32) / np.float32(3)
    close = (
        (np.float32(0.3).view(np.int32) + rng.integers(0, 4, shape))
        .astype(np.int32)
        .view(np.float32)
    )
    tiny = rng.random(shape, np.float32) * np.float32(1e-38)
    kinds = rng.integers(0, 4, (*shape[:-1], 1))
    return np.choose(kinds, [coarse, close, tiny, rng.random(shape, np.float32)]).astype(np.float32)


def a_block(widths: dict[int, int], groups: int, classes: int, seed: int = 0) -> Block:
    """Contested pixels with random candidates, `widths[k]` of them with k."""
    rng = np.random.default_rng(seed)
    counts = rng.permutation(np.repeat(list(widths), list(widths.values()))).astype(np.uint16)
    names = [np.sort(rng.choice(classes, size=width, replace=False)) for width in counts.tolist()]
    return Block(
        rng.integers(0, 9, (classes, classes)),
        counts,
        rng.integers(0, classes, len(counts)).astype(np.uint16),
        np.concatenate(names).astype(np.uint16),
        some_values(rng, (int(counts.sum()), groups)),
    )


def some_weights(groups: int, vectors: int, seed: int = 0) -> np.ndarray:
    """Normalised [B, G]: random ones, with zeros, single groups, all but vanishing ones."""
    rng = np.random.default_rng(seed)
    raw = rng.random((vectors, groups)) * (rng.random((vectors, groups)) < 0.7) + 1e-9
    raw[1::5] = np.eye(groups)[np.arange(len(raw[1::5])) % groups]
    raw[2::5] = np.where(np.arange(groups) == 0, 1.0, 1e-44)
    return np.array([normalised(row) for row in raw.tolist()], np.float32)


def check(
    parts: Parts,
    weights: np.ndarray,
    classes: int,
    videos: int = 1,
    forms: tuple[bool, ...] = (True, False),
) -> None:
    on_device = triton_contested.upload(parts, DEVICE)
    for matrix in forms:
        got = triton_contested.count(on_device, weights, classes, videos=videos, matrix=matrix)
        assert got.dtype == np.int64
        assert np.array_equal(got, cpu.count(parts, weights, classes, videos=videos, matrix=matrix))
        if len(weights) < 10:
            assert np.array_equal(
                got, naive.count(parts, weights, classes, videos=videos, matrix=matrix)
            )


def parts_of(block: Block, videos: int = 1) -> Parts:
    """Runs cut and dealt out to videos, some smaller than a block of the kernel, some larger."""
    groups = block.means.shape[1]
    cut = [
        piece for run in layout.runs(block) for piece in run.cut(groups, 11 if videos > 1 else 1000)
    ]
    return Parts([(index % videos, piece) for index, piece in enumerate(cut)])


NARROW = {
    width: 20 + 13 * width for width in range(2, 10)
}  # pixels by number of candidates: parts of bundles, more than one block


@pytest.mark.parametrize(("groups", "classes"), [(1, 300), (3, 11), (22, 124)])
def test_every_width(groups, classes):
    check(
        parts_of(a_block(NARROW, groups, classes, seed=groups)),
        some_weights(groups, 7 if groups < 22 else 2),
        classes,
    )


@pytest.mark.parametrize(("groups", "vectors", "classes"), [(1, 7, 124), (3, 7, 300), (22, 1, 124)])
def test_every_class_a_candidate(groups, vectors, classes):
    check(
        parts_of(a_block({124: 19, 2: 5}, groups, classes)),
        some_weights(groups, vectors),
        classes,
        forms=(groups != 3,),
    )


@pytest.mark.parametrize("groups", [1, 3, 22])
@pytest.mark.parametrize("vectors", [1, 7])
@pytest.mark.parametrize("classes", [2, 11])
def test_batches_of_weight_vectors(groups, vectors, classes):
    check(parts_of(a_block({2: 150}, groups, classes)), some_weights(groups, vectors), classes)


@pytest.mark.parametrize(
    ("groups", "widths", "classes", "matrix"),
    [
        (1, {2: 100}, 2, True),
        (3, {2: 100}, 2, False),
        (3, {3: 40}, 124, True),
        (22, {2: 40}, 300, False),
    ],
)
def test_a_whole_grid_of_weight_vectors(groups, widths, classes, matrix):
    check(
        parts_of(a_block(widths, groups, classes)),
        some_weights(groups, 441),
        classes,
        forms=(matrix,),
    )


@pytest.mark.parametrize("vectors", [32, 33, 65])
def test_weight_vectors_shared_between_programs(vectors):
    check(
        parts_of(a_block({2: 40, 3: 17}, 2, 5)), some_weights(2, vectors), 5, forms=(vectors == 33,)
    )


class Launches:
    """Stands before the kernel and keeps the grid and the options of every launch."""

    def __init__(self, kernel):
        self.kernel, self.seen = kernel, []

    def __getitem__(self, grid):
        def launch(*args, **options):
            self.seen.append((grid, options))
            return self.kernel[grid](*args, **options)

        return launch


def test_launches_fit_the_grid_and_forbid_contraction(monkeypatch):
    launches = Launches(triton_contested.contested_kernel)
    monkeypatch.setattr(triton_contested, "contested_kernel", launches)
    monkeypatch.setattr(triton_contested, "MOST_SHARES", 2)
    check(parts_of(a_block({2: 40, 3: 150}, 2, 5)), some_weights(2, 70), 5, forms=(False,))
    # blocks of 40, then of 128 and 22 pixels; two shares of 35 vectors where 32 would need three
    assert [grid for grid, _ in launches.seen] == [(1, 2), (2, 2)]
    assert [options["WIDTH"] for _, options in launches.seen] == [2, 3]
    assert all(options["enable_fp_fusion"] is False for _, options in launches.seen)


@pytest.mark.parametrize("pixels", [1, 15, 16, 17, 127, 128, 129])
def test_blocks_and_bundles_that_are_not_full(pixels):
    check(parts_of(a_block({2: pixels, 5: 1}, 3, 6)), some_weights(3, 3), 6)


def test_videos_are_counted_apart_or_together():
    parts, weights = parts_of(a_block({2: 400, 3: 200, 5: 9}, 3, 11), videos=3), some_weights(3, 4)
    check(parts, weights, 11, videos=3)
    together = triton_contested.count(triton_contested.upload(parts, DEVICE), weights, 11)
    apart = triton_contested.count(triton_contested.upload(parts, DEVICE), weights, 11, videos=3)
    assert np.array_equal(together[0], apart.sum(axis=0))


def one_pixel(values: list[list[float]], target: int = 0) -> Parts:
    """One pixel with candidates 0, 1, ... and scores values[candidate][group]."""
    scores = np.array(values, np.float32)
    block = Block(
        np.zeros((len(scores),) * 2, np.int64),
        np.array([len(scores)], np.uint16),
        np.array([target], np.uint16),
        np.arange(len(scores), dtype=np.uint16),
        scores,
    )
    return Parts([(0, run) for run in layout.runs(block)])


def label_of(parts: Parts, weights: list[float]) -> int:
    counts = triton_contested.count(
        triton_contested.upload(parts, DEVICE),
        np.array([weights], np.float32),
        parts.runs[0][1].width,
    )
    assert counts.sum() == 1
    return int(counts[0, 0, 0].argmax())


def test_ties_go_to_the_first_candidate():
    assert label_of(one_pixel([[0.1, 0.2], [0.2, 0.1], [0.2, 0.1]]), [0.5, 0.5]) == 0
    assert label_of(one_pixel([[0.1, 0.1], [0.2, 0.1], [0.2, 0.1]]), [0.5, 0.5]) == 1


def test_every_operation_rounds_once():
    """Two scores that are equal when products round first; fused, the second is higher."""
    rng, weight = np.random.default_rng(0), np.float32(1 / 3)
    first, low = (rng.random(9999, np.float32) for _ in range(2))
    high = np.nextafter(low, np.float32(1))
    fused = [
        (first + np.float64(weight) * value.astype(np.float64)).astype(np.float32)
        for value in (low, high)
    ]
    chosen = np.flatnonzero(
        (first + weight * low == first + weight * high) & (fused[0] < fused[1])
    )[:5]
    assert len(chosen) == 5
    for i in chosen:
        assert (
            label_of(one_pixel([[first[i], low[i]], [first[i], high[i]]]), [1.0, float(weight)])
            == 0
        )


def test_subnormal_scores_count():
    assert label_of(one_pixel([[1e-44, 0.0], [0.0, 3e-44]]), [0.5, 0.5]) == 1
    assert label_of(one_pixel([[0.0, 0.0], [1e-30, 0.0]]), [1e-10, 1.0]) == 1


def test_a_group_of_weight_zero_changes_nothing():
    assert label_of(one_pixel([[0.2, 1.0], [0.3, 0.0]]), [1.0, 0.0]) == 1
    assert label_of(one_pixel([[0.0, 1.0], [0.0, 0.5]]), [1.0, 0.0]) == 0


def test_nothing_to_count():
    weights = some_weights(3, 4)
    assert triton_contested.count(
        triton_contested.upload(Parts([]), DEVICE), weights, 5, videos=2
    ).shape == (2, 4, 5, 5)
    some = triton_contested.upload(one_pixel([[0.1], [0.2]]), DEVICE)
    assert triton_contested.count(some, np.zeros((0, 1), np.float32), 2, matrix=False).shape == (
        1,
        0,
        2,
        2,
    )


def test_read_only_arrays_are_taken():
    parts = parts_of(a_block({2: 20}, 2, 4))
    for _, run in parts.runs:
        run.means.flags.writeable = run.classes.flags.writeable = run.targets.flags.writeable = (
            False
        )
    weights = some_weights(2, 3)
    weights.flags.writeable = False
    check(parts, weights, 4)


def test_places_beyond_31_bits():
    """Only the touched pages of this memory exist; an offset in int32 would leave it."""
    far = 2**31 + 4096
    (run,) = layout.runs(a_block({3: 40}, 1, 7))
    near = triton_contested.upload(Parts([(0, run)]), DEVICE)
    arrays = [
        torch.empty(far + len(array), dtype=array.dtype, device=DEVICE)
        for array in (near.means, near.candidates)
    ]
    for array, source in zip(arrays, (near.means, near.candidates), strict=True):
        array[far:] = source
    blocks = near.blocks + torch.tensor([far, 0, 0, 0, 0], device=DEVICE)
    weights = some_weights(1, 3)
    got = triton_contested.count(
        replace(near, means=arrays[0], candidates=arrays[1], blocks=blocks), weights, 7
    )
    assert np.array_equal(got, cpu.count(Parts([(0, run)]), weights, 7))


def test_poisoned_padding_is_not_read():
    """Lanes beyond the last pixel hold anything; what lies around the counts stays."""
    (run,) = layout.runs(a_block({4: 37}, 2, 9))
    bundles = len(run.targets) // LANES
    values, classes, targets = (
        run.means.reshape(bundles, -1, LANES),
        run.classes.reshape(bundles, -1, LANES),
        run.targets.copy(),
    )
    values, classes = values.copy(), classes.copy()
    values[-1, :, 37 % LANES :], classes[-1, :, 37 % LANES :], targets[37:] = np.nan, 60000, 60000
    on_device = triton_contested.upload(Parts([(0, run)]), DEVICE)
    flat = {"means": values.ravel(), "candidates": classes.ravel(), "targets": targets}
    poisoned = {name: torch.from_numpy(array).to(DEVICE) for name, array in flat.items()}
    weights = some_weights(2, 5)
    got = triton_contested.count(replace(on_device, **poisoned), weights, 9)
    assert np.array_equal(got, cpu.count(Parts([(0, run)]), weights, 9))


# The condensed set


def a_set(videos: int = 3) -> Condensed:
    builder = Builder(["a", "b", "c"], [f"c{c}" for c in range(6)])
    for video in range(videos):
        builder.append(f"v{video}", a_block({2: 30 + video, 3: 20, 6: 3}, 3, 6, seed=video))
    return builder.finish()


class Streamed:
    """A video's pixels as if they lay on disk."""

    resident = False

    def __init__(self, pixels):
        self._pixels = pixels

    def __getattr__(self, name):
        return getattr(self._pixels, name)


@pytest.mark.parametrize("streamed", [False, True], ids=["in memory", "streamed"])
def test_a_condensed_set_counts_the_same_on_the_device(streamed, monkeypatch):
    condensed = a_set()
    on_device = replace(condensed, device=DEVICE)
    if streamed:
        on_device = replace(
            on_device, pixels=tuple(Streamed(pixels) for pixels in condensed.pixels), memory=30_000
        )
        assert len(list(on_device.batches())) > 1
    weights = np.random.default_rng(1).random((4, 3))
    monkeypatch.setattr(cpu, "count", None)  # only the constants may come from the CPU path
    got = (
        on_device.confusions(weights),
        on_device.confusion(weights[0]),
        on_device.miou(weights),
        on_device.subset(["v1"]).miou(weights),
    )
    monkeypatch.undo()
    expected = (
        condensed.confusions(weights),
        condensed.confusion(weights[0]),
        condensed.miou(weights),
        condensed.subset(["v1"]).miou(weights),
    )
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)


def test_a_set_in_memory_moves_to_the_device_once(monkeypatch):
    moves = []
    once = triton_contested.upload
    monkeypatch.setattr(triton_contested, "upload", lambda *args: moves.append(args) or once(*args))
    on_device = replace(a_set(), device=DEVICE)
    for _ in range(2):
        on_device.miou([[1, 1, 1]])
        on_device.confusion([1, 1, 1])
    assert len(moves) == 1


# What is not what it says


def test_other_groups_classes_and_videos_are_refused():
    (run,) = layout.runs(a_block({2: 40}, 2, 5))
    on_device = triton_contested.upload(Parts([(2, run)]), DEVICE)
    weights = some_weights(2, 3)
    assert contested.count(on_device, weights, 5, videos=3).sum() == 3 * 40
    for groups, classes in ((3, 5), (1, 5), (2, 3)):
        with pytest.raises(ValueError, match=f"expected {groups} groups, {classes} classes"):
            contested.count(on_device, some_weights(groups, 3), classes)
    with pytest.raises(ValueError, match="a run of video 2 where there are 2"):
        contested.count(on_device, weights, 5, videos=2)


def test_runs_of_wrong_lengths_are_refused():
    (run,) = layout.runs(a_block({2: 40}, 2, 5))
    for bad in (run._replace(pixels=64), run._replace(width=3), run._replace(targets=run.classes)):
        with pytest.raises(ValueError, match="an array"):
            triton_contested.upload(Parts([(0, bad)]), DEVICE)
