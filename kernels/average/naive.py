"""The average written slowly: the oracle of every other path, and the path without a C compiler.

M models, G groups, C classes; lines and symbols are those of `fusion.kernels.arithmetic`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor

from fusion.kernels.arithmetic import (
    Fused,
    decode_angles,
    decode_gaps,
    exp32,
    label_dtype,
    normalised,
    sigmoid32,
)
from fusion.kernels.call import Call
from fusion.kernels.numbers import void_label

TILE = 4096  # pixels at a time, so that memory stays bounded


def to_float32(logits: Tensor, channels: bool = False) -> Tensor:
    """Logits of any accepted dtype as float32; uint8 means gap codes, of channels angle codes."""
    if logits.dtype != torch.uint8:
        return logits.to(torch.float32)
    return decode_angles(logits) if channels else decode_gaps(logits)


def softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """[C, ...] float32 logits to probabilities."""
    top = reduce(torch.maximum, logits)
    exponentials = exp32((logits - top) * reciprocal(temperature, logits.device))
    return exponentials * (1.0 / added(exponentials))


def reciprocal(number: float, device: torch.device) -> Tensor:
    """1 / number in float32."""
    return 1.0 / torch.tensor(number, dtype=torch.float32, device=device)


def added(terms: Iterable[Tensor]) -> Tensor:
    """The sum in order, each addition rounded to float32."""
    return reduce(torch.add, terms)


def argmax(scores: Tensor) -> Tensor:
    """[C, ...] scores to labels [...]: the lowest of the highest classes, void where one is NaN."""
    best, label = scores[0], torch.zeros(scores.shape[1:], dtype=torch.int32, device=scores.device)
    bad = torch.isnan(best)
    for c, row in enumerate(scores[1:], start=1):
        label = torch.where(row > best, c, label)
        best = torch.where(row > best, row, best)
        bad = bad | torch.isnan(row)
    return torch.where(bad, void_label(len(scores)), label).to(label_dtype(len(scores)))


def combine(group_means: Tensor, weights: Sequence[float]) -> Tensor:
    """[G, C, ...] means and G weights to fused scores [C, ...]; a group of weight 0 is not read."""
    pairs = zip(group_means, normalised(weights), strict=True)
    return added(mean * weight for mean, weight in pairs if weight > 0)


def multiplied(scores: Tensor, multipliers: Sequence[float] | None) -> Tensor:
    """Scores [C, ...] times normalised multipliers [C], one rounding each."""
    if multipliers is None:
        return scores
    factors = torch.tensor(multipliers, dtype=torch.float32, device=scores.device)
    return scores * factors.view(-1, *(1,) * (scores.ndim - 1))


def channel_labels(
    group_means: Tensor, weights: Sequence[float], multipliers: Sequence[float] | None
) -> Tensor:
    """[G, C, ...] means to labels [C, ...]: channel against its opposite, void where one is NaN."""
    scores, opposites = combine(group_means, weights), combine(1.0 - group_means, weights)
    above = scores > opposites
    if multipliers is not None:
        above = multiplied(scores, multipliers[1::2]) > multiplied(opposites, multipliers[0::2])
    return torch.where(scores.isnan(), void_label(2), above.to(torch.uint8)).to(label_dtype(2))


def summary(group_means: Tensor, call: Call) -> Fused:
    """The outputs of a call that follow from group means [G, C, ...]."""
    scores, outputs = combine(group_means, call.weights), call.outputs
    ranked = {"confidence", "margin"} & set(outputs)
    top = scores.topk(min(2, len(scores)), dim=0).values if ranked else scores
    made = {
        "labels": lambda: (
            channel_labels(group_means, call.weights, call.multipliers)
            if call.channels
            else argmax(multiplied(scores, call.multipliers))
        ),
        "probabilities": lambda: scores,
        "confidence": lambda: top[0],
        "margin": lambda: top[0] - top[1] if len(scores) > 1 else top[0],
        "entropy": lambda: -torch.xlogy(scores, scores).sum(dim=0),
        "group_means": lambda: group_means,
    }
    return Fused(**{name: made[name]() for name in outputs})


def probabilities(call: Call, m: int) -> Tensor:
    """Model m's probabilities [C, ...] at its own resolution."""
    values = to_float32(call.logits[m], call.channels)
    return shares(call, values, m) if call.values[m] == "logits" else values


def shares(call: Call, logits: Tensor, m: int) -> Tensor:
    """float32 logits [C, ...] of model m to probabilities."""
    return (sigmoid32 if call.channels else softmax)(logits, call.temperatures[m])


def average(call: Call, tile: int = TILE) -> Fused:
    """As `fusion.kernels.softmax_average`, on tensors of any device."""
    pixels = math.prod(call.shape)
    flat = replace(call, logits=tuple(z.reshape(call.classes, pixels) for z in call.logits))
    made = flat.allocate()
    for start in range(0, pixels, tile):
        part = slice(start, start + tile)
        some = replace(flat, logits=tuple(z[:, part] for z in flat.logits))
        means = [
            added(probabilities(some, m) for m in group) * reciprocal(len(group), call.device)
            for group in call.groups
        ]
        made.fill((..., part), summary(torch.stack(means), call))
    shaped = {name: t.reshape(*t.shape[:-1], *call.shape) for name, t in made.asked().items()}
    return Fused(**shaped)
