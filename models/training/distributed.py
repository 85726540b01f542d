"""The processes of one run: one by itself, or those that ``torchrun`` started.

It sets RANK, WORLD_SIZE and LOCAL_RANK.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from fusion.errors import InputError


@dataclass(frozen=True)
class World:
    """rank: this process, 0 <= rank < size. device: where its network lives."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """The process that writes files and shows progress."""
        return self.rank == 0


def world(device: str = "auto") -> World:
    """This process's place, without any connection to the others.

    device: "auto" takes a GPU where there is one, each process its own.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device: got {device!r}; choose auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        advice = "use device cpu, or a torch build for this machine's GPU"
        raise InputError(f"device: cuda is not available here; {advice}")
    defaults = {"LOCAL_RANK": 0, "RANK": 0, "WORLD_SIZE": 1}
    local, rank, size = (int(os.environ.get(name, number)) for name, number in defaults.items())
    graphics = device != "cpu" and torch.cuda.is_available()
    return World(rank, size, torch.device("cuda", local) if graphics else torch.device("cpu"))


@contextlib.contextmanager
def connected(place: World) -> Iterator[None]:
    """The processes can exchange tensors inside; one process alone needs nothing."""
    if place.size == 1:
        yield
        return
    if place.device.type == "cuda":
        torch.cuda.set_device(place.device)
    torch.distributed.init_process_group("nccl" if place.device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()
