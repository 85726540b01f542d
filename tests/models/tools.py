"""What tests of training share: bits compared, small weights, a short averaging phase."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from fusion.models.training import checkpoint
from fusion.models.training.architecture import Architecture
from fusion.models.training.distributed import world
from fusion.models.training.run import Run

CPU = world("cpu")
SPREAD = 100.0  # of a fresh network, whose outputs hardly differ
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


def informed(options) -> Run:
    """A run whose network knows how common the classes are, so that it scores something."""
    one = Run(options, CPU)
    pairs = [one.judged.pair(*frame)[1] for frame in one.judged.labelled()]
    masks = torch.cat([torch.from_numpy(each).long().flatten() for each in pairs])
    pixels = torch.bincount(masks, minlength=256)
    with torch.no_grad():
        one.network.head.bias.copy_(pixels[:124].clamp(min=1e-3).log())
        one.network.head.weight.mul_(SPREAD)
    return one


def as_processes(count: int) -> tuple[torch.distributed.TCPStore, list[dict[str, str]]]:
    """What torchrun says to each of its processes, and the store where they meet: it is there
    before them, so that its port is nobody else's.
    """
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    meeting |= {"WORLD_SIZE": str(count), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    return store, [{**meeting, "RANK": str(k), "LOCAL_RANK": str(k)} for k in range(count)]
