"""Stochastic weight averaging (section 2.2, Table 2).

Izmailov et al., "Averaging Weights Leads to Wider Optima" (2018).

learning rate    in step i = 0, 1, ... of a cycle of c steps:
                 (1 - t) highest + t lowest,  t = (i + 1) / c
weights          mean over the cycles of the weights at the end of each, taken in float64 and
rounded
                 once
batch norm       means and variances counted anew under the averaged weights
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from fusion.errors import InputError
from fusion.models.registry import Network
from fusion.models.training.checkpoint import load, load_state


def cyclical(step: int, every: int, highest: float, lowest: float) -> float:
    """Learning rate of a step, counted from the end of the baseline; a cycle ends with `lowest`."""
    t = (step % every + 1) / every
    return (1 - t) * highest + t * lowest


def average(paths: Sequence[Path]) -> dict[str, Tensor]:
    """Mean of the tensors of several weights files; whole numbers (counters) are the last file's.

    InputError: no file, or files of different networks.
    """
    if not paths:
        raise InputError("swa: no weights to average; set cycles to 1 or more")
    total: dict[str, Tensor] = {}
    last: dict[str, Tensor] = {}
    for path in paths:
        last, _ = load(path)
        doubles = {name: tensor.double() for name, tensor in last.items()}
        if total and _shapes(doubles) != _shapes(total):
            got = f"{path} is of another network than {paths[0]}"
            raise InputError(f"swa: {got}; average checkpoints of one run")
        total = {name: doubles[name] + total[name] for name in doubles} if total else doubles
    return {
        name: (total[name] / len(paths)).to(tensor.dtype) if tensor.is_floating_point() else tensor
        for name, tensor in last.items()
    }


def _shapes(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def averaged(
    network: Network, paths: Sequence[Path], batches: Iterable[Tensor], device: torch.device
) -> None:
    """Puts the average of the files into `network`.

    Its batch norm statistics are refreshed on batches of images [N, 3, H, W].
    """
    load_state(network, average(paths), paths[0])
    update_bn(batches, network, device)
