"""Calls that would have left their arrays in C, each refused by the wrapper before it, or sound;
and arrays whose numbers lie more than 2^31 apart.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fusion import kernels
from fusion.kernels import contested, resized, sweep
from fusion.kernels.contested import cpu, layout, naive
from fusion.kernels.contested.layout import Block, Parts, Run
from fusion.kernels.native import build
from tests.faults.guarded import guarded, sparse
from tests.kernels.inputs import make

FAR = 1 << 31
ONES = np.ones(5)


def a_run(pixels: int = 40, groups: int = 2) -> Run:
    """Pixels with candidates 1 and 3 of five classes."""
    values = np.random.default_rng(0).random((2 * pixels, groups), np.float32)
    names, counts = np.tile(np.array([1, 3], np.uint16), pixels), np.full(pixels, 2, np.uint16)
    targets = np.ones(pixels, np.uint16)
    (run,) = layout.runs(Block(np.zeros((5, 5), np.int64), counts, targets, names, values))
    return run


def padded(name: str, value: float) -> Run:
    array = getattr(a_run(), name).copy()
    array[-1] = value
    return a_run()._replace(**{name: array})


def count(vectors: int = 3, video: int = 0, run: Run | None = None, **how) -> np.ndarray:
    weights = np.full((vectors, 2), 0.5, np.float32)
    return contested.count(Parts([(video, run or a_run())]), weights, 5, **how)


def along(ends: tuple, video: int = 0, cases: int = 1, room: int = 9, factors=None) -> sweep.Flips:
    ends = tuple(np.array(end, float) for end in ends)
    parts = Parts([(video, a_run())])
    return sweep.flips(parts, ends, 5, 0.0, 1.0, room, cases, factors)


def to_a_class(video: int = 0, cases: int = 1, weights=(0.5, 0.5), factors=ONES, room: int = 9):
    given = (np.array(weights), np.array(factors), 1, -1.0, 1.0, room, cases)
    return sweep.class_flips(Parts([(video, a_run())]), *given)


def cells(shares) -> sweep.Cells:
    none = np.zeros((0, 5))
    return sweep.Cells(none, none, none, none, np.array(shares))


BOTH = ([1, 0], [0, 1])
FACTORS = np.ones((3, 5), np.float32)
REFUSED = {
    "a candidate in padding": (lambda: count(run=padded("classes", 60000)), "not zero"),
    "that and multipliers": (
        lambda: count(run=padded("classes", 60000), multipliers=FACTORS),
        "not zero",
    ),
    "a target in padding": (lambda: count(run=padded("targets", 60000)), "not zero"),
    "a mean in padding": (lambda: count(run=padded("means", math.nan)), "not zero"),
    "no videos": (lambda: count(videos=0), "0 videos"),
    "fewer than no videos": (lambda: count(videos=-3), "-3 videos"),
    "a video below 0": (lambda: count(video=-1, videos=2), "video -1"),
    "a vector that is none": (
        lambda: contested.count(Parts([(0, a_run())]), np.ones(2), 5),
        r"weights \[2\]",
    ),
    "a case below 0": (lambda: along(BOTH, video=-1), "video -1"),
    "a case beyond": (lambda: along(BOTH, video=1), "a run of case 1, 1 cases"),
    "ends of two sizes": (lambda: along(([1, 0], [1])), r"ends \[2\], \[1\]"),
    "ends that are none": (lambda: along((np.eye(2), np.eye(2))), r"ends \[2, 2\]"),
    "less than no room": (lambda: along(BOTH, room=-1), "room for -1"),
    "another case beyond": (lambda: to_a_class(video=1), "a run of case 1, 1 cases"),
    "no cases": (lambda: to_a_class(cases=0), "a run of case 0, 0 cases"),
    "too many cases": (lambda: to_a_class(cases=1 << 17), "65536 at most"),
    "another below 0": (lambda: to_a_class(video=-1), "video -1"),
    "weights that are none": (lambda: to_a_class(weights=np.eye(2)), r"weights \[2, 2\]"),
    "multipliers that are none": (lambda: to_a_class(factors=np.eye(5)), r"pliers \[5, 5\]"),
    "no shares": (lambda: cells([]), r"shares \[0\]"),
    "shares that are none": (lambda: cells(np.ones((1, 1))), r"shares \[1, 1\]"),
    "1 / T is infinite": (
        lambda: kernels.softmax_average([torch.zeros(2, 3)], [1], temperatures=[1e-45]),
        "temperatures: got .*1e-45",
    ),
    "T is 0 in float32": (
        lambda: kernels.softmax_average([torch.zeros(2, 3)], [1], temperatures=[1e-300]),
        "temperatures: got .*1e-300",
    ),
    "1 / T is 0": (
        lambda: kernels.softmax_average([torch.zeros(2, 3)], [1], temperatures=[1e300]),
        "temperatures: got .*1e\\+300",
    ),
    "an ignored value of 65 bits": (
        lambda: kernels.confusion(np.zeros(4, "u1"), np.zeros(4, "u1"), 2, ignore=(1 << 64) + 0),
        "ignore: got",
    ),
    "ids of 64 bits without a sign": (
        lambda: kernels.confusion(np.full(4, -1).astype("u8"), np.zeros(4, "u8"), 2, ignore=-1),
        "targets hold 18446744073709551615",
    ),
}


@pytest.mark.parametrize("slow", [False, True], ids=["compiled", "naive"])
@pytest.mark.parametrize("what", REFUSED)
def test_what_would_leave_the_arrays_is_refused(what, slow, monkeypatch):
    if slow:
        monkeypatch.setattr(build, "library", lambda: None)
    call, said = REFUSED[what]
    with pytest.raises(ValueError, match=said):
        call()


@pytest.mark.parametrize("matrix", [True, False])
@pytest.mark.parametrize("factors", [None, np.ones((0, 5), np.float32)])
def test_no_weight_vectors_count_nothing_and_write_nowhere(factors, matrix):
    with guarded():
        made = count(0, multipliers=factors, matrix=matrix)
    assert made.shape == (1, 0, 5 if matrix else 2, 5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_maps_at_odd_addresses_are_read_as_they_are(dtype):
    z = torch.randn(3, 70, generator=torch.Generator().manual_seed(0)).to(dtype)
    raw = torch.cat([torch.zeros(1, dtype=torch.uint8), z.view(torch.uint8).flatten()]).numpy()
    odd = torch.frombuffer(raw, dtype=dtype, offset=1).view(3, 70)
    assert odd.data_ptr() % odd.element_size()
    got, expected = (kernels.softmax_average([each], [1]).labels for each in (odd, z))
    assert torch.equal(got, expected)


def test_frames_at_odd_addresses_are_refused():
    raw = np.zeros(2 * 3 * 4 * 4 + 1, np.uint8)[1:]
    maps = raw.view(np.float32).reshape(1, 1, 2, 3, 4)
    with pytest.raises(ValueError, match="odd addresses"):
        resized.Frames(maps, np.zeros((1, 3, 4), np.uint8), (3, 4))


# ---- numbers more than 2^31 apart: of this memory only the touched pages exist ----


def far_apart(kind: str, classes: int = 2, pixels: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """The same logits, classes side by side and 2^31 numbers apart."""
    ((near,), _) = make(kind, 1, classes, (pixels,))
    width = near.element_size()
    memory = torch.from_numpy(sparse((classes - 1) * FAR + pixels, f"u{width}"))
    far = memory.view(near.dtype).as_strided((classes, pixels), (FAR, 1))
    far.copy_(near)
    return near, far


@pytest.mark.parametrize("kind", ["codes", "float16", "float32"])
def test_classes_far_apart(kind):
    near, far = far_apart(kind, 3)
    shape, size = (3, 4, 16), (9, 40)
    mixing, bias = np.ones((1, 3, 3)) / 3, np.arange(3.0)
    for resize in ("logits", "probabilities"):
        for outputs in (("labels",), ("labels", "probabilities")):
            how = {"resize": resize, "outputs": outputs}
            made = [
                kernels.upsample_softmax_average([z.view(shape)], [1], size, **how).asked()
                for z in (near, far)
            ]
            assert all(torch.equal(made[0][name], made[1][name]) for name in outputs)
    for outputs in (("labels",), ("labels", "probabilities")):
        made = [kernels.softmax_average([z], [1], outputs=outputs).asked() for z in (near, far)]
        made += [kernels.head([z], mixing, bias, outputs=outputs).asked() for z in (near, far)]
        for a, b in (made[:2], made[2:]):
            assert all(torch.equal(a[name], b[name]) for name in outputs)


def test_pixels_far_beyond_the_first_are_condensed():
    pixels, some = 1 << 30, 600
    rng = np.random.default_rng(0)
    near = rng.random((2, 3, some), np.float32)
    means, targets = sparse(6 * pixels, "f4").reshape(2, 3, pixels), sparse(pixels, "u2")
    means[:, :, -some:], targets[-some:] = near, 1
    blocks = cpu._condense_range(means, targets, 255, 1.0, pixels - some, pixels)
    got, expected = layout.merged(blocks), naive.condense(near, np.ones(some, np.uint16), 255)
    for name in ("constant", "counts", "targets", "classes", "means"):
        assert np.array_equal(getattr(got, name), getattr(expected, name)), name


def test_undecided_pixels_far_beyond_the_first():
    """A run of 2^31 pixels, of which the last bundle is looked at."""
    near = a_run(32)
    lengths = [FAR // 32 * len(array) for array in near.arrays]
    arrays = [sparse(n, array.dtype) for n, array in zip(lengths, near.arrays, strict=True)]
    for array, some in zip(arrays, near.arrays, strict=True):
        array[-len(some) :] = some
    parts = Parts([(0, Run(2, FAR, *arrays))])
    parts._fits.add((2, 5))  # to look through all pixels would make them exist
    nothing = np.zeros(5, np.int64)
    found = []
    for some, first in ((parts, FAR - 32), (Parts([(0, near)]), 0)):
        ids = np.arange(first, first + 32)
        whole = sweep.Undecided(ids, nothing, nothing, nothing)
        bound = sweep.bound(some, whole, np.array([[0.9, 0.1], [0.6, 0.4]]))
        found.append([bound.ids - first, bound.right, bound.wrong, bound.gain])
    for got, expected in zip(*found, strict=True):
        assert np.array_equal(got, expected)
