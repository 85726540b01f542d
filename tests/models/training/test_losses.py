"""Each loss beside its formula in NumPy, and its gradients beside finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusion.models.training import losses


def draw(seed: int, classes: int = 5, size: tuple[int, int] = (4, 6)):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, classes, *size, generator=generator, dtype=torch.float64).float()
    targets = torch.randint(0, classes, (2, *size), generator=generator)
    targets[torch.rand(2, *size, generator=generator) < 0.2] = 255
    return logits, targets


def negative_log(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """-log softmax(logits)[target] per pixel, nan at void, one pixel after the other in float64."""
    out = np.full(targets.shape, np.nan)
    for n, y, x in np.ndindex(*targets.shape):
        if targets[n, y, x] < logits.shape[1]:
            z = logits[n, :, y, x].astype(np.float64)
            total = sum(math.exp(v - z.max()) for v in z)
            out[n, y, x] = math.log(total) + z.max() - z[targets[n, y, x]]
    return out


@given(st.integers(0, 10_000))
def test_cross_entropy_is_the_mean_over_labelled_pixels(seed):
    logits, targets = draw(seed)
    expected = np.nanmean(negative_log(logits.numpy(), targets.numpy()))
    assert losses.cross_entropy(logits, targets).item() == pytest.approx(expected, rel=1e-5)


def test_logits_are_interpolated_to_the_targets():
    logits, _ = draw(0)
    targets = torch.randint(0, 5, (2, 8, 12))
    larger = torch.nn.functional.interpolate(logits, (8, 12), mode="bilinear", align_corners=False)
    assert losses.cross_entropy(logits, targets) == losses.cross_entropy(larger, targets)


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.ohem_cross_entropy])
def test_only_void_is_a_loss_of_zero(loss):
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    value = loss(logits, torch.full((1, 2, 2), 255))
    value.backward()
    assert value == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def mmsegmentation_s(logits, targets, threshold: float, min_kept: int) -> tuple[np.ndarray, float]:
    """What it keeps, and its loss, written out.

    mmseg/structures/sampler/ohem_pixel_sampler.py: batch_kept = min_kept * N; the limit is
    max(sort_prob[min(batch_kept, numel - 1)], thresh) over valid pixels; kept is prob < limit.
    mmseg/models/losses/cross_entropy_loss.py and utils.py: (loss * weight).mean() over all pixels,
    as avg_non_ignore is False and avg_factor None.
    """
    losses = negative_log(logits.numpy(), targets.numpy())
    probability = np.exp(-losses)
    ranked = np.sort(probability[~np.isnan(probability)])
    if not len(ranked):
        return np.zeros(losses.shape, bool), 0.0
    limit = max(ranked[min(min_kept * len(losses), len(ranked) - 1)], threshold)
    kept = probability < limit  # nan, void: False
    return kept, float(np.where(kept, losses, 0.0).mean())


@given(st.integers(0, 10_000), st.sampled_from([0.3, 0.7, 0.95]), st.integers(0, 30))
def test_ohem_is_mmsegmentation_s(seed, threshold, min_kept):
    logits, targets = draw(seed)
    values, counted = losses.pixel_losses(logits, targets)
    kept = losses.hard_pixels(values, counted, threshold, min_kept).numpy()
    expected, loss = mmsegmentation_s(logits, targets, threshold, min_kept)
    np.testing.assert_array_equal(kept, expected)
    found = losses.ohem_cross_entropy(logits, targets, threshold, min_kept).item()
    assert found == pytest.approx(loss, rel=1e-5, abs=1e-7)


def test_ohem_by_hand():
    # one row of pixels with p_target = 0.9, 0.8, 0.6, 0.2 and void, twice
    probability = torch.tensor([0.9, 0.8, 0.6, 0.2, 0.5])
    logits = torch.stack([probability.log(), (1 - probability).log()])[None, :, None]
    targets = torch.tensor([[[0, 0, 0, 0, 255]]])
    values, counted = losses.pixel_losses(logits, targets)
    # 1: the limit is the threshold; 3: p of the fourth; 9: of the last, itself left out
    for min_kept, expected in ((1, [0, 0, 1, 1, 0]), (3, [0, 1, 1, 1, 0]), (9, [0, 1, 1, 1, 0])):
        kept = losses.hard_pixels(values, counted, 0.7, min_kept)
        assert kept.flatten().int().tolist() == expected
    found = losses.ohem_cross_entropy(logits, targets, 0.7, 1).item()
    assert found == pytest.approx(-(math.log(0.6) + math.log(0.2)) / 5, rel=1e-6)


def test_ohem_keeps_so_many_per_image_of_the_batch():
    """10 of each of two easy images; whichever image they are in."""
    sure = torch.linspace(0.8, 0.99, 40)
    probability = torch.cat([sure[:15], sure[25:], sure[15:25]]).view(2, 4, 5)
    logits = torch.stack([probability, 1 - probability], dim=1).log()
    values, counted = losses.pixel_losses(logits, torch.zeros(2, 4, 5, dtype=torch.int64))
    kept = losses.hard_pixels(values, counted, 0.7, 10)
    assert kept.sum() == 20
    assert torch.equal(kept, probability < sure[20] - 1e-4)


def test_the_paper_s_numbers_are_the_defaults():
    assert (losses.OHEM_THRESHOLD, losses.OHEM_MIN_KEPT) == (0.7, 200_000)


@given(st.integers(0, 10_000))
def test_distillation_is_kl_from_teacher_to_student(seed):
    (student, _), (teacher, _) = draw(seed), draw(seed + 1)
    total = 0.0
    for n, y, x in np.ndindex(2, 4, 6):
        q, p = (torch.softmax(z[n, :, y, x].double(), 0).numpy() for z in (teacher, student))
        total += float(np.sum(q * np.log(q / p)))
    found = losses.distillation(student, teacher).item()
    assert found == pytest.approx(total / 48, rel=1e-4, abs=1e-6)
    assert losses.distillation(student, student + 7.0).item() == pytest.approx(0.0, abs=1e-5)


@given(st.integers(0, 10_000), st.sampled_from([0.5, 1.0, 4.0]))
def test_distillation_from_probabilities(seed, temperature):
    """Both sides softened, times T squared; pixels without probabilities count nowhere."""
    (student, _), (teacher, _) = draw(seed), draw(seed + 1)
    known = torch.softmax(teacher.double(), dim=1)
    known[0, :, 1, :3] = 0
    total = 0.0
    for n, y, x in np.ndindex(2, 4, 6):
        if known[n, :, y, x].sum() == 0:
            continue
        q = known[n, :, y, x].numpy() ** (1 / temperature)
        p = torch.softmax(student[n, :, y, x].double() / temperature, 0).numpy()
        total += float(np.sum(q / q.sum() * np.log(q / q.sum() / p)))
    found = losses.taught_by(student, known.float(), temperature).item()
    assert found == pytest.approx(temperature**2 * total / 45, rel=1e-3, abs=1e-5)
    hot = losses.distillation(student, teacher, temperature).item()
    assert losses.taught_by(student, torch.softmax(teacher, 1), temperature).item() == (
        pytest.approx(hot, rel=1e-3, abs=1e-5)
    )


def test_distillation_at_another_resolution():
    student = torch.randn(1, 3, 4, 4)
    even = torch.softmax(student.mean(dim=(2, 3), keepdim=True), 1).expand(1, 3, 8, 8)
    near = torch.softmax(student.mean(dim=(2, 3), keepdim=True), 1).expand(1, 3, 4, 4)
    assert losses.taught_by(student, even).item() == pytest.approx(
        losses.taught_by(student, near).item(), rel=1e-5
    )
    assert losses.taught_by(student, torch.zeros(1, 3, 4, 4)).item() == 0


def finite_differences(function, point: torch.Tensor, step: float = 1e-2) -> torch.Tensor:
    gradient = torch.zeros_like(point)
    for index in np.ndindex(*point.shape):
        ends = []
        for sign in (1, -1):
            moved = point.clone()
            moved[index] += sign * step
            ends.append(function(moved).double())
        gradient[index] = (ends[0] - ends[1]) / (2 * step)
    return gradient


@pytest.mark.parametrize("name", ["cross_entropy", "ohem", "distillation"])
def test_gradients_by_finite_differences(name):
    logits, targets = draw(5, classes=3, size=(2, 3))
    teacher, _ = draw(6, classes=3, size=(2, 3))
    function = {
        "cross_entropy": lambda z: losses.cross_entropy(z, targets),
        "ohem": lambda z: losses.ohem_cross_entropy(z, targets, 0.7, 2),
        "distillation": lambda z: losses.distillation(z, teacher),
    }[name]
    point = logits.clone().requires_grad_()
    function(point).backward()
    estimated = finite_differences(function, logits)
    torch.testing.assert_close(point.grad, estimated, atol=2e-3, rtol=2e-2)


def test_distillation_gives_the_teacher_no_gradient():
    student, teacher = (torch.randn(1, 3, 2, 2, requires_grad=True) for _ in range(2))
    losses.distillation(student, teacher).backward()
    assert student.grad is not None
    assert teacher.grad is None
