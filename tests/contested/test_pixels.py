"""A condensed set: batches, videos, subsets and devices add up to the same counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fusion.contested import Builder, condense
from fusion.errors import InputError
from fusion.kernels import contested
from fusion.metrics import CONVENTIONS, OBJECTIVES, miou, objective
from tests.contested.cases import condensed_of, probabilities, some_targets, some_weights


def test_batches_videos_and_subsets_add_up(monkeypatch):
    means, targets, weights = (
        probabilities(3, 5, 3000, agree=1.0),
        some_targets(5, 3000),
        some_weights(3, 20),
    )
    condensed = condensed_of(means, targets, 6)
    matrices = condensed.confusions(weights)
    assert np.array_equal(condensed.confusion(weights[3]).sum(axis=0), matrices[3])
    halves = [condensed.subset(condensed.videos[:2]), condensed.subset(condensed.videos[2:])]
    assert np.array_equal(halves[0].confusions(weights) + halves[1].confusions(weights), matrices)
    assert halves[1].pixels[0] is condensed.pixels[2]
    monkeypatch.setattr("fusion.contested.pixels.COUNTS", 1)  # one weight vector at a time
    assert np.array_equal(condensed.confusions(weights), matrices)
    assert np.array_equal(matrices.sum(axis=2), np.broadcast_to(condensed.rows, matrices.shape[:2]))


@pytest.mark.parametrize("wanted", [*OBJECTIVES, objective("case-dice-monai", {1: 0.3, 4: 2.0})])
def test_a_score_is_that_of_each_videos_matrices(wanted, monkeypatch):
    targets = some_targets(6, 2000)
    targets[targets == 4] = 1  # a class without pixels
    targets[:1000][targets[:1000] == 2] = 0  # and one that some videos do not have
    condensed = condensed_of(probabilities(3, 6, 2000), targets, 3)
    weights = some_weights(3, 30)
    expected = [objective(wanted).of(condensed.confusion(each)) for each in weights]
    found = condensed.miou(weights, wanted)
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    monkeypatch.setattr("fusion.contested.pixels.COUNTS", 8 * 2 * 3 * 6 * 7)  # seven at a time
    assert np.array_equal(condensed.miou(weights, wanted), found)
    assert condensed.miou(weights[:0], wanted).shape == (0,)
    matrices = np.stack([condensed.subset([v]).confusion(weights[0])[0] for v in condensed.videos])
    assert np.array_equal(condensed.rows_per_video, matrices.sum(axis=2))
    alone = [condensed.subset([video]).base for video in condensed.videos]
    assert np.array_equal(condensed.base_per_video, alone)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_miou_is_that_of_the_matrices(convention):
    targets = some_targets(6, 2000)
    targets[targets == 4] = 1  # a class without pixels
    condensed = condensed_of(probabilities(3, 6, 2000), targets, 3)
    weights = some_weights(3, 30)
    assert np.array_equal(
        condensed.miou(weights, convention), miou(condensed.confusions(weights), convention)
    )


def test_wrong_weights_videos_and_blocks():
    condensed = condensed_of(probabilities(2, 3, 50), some_targets(3, 50), 2)
    for weights in ([[1.0]], [1.0, 1.0], [[-1.0, 1.0]], [[0.0, 0.0]], [[np.nan, 1.0]]):
        with pytest.raises(InputError, match="weights"):
            condensed.miou(weights)
    for videos in (["v9"], ["v0", "v0"], []):
        with pytest.raises(InputError, match="subset"):
            condensed.subset(videos)
    with pytest.raises(InputError, match="2 groups, 3 classes; expected 1 and 3"):
        Builder(["a"], ["x", "y", "z"]).append(
            "v", condense(probabilities(2, 3, 5), np.zeros(5, np.uint8), 3, ignore=255)
        )


def test_device():
    condensed = condensed_of(probabilities(3, 5, 400), some_targets(5, 400), 2)
    same = condensed.on("cpu:0")
    assert (same.device, same.pixels) == ("cpu", condensed.pixels)
    for device in ("cuda:99", "mps", "nonsense", ""):
        with pytest.raises(InputError, match=rf"device: got '{device}'.*give"):
            condensed.on(device)
    if torch.cuda.is_available():
        on_device, weights = condensed.on("cuda"), some_weights(3)
        assert on_device.subset(["v1"]).device == "cuda"
        assert np.array_equal(on_device.confusions(weights), condensed.confusions(weights))


def test_a_gpu_without_memory_leaves_counting_to_the_cpu(monkeypatch):
    means, targets = probabilities(3, 5, 500), some_targets(5, 500)
    here = condensed_of(means, targets)

    def full(parts, device):
        if device == "cpu":
            return parts
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("fusion.contested.pixels.on_device", full)
    with pytest.warns(UserWarning, match="device cuda:0: out of memory; labels are counted on"):
        found = replace(here, device="cuda:0").confusions(some_weights(3))
    assert np.array_equal(found, here.confusions(some_weights(3)))


def test_a_gpu_without_memory_leaves_condensing_to_the_cpu(monkeypatch):
    means, targets = probabilities(3, 5, 500), some_targets(5, 500)
    honest = contested.condense
    expected = condense(means, targets, 5, ignore=255)

    def full(means, *given):
        if isinstance(means, torch.Tensor):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return honest(means, *given)

    monkeypatch.setattr("fusion.contested.build.on_host_or_gpu", torch.as_tensor)
    monkeypatch.setattr(contested, "condense", full)
    with pytest.warns(UserWarning, match="out of memory; condensing goes on on the CPU"):
        found = condense(means, targets, 5, ignore=255)
    assert np.array_equal(found.constant, expected.constant)
    assert np.array_equal(found.means, expected.means)
