"""Stochastic weight averaging (section 2.2, Table 2).

Izmailov et al., "Averaging Weights Leads to Wider Optima" (2018).

learning rate    in step i = 0, 1, ... of c in a cycle (1 - t) highest + t lowest, t = (i + 1) / c
weights          mean of those at the end of each cycle, taken in float64 and rounded once
batch norm       means and variances counted anew under the averaged weights
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from fusion.errors import InputError
from fusion.models.registry import Network
from fusion.models.training.architecture import Architecture
from fusion.models.training.checkpoint import load, load_state


def cyclical(step: int, every: int, highest: float, lowest: float) -> float:
    """Learning rate of a step, counted from the end of the baseline; a cycle ends with `lowest`."""
    t = (step % every + 1) / every
    return (1 - t) * highest + t * lowest


def annealed(step: int, every: int, highest: float, lowest: float) -> float:
    """The same along half a cosine (Huang et al., "Snapshot Ensembles" (2017), equation 2)."""
    t = (step % every + 1) / every
    return lowest + (highest - lowest) * (1 + math.cos(math.pi * t)) / 2


def average(paths: Sequence[Path]) -> dict[str, Tensor]:
    """Mean of the tensors of several weights files; whole numbers (counters) are the last file's.

    InputError: no file, or files of different networks.
    """
    if not paths:
        raise InputError("swa: no weights to average; set cycles to 1 or more")
    last = load(paths[0])[0]
    total = {name: tensor.double() for name, tensor in last.items()}
    for path in paths[1:]:
        last = load(path)[0]
        if {k: v.shape for k, v in last.items()} != {k: v.shape for k, v in total.items()}:
            got = f"{path} is of another network than {paths[0]}"
            raise InputError(f"swa: {got}; average checkpoints of one run")
        total = {name: tensor.double() + total[name] for name, tensor in last.items()}
    means = {name: (total[name] / len(paths)).to(last[name].dtype) for name in last}
    return {name: means[name] if last[name].is_floating_point() else last[name] for name in last}


def refreshed(
    architecture: Architecture,
    tensors: Mapping[str, Tensor],
    path: Path,
    images: Iterable[Tensor],
    device: torch.device,
    *,
    seed: int,
    module: str | None = None,
) -> Network:
    """A network of these weights, its batch norm statistics counted anew.

    One of its own: in a run's, batch norm that is synchronised waits for other processes.

    Args:
        architecture: whose weights they are.
        tensors: the weights.
        path: their file, for errors.
        images: batches [N, 3, H, W] to count on.
        device: to count on.
        seed: of what is random in the network, such as dropout.
        module: as in `registry.build`.
    """
    network = architecture.build(module=module)
    load_state(network, tensors, path)
    torch.manual_seed(seed)
    update_bn(images, network.to(device), device)
    return network
