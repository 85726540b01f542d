"""Probabilities in nnU-Net's layout, read with numpy."""

from __future__ import annotations

import tracemalloc
from typing import ClassVar

import numpy as np
import pytest

import fusion
from fusion.errors import InputError
from fusion.outputs import write
from tests.outputs.contract import OutputContract
from tests.outputs.simulated import FRAMES, FakeEnsemble


def probabilities(path):
    """[T, C, H, W]."""
    with np.load(path, allow_pickle=False) as arrays:
        assert list(arrays) == ["probabilities"]
        return arrays["probabilities"].swapaxes(0, 1)


class TestNpz(OutputContract):
    kind = "npz"

    def main_files(self, out, video):
        return [out / f"{video}.npz"]

    def read(self, out, video, *, probabilities=False):
        return np.concatenate([_read(path) for path in self.main_files(out, video)])


class TestNpzPerFrame(TestNpz):
    options: ClassVar = {"per": "frame"}

    def main_files(self, out, video):
        if (out / f"{video}.npz").exists():
            return [out / f"{video}.npz"]
        return [out / video / f"{frame}.npz" for frame in FRAMES.get(video, ("0", "1"))]


_read = probabilities


def test_halves(tmp_path):
    ensemble = FakeEnsemble()
    write(ensemble, tmp_path, "npz", dtype="float16")
    expected = np.stack([ensemble.probabilities("case", f) for f in ensemble.frames("case")])
    found = probabilities(tmp_path / "case.npz")
    assert found.dtype == np.float16
    assert np.array_equal(found, expected.astype(np.float16))


def test_the_file_is_numpys_own(tmp_path):
    ensemble = FakeEnsemble()
    write(ensemble, tmp_path, "npz")
    whole = np.stack([ensemble.probabilities("long", f) for f in ensemble.frames("long")], axis=1)
    np.savez_compressed(tmp_path / "own.npz", probabilities=whole)
    assert (tmp_path / "own.npz").read_bytes() == (tmp_path / "long.npz").read_bytes()


@pytest.mark.parametrize("options", [{"per": "case"}, {"dtype": "float64"}])
def test_options_that_are_none(tmp_path, options):
    with pytest.raises(InputError, match=r"npz: got per=.*choose of \('unit', 'frame'\) and of"):
        write(FakeEnsemble(), tmp_path, "npz", **options)


def test_memory_is_that_of_a_frame(tmp_path):
    frames, logits = 60, np.zeros((60, 2, 4, 4), np.float32)
    ensemble = fusion.HierarchicalEnsemble([fusion.MemoryStore({"v": logits}, size=(200, 300))])
    whole = frames * 2 * 200 * 300 * 4
    write(ensemble, tmp_path / "first", "npz")
    tracemalloc.start()
    write(ensemble, tmp_path / "second", "npz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < whole / 4
    assert probabilities(tmp_path / "second" / "v.npz").shape == (frames, 2, 200, 300)
