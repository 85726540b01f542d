"""Confusion counts on the CPU, compiled and by NumPy: the contract, and NumPy arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusion import kernels
from fusion.errors import InputError
from fusion.kernels.confusion import cpu, naive
from fusion.kernels.native import build
from tests.kernels.confusion.contract import ConfusionContract


class TestCpu(ConfusionContract):
    backend = cpu


class TestNaive(ConfusionContract):
    backend = naive

    def expected(self, targets, labels, classes, ignore=255):
        counts = np.zeros((classes, classes), np.int64)
        counted = targets.to(torch.int64) != ignore
        pair = (targets[counted].to(torch.int64).numpy(), labels[counted].to(torch.int64).numpy())
        np.add.at(counts, pair, 1)
        return counts


def test_by_hand():
    targets, labels = torch.tensor([0, 0, 1, 255, 1]), torch.tensor([0, 1, 1, 9, 1])
    assert naive.confusion(targets, labels, 2).tolist() == [[1, 1], [0, 2]]


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    ("dtype", "void"),
    [("u1", 255), ("u2", 65535), ("i2", -1), ("u4", 255), (">i4", 255), ("i8", 255)],
)
def test_numpy_arrays_give_numpy_counts(monkeypatch, dtype, void, compiled):
    if not compiled:
        monkeypatch.setattr(build, "library", lambda: None)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 11, (3, 70, 400)).astype(dtype)
    targets = np.where(rng.random(labels.shape) < 0.1, void, labels[::-1]).astype(dtype)
    targets.flags.writeable = labels.flags.writeable = False  # as files are mapped
    counts = kernels.confusion(targets, labels, 11, ignore=void)
    assert isinstance(counts, np.ndarray)
    assert counts.dtype == np.int64
    counted = targets != void
    expected = np.zeros((11, 11), np.int64)
    np.add.at(expected, (targets[counted].astype(int), labels[counted].astype(int)), 1)
    assert np.array_equal(counts, expected)
    flipped = kernels.confusion(targets[:, ::-1], labels[:, ::-1], 11, ignore=void)
    assert np.array_equal(flipped, expected)
    both = kernels.confusion(targets, labels.astype("u2"), 11, ignore=void)
    assert np.array_equal(both, expected)


def test_bytes_are_counted_without_a_copy(monkeypatch):
    """The addresses that the byte loop gets are those of the caller's arrays."""
    ids, seen = np.zeros(100, np.uint8), []

    class Library:
        fusion_confusion = None

        @staticmethod
        def fusion_confusion_bytes(targets, labels, *_):
            seen.extend((targets, labels))
            return 1

    monkeypatch.setattr(build, "library", lambda: Library)
    cpu.confusion(ids, ids.reshape(10, 10), 2)
    assert seen == [ids.ctypes.data] * 2


def test_what_is_wrong_is_the_callers_mistake():
    ids = np.zeros(4, np.uint8)
    with pytest.raises(InputError, match=r"labels hold 3, 4 outside 0\.\.1; every pixel"):
        kernels.confusion(ids, np.array([0, 3, 1, 4], np.uint8), 2)
    with pytest.raises(InputError, match=r"labels hold 256 outside 0\.\.1"):
        kernels.confusion(ids, np.array([0, 256, 1, 0], np.uint16), 2)
    with pytest.raises(TypeError, match=r"targets: got float32.*NumPy array"):
        kernels.confusion(ids.astype(np.float32), ids, 2)
    with pytest.raises(TypeError, match="labels: got bool"):
        kernels.confusion(ids, ids.astype(bool), 2)
    with pytest.raises(TypeError, match="labels: got list"):
        kernels.confusion(ids, [0, 0, 0, 0], 2)
    with pytest.raises(ValueError, match=r"labels: got \(3,\)"):
        kernels.confusion(ids, ids[:3], 2)
