"""The arithmetic of fusion, written slowly: the oracle of every other path and what "exact" means in this library.

M models, G groups, C classes; the class axis comes first, any axes may follow. All arithmetic is IEEE float32, one rounding per
operation (no fused multiply-add), in the order written here, so that a path that follows it returns the same bits:

    z_m       decoded to float32 (gap codes: z = -24 (q / 255)^2)
    e_mc      = exp32((z_mc - max_c z_mc) * (1 / T_m))
    p_mc      = e_mc * (1 / sum_c e_mc)              the sum runs over c = 0, 1, 2, ...
    P_gc      = (sum_{m in g} p_mc) * (1 / n_g)      the sum runs in the order of the group's list
    F_c       = sum_g w_g P_gc                       weights divided by their sum in float64, then rounded
    label     = lowest c with F_c = max F            the ignore label (255, or 65535 beyond 255 classes) if any F_c is NaN

Bilinear interpolation has half-pixel centres (align_corners=False), horizontal before vertical, each step ``a * (1 - f) + b * f``:
every rounded operation is monotone in a and b, which is what makes skipping dominated classes exact.

Method: "5th Place Solution for VSPW 2021 Challenge", section 2.3, equation 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

GAP_RANGE = 24.0  # the largest gap below the top logit that a code keeps; exp(-24) = 4e-11
NO_SCORE = -1e30  # stands for -inf while interpolating: 0 * -inf would be NaN
OUTPUTS = ("labels", "probabilities", "confidence", "margin", "entropy", "group_means")


@dataclass(frozen=True)
class Fused:
    """What was asked for; everything else is None.

    labels: [...] uint8, or uint16 beyond 255 classes. probabilities: [C, ...] float32. confidence, margin (first minus second),
    entropy (nats): [...] float32. group_means: [G, C, ...] float32.
    """

    labels: Tensor | None = None
    probabilities: Tensor | None = None
    confidence: Tensor | None = None
    margin: Tensor | None = None
    entropy: Tensor | None = None
    group_means: Tensor | None = None


def exp32(x: Tensor) -> Tensor:
    """exp of float32 values <= 0, below 2 ulp, 0 below -87; the same bits wherever float32 is IEEE (Cephes expf, by Horner's rule)."""
    n = torch.round(x * 1.44269504088896341)
    f = x - n * 0.693359375
    f = f - n * -2.12194440e-4
    y = torch.full_like(f, 1.9875691500e-4)
    for coefficient in (
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    ):
        y = y * f + torch.tensor(coefficient, dtype=torch.float32)
    y = y * (f * f) + f + 1.0
    power = ((n.nan_to_num(0.0).clamp(-126, 0).to(torch.int32) + 127) << 23).view(torch.float32)
    return torch.where(x < -87.0, torch.zeros_like(x), y * power)


def decode_gaps(codes: Tensor) -> Tensor:
    """uint8 gap codes to float32 logits up to a per-pixel constant: -24 (q / 255)^2, correctly rounded."""
    table = [-GAP_RANGE * (q / 255.0) ** 2 for q in range(256)]
    return torch.tensor(table, dtype=torch.float64, device=codes.device).to(torch.float32)[
        codes.to(torch.int64)
    ]


def to_float32(logits: Tensor) -> Tensor:
    """Logits of any accepted dtype as float32; uint8 means gap codes."""
    return decode_gaps(logits) if logits.dtype == torch.uint8 else logits.to(torch.float32)


def softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """[C, ...] float32 logits to probabilities, in the order of the module's docstring."""
    top = logits[0]
    for row in logits[1:]:
        top = torch.maximum(top, row)
    exponentials = exp32(
        (logits - top)
        * (1.0 / torch.tensor(temperature, dtype=torch.float32, device=logits.device))
    )
    total = exponentials[0]
    for row in exponentials[1:]:
        total = total + row
    return exponentials * (1.0 / total)


def normalised(weights: Sequence[float]) -> list[float]:
    """Weights divided by their sum in float64, each rounded to float32 (and returned as Python floats)."""
    values = [float(w) for w in weights]
    if not all(math.isfinite(w) and w >= 0 for w in values) or not sum(values) > 0:
        raise ValueError(
            f"weights: got {values}; give finite numbers >= 0, at least one of them above 0"
        )
    largest = max(values)
    total = math.fsum(w / largest for w in values)
    return (
        torch.tensor([w / largest / total for w in values], dtype=torch.float64)
        .to(torch.float32)
        .tolist()
    )


def label_dtype(classes: int) -> torch.dtype:
    return torch.uint8 if classes <= 255 else torch.uint16


def ignore_label(classes: int) -> int:
    return 255 if classes <= 255 else 65535


def argmax(scores: Tensor) -> Tensor:
    """[C, ...] scores to labels [...]: the lowest class of the highest score, the ignore label where a score is NaN."""
    best, label = scores[0], torch.zeros(scores.shape[1:], dtype=torch.int32, device=scores.device)
    bad = torch.isnan(best)
    for c, row in enumerate(scores[1:], start=1):
        label = torch.where(row > best, c, label)
        best = torch.where(row > best, row, best)
        bad = bad | torch.isnan(row)
    return torch.where(bad, ignore_label(len(scores)), label).to(label_dtype(len(scores)))


def bilinear_steps(source: int, target: int) -> tuple[Tensor, Tensor, Tensor]:
    """Left neighbour, right neighbour and fraction (float32) of each of `target` half-pixel positions over `source` samples."""
    position = ((torch.arange(target, dtype=torch.float64) + 0.5) * source / target - 0.5).clamp(
        min=0
    )
    left = position.floor().to(torch.int64).clamp(max=source - 1)
    return left, (left + 1).clamp(max=source - 1), (position - left).to(torch.float32)


def bilinear(maps: Tensor, size: tuple[int, int], rows: tuple[int, int] | None = None) -> Tensor:
    """[..., h, w] float32 to [..., H, W], or to its rows y0 <= y < y1; the identity where the size is already right."""
    rows = rows or (0, size[0])
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps[..., rows[0] : rows[1], :]
    left, right, fx = (step.to(maps.device) for step in bilinear_steps(maps.shape[-1], size[1]))
    upper, lower, fy = (
        step[rows[0] : rows[1]].to(maps.device) for step in bilinear_steps(maps.shape[-2], size[0])
    )
    first, count = int(upper[0]), int(lower[-1]) + 1
    band = maps[..., first:count, :]
    band = band[..., left] * (1.0 - fx) + band[..., right] * fx
    fy = fy[:, None]
    return band[..., upper - first, :] * (1.0 - fy) + band[..., lower - first, :] * fy


def interpolable(logits: Tensor) -> Tensor:
    """float32 logits [C, ...] with -inf made finite, and NaN at pixels that have no finite class at all."""
    dead = torch.isneginf(logits).all(dim=0)
    return torch.where(dead, torch.nan, logits.masked_fill(torch.isneginf(logits), NO_SCORE))


def combine(group_means: Tensor, weights: Sequence[float]) -> Tensor:
    """[G, C, ...] means and G weights to fused scores [C, ...]: equation 1. A group of weight 0 is not looked at."""
    scores: Tensor | None = None
    for mean, weight in zip(group_means, normalised(weights), strict=True):
        if weight > 0:
            scores = mean * weight if scores is None else scores + mean * weight
    assert scores is not None
    return scores


def summary(group_means: Tensor, weights: Sequence[float], outputs: Sequence[str]) -> Fused:
    """The outputs that follow from group means [G, C, ...]."""
    scores = combine(group_means, weights)
    top = (
        scores.topk(min(2, len(scores)), dim=0).values
        if {"confidence", "margin"} & set(outputs)
        else scores
    )
    made = {
        "labels": lambda: argmax(scores),
        "probabilities": lambda: scores,
        "confidence": lambda: top[0],
        "margin": lambda: top[0] - top[1] if len(scores) > 1 else top[0],
        "entropy": lambda: -torch.xlogy(scores, scores).sum(dim=0),
        "group_means": lambda: group_means,
    }
    return Fused(**{name: made[name]() for name in outputs})


def softmax_average(
    logits: Sequence[Tensor],
    weights: Sequence[float],
    *,
    groups: Sequence[Sequence[int]] | None = None,
    temperatures: Sequence[float] | None = None,
    values: Sequence[str] | str = "logits",
    outputs: Sequence[str] = ("labels",),
) -> Fused:
    """Weighted mean of the softmaxes of M models' logits [C, ...]; parameters as `fusion.kernels.softmax_average`."""
    groups = groups or [[m] for m in range(len(logits))]
    temperatures = temperatures or [1.0] * len(logits)
    kinds = [values] * len(logits) if isinstance(values, str) else values
    means = []
    for group in groups:
        total: Tensor | None = None
        for m in group:
            p = (
                softmax(to_float32(logits[m]), temperatures[m])
                if kinds[m] == "logits"
                else to_float32(logits[m])
            )
            total = p if total is None else total + p
        assert total is not None
        means.append(
            total * (1.0 / torch.tensor(len(group), dtype=torch.float32, device=total.device))
        )
    return summary(torch.stack(means), weights, outputs)


def upsample_softmax_average(
    logits: Sequence[Tensor],
    weights: Sequence[float],
    size: tuple[int, int],
    *,
    groups: Sequence[Sequence[int]] | None = None,
    temperatures: Sequence[float] | None = None,
    values: Sequence[str] | str = "logits",
    resize: str = "probabilities",
    rows: tuple[int, int] | None = None,
    outputs: Sequence[str] = ("labels",),
) -> Fused:
    """The same at label resolution, from logits [C, h, w] of any resolutions; parameters as `fusion.kernels.upsample_softmax_average`.

    ``resize="logits"`` interpolates every model's logits, then takes softmaxes. ``resize="probabilities"`` takes softmaxes and sums
    them per group and resolution first, and interpolates those: G interpolations instead of M.
    """
    groups = groups or [[m] for m in range(len(logits))]
    temperatures = temperatures or [1.0] * len(logits)
    kinds = [values] * len(logits) if isinstance(values, str) else values
    means = []
    for group in groups:
        share = 1.0 / torch.tensor(len(group), dtype=torch.float32, device=logits[0].device)
        if resize == "logits":
            total: Tensor | None = None
            for m in group:
                if kinds[m] == "logits":
                    p = softmax(
                        bilinear(interpolable(to_float32(logits[m])), size, rows), temperatures[m]
                    )
                else:
                    p = bilinear(to_float32(logits[m]), size, rows)
                total = p if total is None else total + p
            assert total is not None
            means.append(total * share)
            continue
        sums: dict[
            tuple[int, ...], Tensor
        ] = {}  # one running sum per resolution, in the order in which resolutions first appear
        for m in group:
            p = (
                softmax(to_float32(logits[m]), temperatures[m])
                if kinds[m] == "logits"
                else to_float32(logits[m])
            )
            shape = tuple(p.shape[-2:])
            sums[shape] = sums[shape] + p if shape in sums else p
        parts = [bilinear(part * share, size, rows) for part in sums.values()]
        mean = parts[0]
        for part in parts[1:]:
            mean = mean + part
        means.append(mean)
    return summary(torch.stack(means), weights, outputs)


def confusion(targets: Tensor, labels: Tensor, classes: int, *, ignore: int = 255) -> Tensor:
    """int64 [C, C], rows targets, columns predictions; pixels whose target is `ignore` do not count."""
    t, p = targets.reshape(-1).to(torch.int64), labels.reshape(-1).to(torch.int64)
    counted = t != ignore
    t, p = t[counted], p[counted]
    if t.numel() and (
        int(t.min()) < 0 or int(t.max()) >= classes or int(p.min()) < 0 or int(p.max()) >= classes
    ):
        raise ValueError(
            f"confusion: targets {t.unique().tolist()}, labels {p.unique().tolist()}; all must be in 0..{classes - 1}"
        )
    return torch.bincount(t * classes + p, minlength=classes * classes).reshape(classes, classes)
