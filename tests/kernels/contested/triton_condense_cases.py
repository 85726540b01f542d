"""Condensing and counting on a GPU against the contract of both: cases for a GPU, or interpreted.

test_triton.py runs this file in a process of its own, as triton_cases.py.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch

triton_contested = pytest.importorskip("fusion.kernels.contested.triton")
from fusion.contested import build  # noqa: E402
from fusion.kernels.contested import naive  # noqa: E402
from fusion.kernels.contested.layout import Block, Parts  # noqa: E402
from tests.kernels.contested.contract import ContestedContract  # noqa: E402

DEVICE = "cpu:0" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"


class OnDevice:
    """The Triton operations, given arrays."""

    @staticmethod
    def condense(means: np.ndarray, targets: np.ndarray, ignore: int, ratio: float = 1.0) -> Block:
        tensor = torch.from_numpy(np.ascontiguousarray(means)).to(DEVICE)
        block = triton_contested.condense(tensor, targets, ignore, ratio)
        expected = naive.condense(means, targets, ignore, ratio)
        for name, array in vars(expected).items():
            got = getattr(block, name)
            assert got.dtype == array.dtype, name
            assert np.array_equal(got, array), name
        return block

    @staticmethod
    def count(parts: Parts, weights: np.ndarray, classes: int, **how: Any) -> np.ndarray:
        return triton_contested.count(
            triton_contested.upload(parts, DEVICE), weights, classes, **how
        )


class TestTriton(ContestedContract):
    backend = OnDevice


def test_means_that_are_no_contiguous_tensor_condense_alike():
    means = np.random.default_rng(0).dirichlet(np.ones(5), (2, 7, 30)).astype(np.float32)
    means = torch.from_numpy(means).to(DEVICE).permute(0, 3, 1, 2)[..., ::3]
    targets = np.arange(70, dtype=np.uint16) % 5
    got = build.condense(means, targets.reshape(7, 10), 5, ignore=255)
    expected = build.condense(means.cpu().numpy(), targets.reshape(7, 10), 5, ignore=255)
    for name, array in vars(expected).items():
        assert np.array_equal(getattr(got, name), array)


def test_a_video_on_a_gpu_gives_the_same_block_and_no_whole_map_leaves_it(monkeypatch):
    """`build` hands a GPU's tensor on as it is; here any tensor counts as a GPU's."""
    monkeypatch.setattr(build, "on_host_or_gpu", lambda means: means)
    rng = np.random.default_rng(3)
    means = rng.dirichlet(np.ones(4) / 3, (3, 6, 50)).astype(np.float32).transpose(0, 3, 1, 2)
    targets = rng.integers(0, 5, (6, 50)).astype(np.uint8)
    targets[targets == 4] = 255
    tensor = torch.from_numpy(np.ascontiguousarray(means)).to(DEVICE)
    got = build.condense(tensor, targets, 4, ignore=255, reach=1.5)
    two = build.condense_channels(tensor[:, :2], np.stack([targets % 2, 2 + targets % 2]))
    monkeypatch.undo()
    expected = build.condense(means, targets, 4, ignore=255, reach=1.5)
    channels = build.condense_channels(means[:, :2], np.stack([targets % 2, 2 + targets % 2]))
    assert len(expected.counts)
    for ours, theirs in ((got, expected), (two, channels)):
        for name, array in vars(theirs).items():
            assert np.array_equal(getattr(ours, name), array), name
    tensor[1, 2, 0, 1] = float("nan")
    monkeypatch.setattr(build, "on_host_or_gpu", lambda means: means)
    with pytest.raises(ValueError, match=r"pixel \[0, 1\] has scores that are NaN"):
        build.condense(tensor, np.zeros_like(targets), 4, ignore=255)
