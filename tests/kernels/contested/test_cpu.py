"""Naive and compiled condensing and counting: one contract, the same bits, sound memory."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fusion.kernels import contested
from fusion.kernels.contested import cpu, layout, naive
from fusion.kernels.contested.layout import Parts, Run
from fusion.kernels.native import build
from fusion.kernels.numbers import void_label
from tests.contested.cases import condensed_of, probabilities, some_targets, some_weights
from tests.kernels.contested.contract import ContestedContract, broken

FIELDS = ("constant", "counts", "targets", "classes", "means")


class TestNaive(ContestedContract):
    backend = naive


class TestCompiled(ContestedContract):
    backend = cpu


class TestChosen(ContestedContract):
    backend = contested


@pytest.mark.parametrize(
    ("groups", "classes", "pixels", "levels"),
    [
        (3, 11, 1700, 0),
        (3, 11, 700, 8),
        (1, 5, 600, 4),
        (2, 300, 520, 0),
        (22, 13, 600, 0),
        (5, 1, 513, 0),
        (3, 2, 40, 3),
    ],
)
def test_compiled_and_naive_return_the_same_bits(groups, classes, pixels, levels):
    means = probabilities(groups, classes, pixels, levels=levels)
    labels = some_targets(classes, pixels)
    given = means, labels.astype(np.uint16), void_label(classes)
    fast, slow = cpu.condense(*given), naive.condense(*given)
    for name in FIELDS:
        assert np.array_equal(getattr(fast, name), getattr(slow, name)), name
    cut = [piece for run in layout.runs(fast) for piece in run.cut(groups, 3)]
    parts = Parts([(index % 2, run) for index, run in enumerate(cut)])
    weights = condensed_of(means, labels).normalised(some_weights(groups))
    for matrix, some in itertools.product((True, False), (weights, weights[:0])):
        counts = cpu.count(parts, some, classes, videos=2, matrix=matrix)
        twin = naive.count(parts, some, classes, videos=2, matrix=matrix)
        assert np.array_equal(counts, twin)


def a_run(pixels: int = 40, groups: int = 2, classes: int = 5) -> Run:
    """Pixels with candidates 1 and 3."""
    values = np.random.default_rng(0).random((2 * pixels, groups), np.float32)
    names, counts = np.tile(np.array([1, 3], np.uint16), pixels), np.full(pixels, 2, np.uint16)
    nothing = np.zeros((classes, classes), np.int64)
    block = layout.Block(nothing, counts, np.ones(pixels, np.uint16), names, values)
    (run,) = layout.runs(block)
    return run


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("fault", broken(a_run(), 2, 5))
def test_pixels_that_are_not_what_they_say_are_refused(fault, slow, monkeypatch):
    if slow:
        monkeypatch.setattr(build, "library", lambda: None)
    weights, sound = np.full((3, 2), 0.5, np.float32), (0, a_run())
    assert contested.count(Parts([sound]), weights, 5).sum() == 3 * 40
    with pytest.raises(ValueError, match="contested pixels, run 1: "):
        contested.count(Parts([sound, (0, broken(a_run(), 2, 5)[fault])]), weights, 5)


@pytest.mark.parametrize("columns", [1, 3])
def test_weights_of_other_groups_are_refused(columns):
    weights = np.full((4, columns), 1 / columns, np.float32)
    with pytest.raises(ValueError, match="run 0: an array float32"):
        contested.count(Parts([(0, a_run())]), weights, 5)


def test_fewer_classes_or_videos_are_refused():
    parts, weights = Parts([(2, a_run())]), np.full((4, 2), 0.5, np.float32)
    assert contested.count(parts, weights, 4).sum() == contested.count(parts, weights, 9).sum()
    with pytest.raises(ValueError, match="class 3 where there are 3"):
        contested.count(parts, weights, 3)
    with pytest.raises(ValueError, match="a run of video 2 where there are 2"):
        contested.count(parts, weights, 4, videos=2)


@pytest.mark.parametrize("name", ["targets", "classes", "means"])
def test_padding_that_is_not_zero_is_refused(name):
    """Loops work on whole bundles: a candidate there is looked up, and two of them may change."""
    run, weights = a_run(), np.full((3, 2), 0.5, np.float32)
    array = getattr(run, name).copy()
    array[-1] = 60000
    damaged = Parts([(0, run._replace(**{name: array}))])
    for factors in (None, np.ones((3, 5), np.float32)):
        with pytest.raises(ValueError, match="run 0: lanes beyond its last pixel that are not"):
            contested.count(damaged, weights, 5, multipliers=factors)


@pytest.mark.parametrize(
    ("shape", "kind", "targets"),
    [
        *(((2, 3), "f4", 3), ((0, 3, 4), "f4", 4), ((2, 0, 4), "f4", 4)),
        *(((2, 3, 4), "f4", 5), ((2, 3, 4), "f8", 4), ((1, 1 << 16, 1), "f4", 1)),
    ],
)
def test_condense_checks_shapes_and_types(shape, kind, targets):
    with pytest.raises(ValueError, match=r"give float32 \[G, C, P\] and uint16 \[P\]"):
        contested.condense(np.zeros(shape, kind), np.zeros(targets, np.uint16), 255)


def test_bindings_refuse_other_arrays():
    """A view with gaps or another dtype never reaches the compiled loop."""
    table = Parts([(0, a_run())]).table(2, 5)
    out, weights = np.zeros((1, 3, 5, 5), np.int64), np.full((3, 2), 0.5, np.float32)
    for bad in (weights.astype(np.float64), np.repeat(weights, 2, axis=1)[:, ::2]):
        with pytest.raises(Exception, match="argument 3"):
            build.library().contested_count(table, 1, bad, None, 3, 2, 5, 1, 0, out)


def test_runs_go_to_bytes_and_back():
    run = a_run()
    content = b"".join(array.tobytes() for array in run.arrays)
    assert len(content) == layout.bundles(run.pixels) * layout.bundle_bytes(run.width, 2)
    again = layout.from_bytes(run.width, run.pixels, 2, content)
    for ours, theirs in zip(run.arrays, again.arrays, strict=True):
        assert np.array_equal(ours, theirs)
    for pixels, some in ((run.pixels, content[:-1]), (run.pixels, content + b"x"), (16, content)):
        with pytest.raises(ValueError, match=r"bytes|buffer"):
            layout.from_bytes(run.width, pixels, 2, some)
