"""Confusion matrices and mIoU, against torchmetrics and loops that spell the formulas out."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchmetrics import JaccardIndex

from fusion.errors import InputError
from fusion.kernels.confusion import cpu, naive
from fusion.metrics import CONVENTIONS, class_iou, confusion, miou, miou_of_counts
from tests.metrics.oracles import slow_confusion, slow_miou

matrices = st.integers(1, 6).flatmap(
    lambda c: arrays(np.int64, (c, c), elements=st.integers(0, 50) | st.just(0))
)


def test_confusion_beyond_255_classes():
    targets, labels = np.uint16([300, 299, 65535, 255]), np.uint16([300, 0, 65535, 255])
    matrix = confusion(targets, labels, 301, ignore=65535)
    assert np.argwhere(matrix).tolist() == [[255, 255], [299, 0], [300, 300]]
    assert matrix.sum() == 3


def test_confusion_counts_the_same_in_blocks(monkeypatch):
    rng = np.random.default_rng(1)
    targets, labels = rng.integers(0, 5, 1000), rng.integers(0, 5, 1000)
    whole = confusion(targets, labels, 5)
    monkeypatch.setattr(cpu, "STEP", 37)
    monkeypatch.setattr(naive, "BLOCK", 41)
    np.testing.assert_array_equal(confusion(targets, labels, 5), whole)
    np.testing.assert_array_equal(naive.confusion(targets, labels, 5), whole)


@pytest.mark.parametrize(
    ("targets", "labels", "classes", "message"),
    [
        ([0, 7, 9], [0, 0, 0], 4, "targets hold 7, 9 outside 0..3"),
        ([0, 1, 1], [0, 4, 255], 4, "labels hold 4, 255 outside 0..3"),
        ([0, 1], [0, -1], 4, "labels hold -1 outside"),
        ([-1, 1], [0, 0], 4, "targets hold -1 outside"),
        ([0, 1], [0], 4, "one shape"),
        ([0.0, 1.0], [0, 1], 4, "targets are float64"),
        ([0, 1], [0, 1], 0, "classes: got 0"),
    ],
)
def test_confusion_refuses(targets, labels, classes, message):
    with pytest.raises(InputError, match=message):
        confusion(targets, labels, classes)


@settings(deadline=None, max_examples=60)
@given(matrices, st.sampled_from(CONVENTIONS))
def test_miou_equals_the_formula(matrix, convention):
    np.testing.assert_allclose(miou(matrix, convention), slow_miou(matrix, convention), rtol=1e-14)


@pytest.mark.parametrize("absent", [(), (2, 4)])
def test_union_is_torchmetrics_macro(absent):
    rng = np.random.default_rng(3)
    classes = 6
    present = [c for c in range(classes) if c not in absent]
    targets = rng.choice([*present, 255], 5000)
    labels = rng.choice(present, 5000)
    oracle = JaccardIndex(task="multiclass", num_classes=classes, ignore_index=255, average="macro")
    expected = float(oracle(torch.from_numpy(labels), torch.from_numpy(targets)))
    found = float(miou(confusion(targets, labels, classes), "union"))
    assert found == pytest.approx(expected, abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from(CONVENTIONS))
def test_a_batch_gives_the_bits_of_its_members(seed, classes, convention):
    batch = np.random.default_rng(seed).integers(0, 99, (5, classes, classes))
    one_by_one = [float(miou(matrix, convention)) for matrix in batch]
    counts = np.einsum("bcc->bc", batch), batch.sum(axis=2), batch.sum(axis=1)
    for order in (np.ascontiguousarray, np.asfortranarray):
        np.testing.assert_array_equal(miou(order(batch), convention), one_by_one)
        of_counts = miou_of_counts(*map(order, counts), convention)
        np.testing.assert_array_equal(of_counts, one_by_one)
    assert class_iou(batch).shape == (5, classes)


@settings(deadline=None, max_examples=30)
@given(arrays(np.uint8, (2, 2, 5, 5), elements=st.integers(0, 2)), arrays(bool, (2, 5, 5)))
def test_confusion_adds_up(maps, void):
    targets, labels = np.where(void, np.uint8(255), maps[0]), maps[1]
    halves = [confusion(t, p, 3) for t, p in zip(targets, labels, strict=True)]
    np.testing.assert_array_equal(confusion(targets, labels, 3), sum(halves))


def test_imports_are_light():
    heavy = "{'dask', 'torch', 'PIL', 'distributed', 'tqdm', 'zarr'} & set(sys.modules)"
    code = "import sys, fusion.metrics, fusion.labels, fusion.metrics.evaluation"
    subprocess.run([sys.executable, "-c", f"{code}; assert not {heavy}, {heavy}"], check=True)


INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", ">u2", ">i4"]


def views(array):
    """The same values in memory that is read-only, reversed, in Fortran's order, and strided."""
    frozen = array.copy()
    frozen.flags.writeable = False
    wide = np.repeat(array, 3, axis=1)
    return frozen, array[::-1, ::-1].copy()[::-1, ::-1], np.asfortranarray(array), wide[:, ::3]


@pytest.mark.parametrize("targets_type", INTEGERS)
@pytest.mark.parametrize("labels_type", ["uint8", "int32", ">u2"])
def test_any_integers_in_any_memory(targets_type, labels_type):
    rng = np.random.default_rng(4)
    targets = rng.choice([0, 1, 2, 3, 100], (9, 11)).astype(targets_type)
    labels = rng.integers(0, 4, (9, 11)).astype(labels_type)
    labels[targets == 100] = 200  # whatever is predicted at void
    expected = slow_confusion(targets, labels, 4, ignore=100)
    before = targets.copy(), labels.copy()
    for t, p in zip(views(targets), views(labels), strict=True):
        matrix = confusion(t, p, 4, ignore=100)
        assert matrix.dtype == np.int64
        np.testing.assert_array_equal(matrix, expected)
    assert np.array_equal([targets, labels], before)


@settings(max_examples=40)
@given(st.sampled_from(["u1", "u2", "i8"]), st.integers(1, 40), st.integers(0, 200_000))
def test_confusion_equals_bincount(dtype, classes, pixels):
    rng = np.random.default_rng(pixels)
    targets = rng.integers(0, classes + 1, pixels).astype(dtype)  # C: to be ignored
    labels = rng.integers(0, classes, pixels).astype(dtype)
    kept = targets != classes
    pairs = targets[kept].astype(np.int64) * classes + labels[kept]
    expected = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    found = confusion(targets, labels, classes, ignore=classes)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)


def test_values_beyond_the_type_of_the_kernel_are_named():
    huge = np.array([0, 2**64 - 1, 2**63], np.uint64)
    with pytest.raises(InputError, match=f"targets hold {2**63}, {2**64 - 1} outside"):
        confusion(huge, np.zeros(3, np.uint8), 4)
    small = np.array([255], np.uint8)  # -1 is no uint8, so nothing is ignored
    with pytest.raises(InputError, match=r"targets hold 255 outside 0\.\.3"):
        confusion(small, np.zeros(1, np.uint8), 4, ignore=-1)


def test_many_values_outside_are_cut_short():
    with pytest.raises(InputError, match=r"labels hold 4, 5, .*, 13, \.\.\. outside 0\.\.3; every"):
        confusion(np.zeros(50, np.uint8), np.arange(50, dtype=np.uint8), 4)
