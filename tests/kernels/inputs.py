"""Inputs of the kernels' contracts: shapes, kinds of value, unusual values, memory layouts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.simulated import angle_codes, gap_codes

FLOATS = (torch.float16, torch.bfloat16, torch.float32)
KINDS = ("float16", "bfloat16", "float32", "codes", "mixed", "probabilities")
MIXED = ("float16", "codes", "float32", "bfloat16", "probabilities")
SOME = ("labels", "probabilities", "group_means")
CASES = [  # classes, pixels, models
    *((1, 7, 2), (2, 63, 3), (3, 64, 1), (31, 65, 2), (32, 1023, 2), (33, 1, 3), (11, 1023, 22)),
    *((19, 64, 17), (124, 1100, 4), (127, 7, 3), (128, 63, 2), (129, 64, 2), (150, 65, 2)),
    *((255, 130, 2), (256, 70, 2), (257, 7, 2), (1000, 65, 2)),
]
SIZES = {
    "four times": ([(2, 5)], (8, 20)),
    "odd": ([(4, 11)], (7, 25)),
    "same": ([(5, 10)], (5, 10)),
    "one axis": ([(5, 10)], (9, 10)),
    "smaller": ([(13, 14)], (6, 5)),
    "single pixel": ([(1, 1)], (6, 5)),
    "two resolutions": ([(3, 4), (4, 2), (3, 4)], (9, 11)),
    "one at label size": ([(3, 8), (2, 4), (10, 22), (7, 5)], (10, 22)),
}
LARGE = {  # too slow where kernels are interpreted
    "four times, large": ([(5, 7)], (20, 30)),
    "odd, large": ([(4, 11)], (13, 43)),
    "two resolutions, large": ([(5, 7), (9, 4), (5, 7)], (37, 11)),
    "one at label size, large": ([(12, 9), (20, 9), (12, 30)], (12, 30)),
}


def make(
    kind: str,
    models: int,
    classes: int,
    shape: tuple[int, ...],
    seed: int = 0,
    device: str = "cpu",
    *,
    channels: bool = False,
) -> tuple[list[torch.Tensor], list[str]]:
    """Logits around one common map, so that scores come close and often agree; and their values."""
    generator = torch.Generator().manual_seed(seed)
    common = 6 * torch.randn(classes, *shape, generator=generator)
    logits, values = [], []
    for m in range(models):
        name = MIXED[m % 5] if kind == "mixed" else kind
        z = common + 3 * torch.randn(classes, *shape, generator=generator)
        plain = name == "probabilities"
        values.append("probabilities" if plain else "logits")
        dtype = {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(name, torch.float32)
        if name == "codes":
            z = angle_codes(z) if channels else gap_codes(z)
        else:
            z = ((z.sigmoid() if channels else z.softmax(0)) if plain else z).to(dtype)
        logits.append(z.to(device))
    return logits, values


def covering(cases: Sequence[Any], features: Callable[[Any], set]) -> list[Any]:
    """Few cases that have, together, every feature of all of them."""
    missing, chosen = set().union(*map(features, cases)), []
    while missing:
        chosen.append(max(cases, key=lambda case: len(features(case) & missing)))
        missing -= features(chosen[-1])
    return chosen


def masked(z: torch.Tensor, pixels: slice, value: float) -> torch.Tensor:
    z = z.clone()
    z[:, pixels] = value
    return z


def one_class(z: torch.Tensor, classes: slice, value: float) -> torch.Tensor:
    z = z.clone()
    z[classes, 20:120] = value
    return z


VALUES = {  # of logits [C, P], at least 5 classes and 54 pixels
    "constant": lambda z: torch.full_like(z, 3.0),
    "ties": lambda z: z.round(),
    "many ties": lambda z: z.round().clamp(0, 1),
    "near ties": lambda z: z.round() * (1 + 1e-6 * torch.arange(len(z))[:, None]).to(z.device),
    "extreme": lambda z: torch.where(z > 0, 65504.0, -65504.0).to(z.dtype),
    "subnormal": lambda z: z * 1e-7,
    "one -inf": lambda z: one_class(z, slice(3, 4), -math.inf),
    "all but one -inf": lambda z: one_class(z, slice(1, None), -math.inf),
    "all -inf": lambda z: one_class(z, slice(None), -math.inf),
    "one class dead": lambda z: one_class(z, slice(2, 3), -math.inf),
    "a tile dead": lambda z: masked(z, slice(40), -math.inf),
    "a pixel dead": lambda z: masked(z, slice(22, 23), -math.inf),
    "a pixel NaN": lambda z: masked(z, slice(3, 4), math.nan),
    "some NaN": lambda z: one_class(z, slice(3, 4), math.nan),
    "some inf": lambda z: one_class(z, slice(3, 4), math.inf),
}
LAYOUTS = {  # of [C, T, H, W]; same values, other strides
    "frames": lambda t: t.movedim(1, 0).contiguous().movedim(0, 1),
    "some frames": lambda t: torch.cat([t, t, t], dim=1)[:, 1 : 1 + t.shape[1]],
    "transposed": lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
    "channels last": lambda t: t.movedim(0, -1).contiguous().movedim(-1, 0),
    "cropped": lambda t: torch.nn.functional.pad(t, (3, 2, 1, 4, 1, 1))[:, 1:-1, 1:-4, 3:-2],
    "every second": lambda t: torch.stack([t, t + 1], dim=-1).flatten(-2)[..., ::2],
    "reversed classes": lambda t: torch.cat([t, t]).as_strided(t.shape, t.stride(), t.stride(0)),
    "expanded": lambda t: t[:, :1].expand(t.shape),
    "expanded classes": lambda t: t[:1].expand(t.shape),
    "permuted deep": lambda t: (
        t.unflatten(3, (2, 4)).permute(0, 4, 2, 3, 1).contiguous().permute(0, 4, 2, 3, 1).flatten(3)
    ),
}
