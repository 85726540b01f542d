"""The head written slowly: the oracle of every other path, and the path without a C compiler.

M models, C classes; lines and symbols are those of `fusion.kernels.arithmetic`. `scores` and
`normalised_scores` run in float64 too: then they say how far float32 is off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor

from fusion.kernels.arithmetic import Fused, exp32, log32
from fusion.kernels.average.naive import added, argmax, to_float32
from fusion.kernels.call import Head
from fusion.kernels.numbers import GAP_RANGE, LEAST_PROBABILITY

TILE = 1024  # pixels at a time, so that memory stays bounded


def exp(x: Tensor) -> Tensor:
    return exp32(x) if x.dtype == torch.float32 else x.exp()


def log(x: Tensor) -> Tensor:
    return log32(x) if x.dtype == torch.float32 else x.log()


def log_probabilities(call: Head, m: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Model m's l_mk [C, ...]."""
    values = to_float32(call.logits[m]).to(dtype)
    if call.values[m] == "probabilities":
        return log(values.clamp(min=LEAST_PROBABILITY))
    top = reduce(torch.maximum, values)
    temperature = torch.tensor(call.temperatures[m], dtype=dtype, device=call.device)
    scaled = (values - top) * (1.0 / temperature)
    return (scaled - log(added(exp(scaled)))).clamp(min=-GAP_RANGE)


def scores(call: Head, dtype: torch.dtype = torch.float32) -> Tensor:
    """S_c [C, ...]."""
    shape = (call.classes, *(1,) * len(call.shape))
    total = call.bias.to(dtype).view(shape).repeat(1, *call.shape)
    for m, mixing in enumerate(call.mixing.to(dtype)):
        logs = log_probabilities(call, m, dtype)
        if call.mixes:
            for k, row in enumerate(logs):
                total += mixing[:, k].view(shape) * row
        else:
            total += mixing.view(shape) * logs
    return total


def normalised_scores(scores: Tensor) -> Tensor:
    """F_c [C, ...] of S_c."""
    exponentials = exp(scores - reduce(torch.maximum, scores))
    return exponentials * (1.0 / added(exponentials))


def summary(scores: Tensor, outputs: Sequence[str]) -> Fused:
    """The outputs that follow from S_c [C, ...]."""
    made = {"scores": scores}
    if "labels" in outputs:
        made["labels"] = argmax(scores)
    if "probabilities" in outputs:
        made["probabilities"] = normalised_scores(scores)
    return Fused(**{name: made[name] for name in outputs})


def head(call: Head, tile: int = TILE) -> Fused:
    """As `fusion.kernels.head`, on tensors of any device."""
    pixels = math.prod(call.shape)
    flat = replace(call, logits=tuple(z.reshape(call.classes, pixels) for z in call.logits))
    made = flat.allocate()
    for start in range(0, pixels, tile):
        part = slice(start, start + tile)
        total = scores(replace(flat, logits=tuple(z[:, part] for z in flat.logits)))
        made.fill((..., part), summary(total, call.outputs))
    shaped = {name: t.reshape(*t.shape[:-1], *call.shape) for name, t in made.asked().items()}
    return Fused(**shaped)
