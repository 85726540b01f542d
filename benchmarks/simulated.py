"""Inputs for benchmarks: logits of models that mostly agree, as networks on video do, and logits
that never agree.

M models, C classes, maps [H, W]. `agreeing`: one smooth field of scores per class shared by all
models, whose best class is confident away from the borders between regions, plus smooth errors
shared by a third of the models and smooth errors of each model's own.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fusion.kernels.numbers import ANGLE_BOUNDS


def _smooth(classes: int, size: tuple[int, int], cells: int, generator: torch.Generator) -> Tensor:
    coarse = torch.randn(
        1, classes, max(2, size[0] // cells), max(2, size[1] // cells), generator=generator
    )
    return torch.nn.functional.interpolate(coarse, size=size, mode="bicubic", align_corners=False)[
        0
    ]


def agreeing(models: int, classes: int, size: tuple[int, int], seed: int = 0) -> list[Tensor]:
    """M tensors [C, H, W] float32; about three quarters of the pixels have one top class in all of
    22 models."""
    generator = torch.Generator().manual_seed(seed)
    present = torch.randperm(classes, generator=generator)[: max(2, classes // 10)]
    scene = torch.full((classes, *size), -6.0) + 0.5 * _smooth(classes, size, 12, generator)
    scene[present] += 8.0 + 9.0 * _smooth(len(present), size, 30, generator)
    families = [0.7 * _smooth(classes, size, 10, generator) for _ in range(3)]
    return [
        scene
        + families[m % 3]
        + 0.5 * _smooth(classes, size, 8, generator)
        + 0.1 * torch.randn(classes, *size, generator=generator)
        for m in range(models)
    ]


def disagreeing(models: int, classes: int, size: tuple[int, int], seed: int = 0) -> list[Tensor]:
    """M tensors [C, H, W] float32 of independent noise: the worst case of every shortcut."""
    generator = torch.Generator().manual_seed(seed)
    return [4.0 * torch.randn(classes, *size, generator=generator) for _ in range(models)]


def gap_codes(logits: Tensor) -> Tensor:
    """[C, ...] logits to uint8 gap codes: round(255 sqrt(min(top - z, 24) / 24)), 0 at the top
    class and only there."""
    top, first = logits.max(dim=0, keepdim=True)
    codes = (
        (255 * torch.sqrt((top - logits).clamp(max=24) / 24)).round().clamp(min=1).to(torch.uint8)
    )
    return codes.scatter_(0, first, 0)


def angle_codes(logits: Tensor) -> Tensor:
    """Logits of independent channels to uint8 angle codes: 256 even steps of asin(sqrt(P))."""
    return torch.searchsorted(torch.from_numpy(ANGLE_BOUNDS), logits.contiguous()).to(torch.uint8)


def real_codes(frames: int) -> list[Tensor] | None:
    """Codes [11, T, 60, 80] of 22 real networks, up to `frames` frames, from the folder that
    SEGFUSION_DATA names; None without it."""
    folder = os.environ.get("SEGFUSION_DATA")
    files = (
        sorted(p for p in Path(folder).glob("*.npz") if not p.name.startswith("raw_"))
        if folder
        else []
    )
    if not files:
        return None
    models = []
    for path in files:
        with np.load(path) as videos:
            codes = np.concatenate([videos[name] for name in sorted(videos.files)])[:frames]
        models.append(torch.from_numpy(np.ascontiguousarray(np.moveaxis(codes, 1, 0))))
    return models
