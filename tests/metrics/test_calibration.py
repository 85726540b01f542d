"""ECE, NLL and Brier score, against torchmetrics, loops over pixels, and answers by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassCalibrationError

import fusion
from fusion.errors import InputError
from fusion.kernels import softmax_average
from fusion.labels import write_labels
from fusion.metrics import Calibration
from fusion.metrics.calibration import OUTPUTS, band_sums
from tests.ensemble.simulated import CLASSES, SIZE, VIDEOS, make_store


def fused_of(probabilities: np.ndarray):
    return softmax_average(
        [torch.tensor(probabilities, dtype=torch.float32)],
        [1.0],
        values="probabilities",
        outputs=OUTPUTS,
    )


def measured(probabilities: np.ndarray, target: np.ndarray) -> Calibration:
    """Of probabilities [C, ...]."""
    return Calibration({"v": band_sums(fused_of(probabilities), target)})


def drawn(classes: int = 7, pixels: int = 5000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [C, P] that are too sure, and targets with void."""
    draw = np.random.default_rng(seed)
    p = draw.dirichlet(np.full(classes, 0.3), pixels).T.astype(np.float32)
    target = np.array([draw.choice(classes, p=q**0.5 / (q**0.5).sum()) for q in p.T]).astype("u1")
    target[draw.random(pixels) < 0.1] = 255
    return p, target


def slow(p: np.ndarray, target: np.ndarray) -> tuple[float, float, float]:
    """The formulas, a pixel at a time in float64."""
    bins, nll, brier, n = [[0.0, 0.0] for _ in range(15)], 0.0, 0.0, 0
    for q, t in zip(p.T.astype(np.float64).tolist(), target.tolist(), strict=True):
        if t == 255:
            continue
        n += 1
        top = max(q)
        b = next(b for b in range(15) if top <= (b + 1) / 15 or b == 14)
        bins[b][0] += top
        bins[b][1] += q.index(top) == t
        nll -= math.log(max(q[t], math.exp(-24)))
        brier += sum((q[c] - (c == t)) ** 2 for c in range(len(q)))
    return sum(abs(c - r) for c, r in bins) / n, nll / n, brier / n


@pytest.mark.parametrize("classes", [2, 7, 30])
def test_equals_loops_over_pixels(classes):
    p, target = drawn(classes, 2000, classes)
    p[:, :3] = 0.0
    p[1, :3] = 1.0  # sure, and for class 0 at no probability at all: the floor
    target[:3] = [1, 0, 0]
    found = measured(p, target)
    assert (found.ece, found.nll, found.brier) == pytest.approx(slow(p, target), abs=1e-7)
    assert found.pixels == (target != 255).sum()


@pytest.mark.parametrize("seed", [3, 4])
def test_ece_is_torchmetrics(seed):
    p, target = drawn(5, 4000, seed)
    metric = MulticlassCalibrationError(5, n_bins=15, norm="l1", ignore_index=255)
    expected = metric(torch.tensor(p.T), torch.tensor(target.astype(np.int64)))
    assert measured(p, target).ece == pytest.approx(float(expected), abs=1e-6)


def test_by_hand():
    """Sixteenths are exact in float32: four pixels in three bins, one of them void."""
    p = np.array([[0.75, 0.25], [0.75, 0.25], [0.5, 0.5], [0.125, 0.875]]).T
    found = measured(p, np.array([0, 1, 1, 255], np.uint8))
    # 0.75 is in bin 11 twice, right once; 0.5 in bin 7, wrong (a tie is the lower class)
    assert found.ece == pytest.approx((abs(1.5 - 1) + abs(0.5 - 0)) / 3, abs=1e-12)
    assert found.nll == pytest.approx((-math.log(0.75) - math.log(0.25) - math.log(0.5)) / 3)
    assert found.brier == pytest.approx((2 * 0.0625 + 2 * 0.5625 + 2 * 0.25) / 3, abs=1e-12)
    assert found.reliability[11].tolist() == [2.0, 0.75, 0.5]
    assert found.to_json()["reliability"][0] == [0, None, None]
    nothing = measured(p, np.full(4, 255, np.uint8))
    assert all(math.isnan(x) for x in (nothing.ece, nothing.nll, nothing.brier))
    assert nothing.to_json()["ece"] is None


def test_videos_add_up_in_any_order():
    parts = {f"v{k}": measured(*drawn(seed=k)).sums["v"] for k in range(3)}
    one, two, three = (Calibration({name: array}) for name, array in parts.items())
    whole = Calibration(parts)
    assert np.array_equal((three + one + two).total, whole.total)
    assert (three + one + two).nll == whole.nll
    assert "15000 pixels" not in repr(whole)  # void ones do not count
    assert repr(whole) == f"Calibration({whole.text()}; 3 videos, {whole.pixels} pixels)"
    with pytest.raises(InputError, match="video 'v0' is in both"):
        one + whole
    with pytest.raises(InputError, match="video 'v' has float64"):
        Calibration({"v": np.zeros((15, 5))})


def test_pixels_without_probabilities_are_refused():
    p, target = drawn(3, 10)
    fused, target[4] = fused_of(p), 1
    nan = replace(fused, confidence=fused.confidence.clone())
    nan.confidence[4] = torch.nan
    with pytest.raises(InputError, match=r"1 labelled pixels have no probabilities \(NaN\)"):
        band_sums(nan, target)


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_an_ensemble_is_measured_band_by_band(tmp_path, mean):
    stores = [make_store(tmp_path / f"m{k}.zarr", k) for k in range(3)]
    ensemble = fusion.HierarchicalEnsemble({"a": stores[:2], "b": stores[2:]}, mean=mean)
    draw, targets = np.random.default_rng(0), []
    for frame in VIDEOS["a"][:2]:  # the third has no labels
        targets.append(draw.integers(0, len(CLASSES), SIZE).astype(np.uint8))
        targets[-1][:3] = 255
        write_labels(tmp_path / "labels" / "a" / f"{frame}.png", targets[-1])
    truth = fusion.Labels.folder(tmp_path / "labels")
    found = ensemble.calibration(truth)
    p = ensemble.predict_proba("a", VIDEOS["a"][:2]).transpose(1, 0, 2, 3).reshape(5, -1)
    expected = slow(p, np.stack(targets).ravel())
    assert (found.ece, found.nll, found.brier) == pytest.approx(expected, abs=1e-6)
    tight = ensemble.regrouped(ensemble.groups, memory=30_000)
    assert len(tight.plan("a", OUTPUTS).bands) > 1
    for same, scheduler in ((tight, "synchronous"), (ensemble, "processes")):
        again = same.calibration(truth, videos=["a"], scheduler=scheduler)
        assert np.array_equal(again.total, found.total)
