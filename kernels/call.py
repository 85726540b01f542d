"""What every path of fusion accepts: the callers' mistakes are named here, once, and the kernels see only sound values.

M models, G groups, C classes; logits are M tensors [C, ...], weights one number per group, or per model where there are no groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fusion.kernels.arithmetic import OUTPUTS

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.uint8)
VALUES = ("logits", "probabilities")
RESIZES = ("probabilities", "logits")
MOST_CLASSES = 65535  # labels are at most uint16, whose last value means "ignore"


@dataclass(frozen=True)
class Arguments:
    """The same call with every default written out: groups and weights [G], temperatures and values [M]."""

    weights: tuple[float, ...]
    groups: tuple[tuple[int, ...], ...]
    temperatures: tuple[float, ...]
    values: tuple[str, ...]
    outputs: tuple[str, ...]


def check(
    logits: Sequence[Tensor],
    weights: Sequence[float],
    groups: Sequence[Sequence[int]] | None,
    temperatures: Sequence[float] | None,
    values: Sequence[str] | str,
    outputs: Sequence[str],
) -> Arguments:
    """Arguments in full; TypeError or ValueError with one sentence that names the argument. Pixels are `check_pixels`'s business."""
    models = len(logits)
    if models == 0:
        raise ValueError("logits: got no models; give at least one tensor [C, ...]")
    kinds = (values,) * models if isinstance(values, str) else tuple(values)
    if len(kinds) != models or not set(kinds) <= set(VALUES):
        raise ValueError(
            f"values: got {values!r}; give one of {VALUES} or a sequence of {models} of them"
        )
    _check_tensors(logits, kinds)
    chosen = (
        tuple((m,) for m in range(models))
        if groups is None
        else tuple(tuple(int(m) for m in group) for group in groups)
    )
    _check_groups(chosen, models)
    scales = (1.0,) * models if temperatures is None else tuple(float(t) for t in temperatures)
    if len(scales) != models or not all(math.isfinite(t) and t > 0 for t in scales):
        raise ValueError(
            f"temperatures: got {list(scales)}; give {models} finite numbers above 0, one per model"
        )
    numbers = tuple(float(w) for w in weights)
    if len(numbers) != len(chosen):
        raise ValueError(
            f"weights: got {len(numbers)} for {len(chosen)} groups; give one per group, or per model where there are no groups"
        )
    if not all(math.isfinite(w) and w >= 0 for w in numbers) or not any(w > 0 for w in numbers):
        raise ValueError(
            f"weights: got {list(numbers)}; give finite numbers >= 0, at least one of them above 0"
        )
    wanted = (outputs,) if isinstance(outputs, str) else tuple(outputs)
    if not wanted or not set(wanted) <= set(OUTPUTS):
        raise ValueError(f"outputs: got {outputs!r}; give some of {OUTPUTS}")
    return Arguments(numbers, chosen, scales, kinds, wanted)


def _check_tensors(logits: Sequence[Tensor], kinds: Sequence[str]) -> None:
    for m, (values, kind) in enumerate(zip(logits, kinds, strict=True)):
        if not isinstance(values, Tensor):
            raise TypeError(f"logits[{m}]: got {type(values).__name__}; give torch tensors")
        if values.dtype not in DTYPES:
            raise TypeError(
                f"logits[{m}]: got {values.dtype}; give float16, bfloat16, float32 or uint8 gap codes"
            )
        if values.dtype == torch.uint8 and kind == "probabilities":
            raise TypeError(
                f"logits[{m}]: got uint8 probabilities; uint8 means gap codes, give probabilities as floats"
            )
        if values.ndim < 1 or not 1 <= values.shape[0] <= MOST_CLASSES:
            raise ValueError(
                f"logits[{m}]: got shape {tuple(values.shape)}; the first axis must hold 1 to {MOST_CLASSES} classes"
            )
        if values.shape[0] != logits[0].shape[0]:
            raise ValueError(
                f"logits[{m}]: got {values.shape[0]} classes beside {logits[0].shape[0]} in logits[0]; all must agree"
            )
        if values.device != logits[0].device:
            raise ValueError(
                f"logits[{m}]: on {values.device} beside {logits[0].device} for logits[0]; move all to one device"
            )


def _check_groups(groups: Sequence[Sequence[int]], models: int) -> None:
    members = sorted(m for group in groups for m in group)
    if not all(groups) or members != list(range(models)):
        raise ValueError(
            f"groups: got {[list(g) for g in groups]}; every index 0..{models - 1} must be in exactly one group, no group empty"
        )


def check_pixels(logits: Sequence[Tensor]) -> None:
    """All models cover the same pixels."""
    for m, values in enumerate(logits):
        if values.shape != logits[0].shape:
            raise ValueError(
                f"logits[{m}]: got shape {tuple(values.shape)} beside {tuple(logits[0].shape)} of logits[0]; all must agree"
            )


def check_resize(
    logits: Sequence[Tensor], size: Sequence[int], resize: str, rows: Sequence[int] | None
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The label size and the rows of it that are wanted, as pairs of ints."""
    for m, values in enumerate(logits):
        if values.ndim != 3 or 0 in values.shape:
            raise ValueError(
                f"logits[{m}]: got shape {tuple(values.shape)}; give [C, h, w] with h and w above 0"
            )
    if resize not in RESIZES:
        raise ValueError(f"resize: got {resize!r}; give one of {RESIZES}")
    if len(size) != 2 or min(size) < 0:
        raise ValueError(f"size: got {tuple(size)}; give (height, width) of the labels")
    height, width = int(size[0]), int(size[1])
    first, last = (0, height) if rows is None else (int(rows[0]), int(rows[1]))
    if not 0 <= first <= last <= height:
        raise ValueError(
            f"rows: got {(first, last)} for {height} rows; give (first, one past the last)"
        )
    return (height, width), (first, last)


def check_labels(targets: Tensor, labels: Tensor, classes: int) -> None:
    """Two integer tensors of one shape on one device."""
    for name, values in (("targets", targets), ("labels", labels)):
        if (
            not isinstance(values, Tensor)
            or values.is_floating_point()
            or values.is_complex()
            or values.dtype == torch.bool
        ):
            raise TypeError(
                f"{name}: got {getattr(values, 'dtype', type(values).__name__)}; give a tensor of integers"
            )
    if targets.shape != labels.shape or targets.device != labels.device:
        given = f"{tuple(labels.shape)} on {labels.device} beside targets {tuple(targets.shape)} on {targets.device}"
        raise ValueError(f"labels: got {given}; both must agree")
    if classes < 1:
        raise ValueError(f"classes: got {classes}; give the number of classes")
