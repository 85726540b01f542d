"""One generated call of every function of the compiled library, beside the oracle's answer.

CALLS[name](draw, place): draws shapes, layouts and values, calls the operation in front of the C
function with arrays in guarded memory, and compares with naive.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from fusion.errors import InputError
from fusion.kernels import confusion, contested, resized, sweep
from fusion.kernels.arithmetic import CHANNEL_OUTPUTS, HEAD_OUTPUTS, OUTPUTS, Fused
from fusion.kernels.average import cpu as average_cpu
from fusion.kernels.average import naive as average_naive
from fusion.kernels.call import check, check_head, check_upsampling
from fusion.kernels.confusion import naive as confusion_naive
from fusion.kernels.contested import layout
from fusion.kernels.contested import naive as contested_naive
from fusion.kernels.contested.layout import Parts, Run
from fusion.kernels.head import cpu as head_cpu
from fusion.kernels.head import naive as head_naive
from fusion.kernels.resized import naive as resized_naive
from fusion.kernels.sweep import naive as sweep_naive
from fusion.kernels.upsample import cpu as upsample_cpu
from fusion.kernels.upsample import naive as upsample_naive
from tests.contested.cases import probabilities, some_targets
from tests.faults.guarded import Place
from tests.kernels.inputs import KINDS, make
from tests.kernels.resized.test_resized import frames_of, multipliers, vectors

Draw = Callable[[st.SearchStrategy], Any]
Call = Callable[[Draw, Place], None]
WHOLE = 1 << 40
LENGTHS = st.sampled_from((0, 1, 2, 7, 15, 16, 17, 31, 33, 63, 64, 65, 127, 130, 515, 1030))
CLASSES = st.sampled_from((1, 2, 3, 5, 11, 33, 64, 256, 300))
FEW = st.sampled_from((1, 2, 3, 7, 19))
SEEDS = st.integers(0, 2**16)
CALLS: dict[str, Call] = {}


def calls(*names: str) -> Callable[[Call], Call]:
    """Decorates what calls these functions of the library."""

    def decorate(call: Call) -> Call:
        CALLS.update(dict.fromkeys(names, call))
        return call

    return decorate


def same(got: Fused, expected: Fused) -> None:
    for name, tensor in got.asked().items():
        theirs, room = getattr(expected, name), 2e-5 if name == "entropy" else 0
        assert tensor.dtype == theirs.dtype
        torch.testing.assert_close(tensor, theirs, rtol=0, atol=room, equal_nan=True, msg=name)


def laid(draw: Draw, place: Place, z: torch.Tensor) -> torch.Tensor:
    """The same values in guarded memory: other strides, gaps, an odd address."""
    how = {"first": draw(st.booleans()), "odd": draw(st.sampled_from((0, 0, 1, 2, 3)))}
    order = draw(st.permutations(range(z.ndim)))
    base = z.permute(order)
    if draw(st.booleans()) and 0 not in base.shape:  # every second number of a row, and no further
        wide = base.new_full((*base.shape[:-1], 2 * base.shape[-1] - 1), 3)
        wide[..., ::2] = base
        return place.tensor(wide, **how)[..., ::2].permute([order.index(k) for k in range(z.ndim)])
    return place.tensor(base, **how).permute([order.index(k) for k in range(z.ndim)])


def some_maps(draw: Draw, shapes: list[tuple[int, ...]], classes: int, channels: bool = False):
    """Maps, one a shape, their options, and what is asked of any operation over them."""
    kind, seed = draw(st.sampled_from(KINDS)), draw(SEEDS)
    made = [
        make(kind, m + 1, classes, shape, seed, channels=channels) for m, shape in enumerate(shapes)
    ]
    maps, values = [z[-1] for z, _ in made], [v[-1] for _, v in made]
    if draw(st.booleans()):
        for z in maps:
            if z.dtype != torch.uint8 and z.numel():
                z.view(-1)[draw(st.integers(0, z.numel() - 1))] = math.nan
    temperatures = [draw(st.sampled_from((0.3, 1.0, 9.0))) for _ in maps]
    return maps, {"values": values, "temperatures": temperatures}


def some_groups(draw: Draw, models: int) -> tuple[list[float], list[list[int]]]:
    cut = draw(st.integers(1, models))
    order = draw(st.permutations(range(models)))
    groups = [list(order[:cut]), *([m] for m in order[cut:])]
    weights = [draw(st.sampled_from((0.0, 1.0, 2.5))) for _ in groups]
    return [*weights[:-1], 1.0], groups


def some_outputs(draw: Draw, known: tuple[str, ...]) -> tuple[str, ...]:
    if draw(st.booleans()):
        return ("labels",)
    return tuple(draw(st.lists(st.sampled_from(known), min_size=1, unique=True)))


@calls("fusion_average")
def average(draw: Draw, place: Place) -> None:
    channels = draw(st.booleans())
    shape = draw(st.one_of(st.tuples(LENGTHS), st.tuples(FEW, st.integers(0, 9), FEW)))
    models, classes = draw(st.integers(1, 4)), draw(CLASSES if math.prod(shape) < 200 else FEW)
    maps, options = some_maps(draw, [shape] * models, classes, channels)
    weights, options["groups"] = some_groups(draw, models)
    known = CHANNEL_OUTPUTS if channels else OUTPUTS
    options |= {"outputs": some_outputs(draw, known), "channels": channels}
    if draw(st.booleans()):
        options["multipliers"] = [1.0 + c % 3 for c in range(classes * (2 if channels else 1))]
    given = check([laid(draw, place, z) for z in maps], weights, **options)
    full = check(maps, weights, **{**options, "outputs": known})
    same(average_cpu.average(given), average_naive.average(full, tile=WHOLE))


@calls("fusion_head")
def head(draw: Draw, place: Place) -> None:
    models, mixes = draw(st.integers(1, 3)), draw(st.booleans())
    length = draw(LENGTHS)
    classes = draw(FEW if mixes or length > 200 else CLASSES)
    maps, options = some_maps(draw, [(length,)] * models, classes)
    generator = torch.Generator().manual_seed(draw(SEEDS))
    shape = (models, classes, classes) if mixes else (models, classes)
    weights = torch.randn(shape, generator=generator), torch.randn(classes, generator=generator)
    options["outputs"] = some_outputs(draw, HEAD_OUTPUTS)
    given = check_head([laid(draw, place, z) for z in maps], *weights, **options)
    full = check_head(maps, *weights, **{**options, "outputs": HEAD_OUTPUTS})
    same(head_cpu.head(given), head_naive.head(full, tile=WHOLE))


def upsampled(draw: Draw, place: Place, resize: str, labels: bool) -> None:
    models, classes = draw(st.integers(1, 3)), draw(FEW)
    sides = st.integers(1, 9)
    shape, one = draw(st.tuples(sides, sides)), labels or draw(st.booleans())
    shapes = [shape if one else draw(st.tuples(sides, sides)) for _ in range(models)]
    size = draw(st.tuples(st.integers(1, 20), st.integers(1, 70)))
    if labels:  # the cheap ways are for enlarged logits
        size = (draw(st.integers(1, 30)), 2 * shape[1] + draw(st.integers(0, 40)))
    maps, options = some_maps(draw, shapes, classes)
    if labels:
        maps = [z.nan_to_num() for z in maps]
        for z in maps:  # two classes lead together at one corner: no cheap way settles it
            z[:2, 0, 0] = 0 if z.dtype == torch.uint8 else 40
    weights, options["groups"] = some_groups(draw, models)
    first = draw(st.integers(0, size[0]))
    options |= {"resize": resize, "rows": (first, draw(st.integers(first, size[0])))}
    options["outputs"] = ("labels",) if labels else some_outputs(draw, OUTPUTS)
    if draw(st.booleans()):
        options["multipliers"] = [1.0 + c % 3 for c in range(classes)]
    given = check_upsampling([laid(draw, place, z) for z in maps], weights, size, **options)
    full = check_upsampling(maps, weights, size, **{**options, "outputs": OUTPUTS})
    same(upsample_cpu.upsample(given), upsample_naive.upsample(full, band=WHOLE))


@calls("fusion_bilinear")
def bilinear(draw: Draw, place: Place) -> None:
    upsampled(draw, place, draw(st.sampled_from(("logits", "probabilities"))), False)


@calls("fusion_agreed", "fusion_strip_labels", "fusion_bilinear_at")
def strips(draw: Draw, place: Place) -> None:
    upsampled(draw, place, "logits", True)


@calls("fusion_resized_labels")
def corners(draw: Draw, place: Place) -> None:
    upsampled(draw, place, "probabilities", True)


@calls("fusion_confusion", "fusion_confusion_bytes")
def counted(draw: Draw, place: Place) -> None:
    kinds = [draw(st.sampled_from(("u1", "u1", "i2", "i4", "i8", "u8"))) for _ in range(2)]
    classes, length = draw(CLASSES), draw(LENGTHS)
    rng, ignore = np.random.default_rng(draw(SEEDS)), draw(st.sampled_from((255, 0, -1, 65535)))
    high = min(classes + draw(st.sampled_from((0, 0, 1))), 256)
    plain = [rng.integers(0, high, length).astype(kind) for kind in kinds]
    odd = [{"odd": draw(st.integers(0, 3)), "first": draw(st.booleans())} for _ in range(2)]
    given = [place(ids, **how) for ids, how in zip(plain, odd, strict=True)]
    try:
        expected = confusion_naive.confusion(*plain, classes, ignore=ignore)
    except InputError as error:
        expected = str(error)
    try:
        got = confusion(*given, classes, ignore=ignore)
    except InputError as error:
        got = str(error)
    assert type(got) is type(expected)
    assert np.array_equal(got, expected)


def some_frames(draw: Draw, place: Place):
    sides = st.integers(1, 9)
    native, size = draw(st.tuples(sides, sides)), draw(st.tuples(sides, st.integers(1, 40)))
    models, classes, stride = draw(sides), draw(st.sampled_from((1, 2, 5, 17))), draw(sides)
    options = {"levels": draw(st.integers(0, 4)), "wide": draw(st.booleans()), "seed": draw(SEEDS)}
    frames = frames_of(native, size, models, classes, draw(st.integers(1, 3)), stride, **options)
    first = draw(st.booleans())
    arrays = place(frames.maps, first=first), place(frames.targets, first=first)
    return frames, resized.Frames(*arrays, frames.size, frames.stride)


@calls("fusion_resized_count")
def resized_count(draw: Draw, place: Place) -> None:
    plain, frames = some_frames(draw, place)
    number, models = draw(st.sampled_from((0, 1, 2, 7, 8, 9, 33))), plain.maps.shape[1]
    weights = vectors(number, models, draw(SEEDS)) if number else np.zeros((0, models))
    scale = multipliers(number, plain.classes, draw(SEEDS))
    matrix = draw(st.booleans())
    got = resized.count(frames, place(weights), place(scale), matrix=matrix)
    expected = resized_naive.count(plain, weights, scale, matrix=matrix)
    assert np.array_equal(got, expected)


@calls("fusion_resized_flips")
def resized_flips(draw: Draw, place: Place) -> None:
    plain, frames = some_frames(draw, place)
    ends = vectors(2, plain.maps.shape[1], draw(SEEDS))
    scale = multipliers(1, plain.classes, draw(SEEDS))[0]
    room = draw(st.sampled_from((0, 1, 10**6)))
    got = resized.flips(frames, place(ends), place(scale), 0.1, 0.9, room)
    expected = resized_naive.flips(plain, ends, np.stack([scale] * 2), 0.1, 0.9, 10**6)
    assert np.array_equal(got.statistics, expected.statistics)
    if got.complete:
        assert np.array_equal(np.sort(got.flips), np.sort(expected.flips))


def some_means(draw: Draw) -> tuple[np.ndarray, np.ndarray]:
    groups, classes = draw(st.sampled_from((1, 2, 3, 5))), draw(st.sampled_from((1, 2, 5, 40)))
    pixels, levels = draw(LENGTHS), draw(st.sampled_from((0, 4)))
    means = probabilities(groups, classes, max(pixels, 1), draw(SEEDS), levels)[:, :, :pixels]
    return means, some_targets(classes, pixels, draw(SEEDS)).astype(np.uint16)


@calls("contested_filter")
def condensed(draw: Draw, place: Place) -> None:
    means, targets = some_means(draw)
    ratio, odd = draw(st.sampled_from((1.0, 1.5, 2.0**20))), draw(st.integers(0, 3))
    got = contested.condense(place(means, odd=odd), place(targets, odd=odd), 255, ratio)
    expected = contested_naive.condense(means, targets, 255, ratio)
    for name in ("constant", "counts", "targets", "classes", "means"):
        assert np.array_equal(getattr(got, name), getattr(expected, name)), name


def some_parts(draw: Draw, place: Place, videos: int = 1) -> tuple[Parts, Parts, int, int]:
    """The same pixels twice, guarded and plain; groups, classes."""
    means, targets = some_means(draw)
    runs = layout.runs(contested_naive.condense(means, targets, 255, 4.0))
    cut = [piece for run in runs for piece in run.cut(len(means), draw(st.integers(1, 3)))]
    numbered = [(k % videos, run) for k, run in enumerate(cut)]
    first = draw(st.booleans())
    copied = [
        (video, Run(run.width, run.pixels, *(place(a, first=first) for a in run.arrays)))
        for video, run in numbered
    ]
    return Parts(copied), Parts(numbered), *means.shape[:2]


def some_weights(draw: Draw, shape: tuple[int, ...], dtype: str = "f4") -> np.ndarray:
    drawn = np.random.default_rng(draw(SEEDS)).random(shape) + 1e-3
    return (drawn / drawn.sum(axis=-1, keepdims=True)).astype(dtype)


@calls("contested_count")
def many_counts(draw: Draw, place: Place) -> None:
    videos = draw(st.integers(1, 3))
    parts, plain, groups, classes = some_parts(draw, place, videos)
    weights = some_weights(draw, (draw(st.sampled_from((0, 1, 2, 9))), groups))
    how = {"videos": draw(st.sampled_from((1, videos))), "matrix": draw(st.booleans())}
    factors = some_weights(draw, (len(weights), classes)) if draw(st.booleans()) else None
    given = {**how, "multipliers": None if factors is None else place(factors, odd=1)}
    got = contested.count(parts, place(weights, odd=draw(st.integers(0, 1))), classes, **given)
    expected = contested_naive.count(plain, weights, classes, multipliers=factors, **how)
    assert np.array_equal(got, expected)


@calls("contested_flips")
def many_flips(draw: Draw, place: Place) -> None:
    cases = draw(st.integers(1, 3))
    parts, plain, groups, classes = some_parts(draw, place, cases)
    ends = some_weights(draw, (2, groups), "f8")
    factors = some_weights(draw, (classes,), "f8") + 0.1 if draw(st.booleans()) else None
    room = draw(st.sampled_from((0, 1, 10**6)))
    guarded = None if factors is None else place(factors, odd=1)
    given = (classes, 0.1, 0.9, room, cases)
    got = sweep.flips(parts, tuple(map(place, ends)), *given, guarded)
    expected = sweep_naive.flips(plain, tuple(ends), classes, 0.1, 0.9, 10**6, cases, factors)
    assert np.array_equal(got.statistics, expected.statistics)
    if got.complete:
        assert np.array_equal(np.sort(got.flips), np.sort(expected.flips))


@calls("contested_class_flips")
def class_flips(draw: Draw, place: Place) -> None:
    cases = draw(st.integers(1, 3))
    parts, plain, groups, classes = some_parts(draw, place, cases)
    weights, factors = (some_weights(draw, (n,), "f8") + 0.1 for n in (groups, classes))
    moving, room = draw(st.integers(0, classes - 1)), draw(st.sampled_from((0, 10**6)))
    got = sweep.class_flips(parts, place(weights), place(factors), moving, -2.0, 2.0, room, cases)
    given = (weights, factors, moving, -2.0, 2.0, 10**6, cases)
    expected = sweep_naive.class_flips(plain, *given)
    assert np.array_equal(got.statistics, expected.statistics)
    assert not got.complete or len(got.flips) == len(expected.flips)


@calls("contested_order", "contested_scan")
def scanned(draw: Draw, place: Place) -> None:
    rng, cases = np.random.default_rng(draw(SEEDS)), draw(st.integers(0, 3))
    classes, outers = draw(st.integers(0 if cases else 1, 6)), draw(st.integers(1, 3))
    number = draw(st.sampled_from((0, 1, 2, 500))) if cases and classes else 0
    flips = np.zeros(number, sweep.FLIP)
    flips["at"] = rng.choice([0.2, 0.5, 0.5 + 1e-9, 0.7], number)
    for name, most in (("target", classes), ("from", classes), ("to", classes), ("case", cases)):
        flips[name] = rng.integers(0, max(most, 1), number)
    rows = rng.integers(0, 900, (cases, classes))
    counted, weights = rng.integers(0, 3, rows.shape), rng.choice([1.0, 0.3], rows.shape)
    outer = rng.integers(0, outers, rows.shape)
    arrays = (rows, counted.astype("u1"), weights, outer, rng.choice([1.0, 0.1], outers))
    cells = sweep.Cells(*(place(a) for a in arrays), dice=draw(st.booleans()))
    base = rng.integers(500, 900, (cases, 2, classes))
    found = sweep.Flips(place(flips), np.zeros_like(base), True)
    got = sweep.scan(found, cells, place(base), 0.0, 1.0, 1e-6)
    ordered = flips[np.argsort(flips["at"], kind="stable")]
    twin = sweep_naive.scan(ordered, sweep.Cells(*arrays, cells.dice), base, (0.0, 1.0), 1e-6)
    np.testing.assert_allclose(got, twin, rtol=0, atol=1e-9)


@calls("contested_bound")
def bounded(draw: Draw, place: Place) -> None:
    parts, plain, groups, classes = some_parts(draw, place)
    ids = sweep.every_pixel(plain.runs)[:: draw(st.integers(1, 3))]
    corners, nothing = some_weights(draw, (groups, groups), "f8"), np.zeros(classes, np.int64)
    whole = sweep.Undecided(place(ids), place(nothing), place(nothing), place(nothing))
    got = sweep.bound(parts, whole, place(corners, odd=1))
    whole = sweep.Undecided(ids, nothing.copy(), nothing.copy(), nothing.copy())
    expected = sweep_naive.bound(plain, whole, corners, classes)
    for name in ("ids", "right", "wrong", "gain"):
        assert np.array_equal(getattr(got, name), getattr(expected, name)), name


@calls("fusion_sources", "fusion_level")
def what_it_is(draw: Draw, place: Place) -> None:
    assert len(place.fusion_sources()) in (0, 24)
    assert place.fusion_level() >= 0
