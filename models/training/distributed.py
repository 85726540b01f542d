"""The processes of one run: one by itself, or as ``torchrun`` started them and said in RANK, ..."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fusion.cli import remark
from fusion.device import chosen


@dataclass(frozen=True)
class World:
    """rank: this process, 0 <= rank < size. device: its network's."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether it writes files and shows progress."""
        return self.rank == 0


def world(device: str = "auto") -> World:
    """This process's place, without any connection to the others.

    device: as `device.chosen` names it; a GPU without a number is each process's own.
    """
    defaults = {"LOCAL_RANK": 0, "RANK": 0, "WORLD_SIZE": 1}
    local, rank, size = (int(os.environ.get(name, number)) for name, number in defaults.items())
    place = chosen(device)
    own = place.type == "cuda" and place.index is None
    return World(rank, size, torch.device("cuda", local) if own else place)


@contextlib.contextmanager
def connected(place: World) -> Iterator[None]:
    """The processes can exchange tensors inside; one process alone needs nothing."""
    if place.size == 1:
        yield
        return
    graphics = place.device.type == "cuda"
    if graphics:
        torch.cuda.set_device(place.device)
    torch.distributed.init_process_group("nccl" if graphics else "gloo")
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def synchronised(network: nn.Module, place: World) -> None:
    """Batch norm counts over all processes of a run on GPUs, as the references train (SyncBN).

    torch has none for CPUs: there each process counts alone, and the first says so on stderr.
    """
    norms = [
        each for each in network.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)
    ]
    if place.size == 1 or not norms:
        return
    if place.device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
    elif place.first:
        line = "batch norm counts in each process alone: torch synchronises it on GPUs only"
        remark(line)


def added(tensor: Tensor, place: World) -> Tensor:
    """The sum of every process's tensor, on the CPU; all of them call it at the same point."""
    return _over_all(tensor, place, "SUM")


def largest(number: int, place: World) -> int:
    """The largest of every process's number; all of them call it at the same point."""
    return int(_over_all(torch.tensor(number), place, "MAX"))


def _over_all(tensor: Tensor, place: World, how: str) -> Tensor:
    if place.size == 1:
        return tensor
    total = tensor.to(place.device)  # NCCL knows no other
    torch.distributed.all_reduce(total, getattr(torch.distributed.ReduceOp, how))
    return total.cpu()


def shared(network: nn.Module, place: World) -> None:
    """Gives every process the first one's weights and buffers, which may differ between them."""
    for tensor in network.state_dict().values() if place.size > 1 else ():
        torch.distributed.broadcast(tensor, 0)
