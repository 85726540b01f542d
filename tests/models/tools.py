"""What tests of training share: bits compared, small weights, a short averaging phase."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from fusion.models.training import checkpoint
from fusion.models.training.architecture import Architecture
from fusion.models.training.distributed import world

CPU = world("cpu")
SWA = {"cycles": 2, "every": 2, "highest": 1e-3, "lowest": 1e-4, "refresh": 2}


def same_state(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def same_weights(left: Path, right: Path) -> bool:
    return same_state(checkpoint.load(left)[0], checkpoint.load(right)[0])


def plain_weights(path: Path, classes=("a", "b"), tau: float | None = None):
    """Writes a plain network's random weights; the network and what it is."""
    architecture = Architecture("plain", tuple(classes), {"preset": "micro"}, tau)
    network = architecture.build()
    checkpoint.save_network(path, network, architecture, step=7)
    return network, architecture
