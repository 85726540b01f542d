"""NumPy: float32 stack, softmax, weighted mean, argmax; and the one-liner that counts."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.peer import Peer
from benchmarks.peers.problem import Problem, decoded


def numpy_stack(p: Problem) -> Tensor:
    """float32 stack, softmax, weighted mean, argmax."""
    stack = np.stack([decoded(z.cpu()).numpy() for z in p.logits])
    stack = np.exp(stack - stack.max(axis=1, keepdims=True))
    stack /= stack.sum(axis=1, keepdims=True)
    shares = np.array(p.shares(), dtype=np.float32).reshape(-1, *[1] * (stack.ndim - 1))
    return torch.from_numpy((stack * shares).sum(axis=0).argmax(axis=0)).to(p.logits[0].device)


def numpy_bincount(targets: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """The usual one-liner."""
    counted = targets != 255
    cells = targets[counted].astype(np.int64) * classes + labels[counted]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


STACK = Peer("numpy stack", numpy_stack)
COUNTS = Peer("numpy bincount", numpy_bincount)
