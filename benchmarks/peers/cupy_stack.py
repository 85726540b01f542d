"""CuPy: float32 stack, softmax, weighted mean, argmax, on the GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.peers.peer import Peer
from benchmarks.peers.problem import Problem, decoded


def cupy_stack(p: Problem) -> Tensor:
    import cupy

    stack = cupy.stack([cupy.from_dlpack(decoded(z)) for z in p.logits])
    exponentials = cupy.exp(stack - stack.max(axis=1, keepdims=True))
    shares = cupy.asarray(p.shares(), dtype=cupy.float32)
    fused = cupy.tensordot(shares, exponentials / exponentials.sum(axis=1, keepdims=True), axes=1)
    return torch.from_dlpack(fused.argmax(axis=0))


STACK = Peer(
    "cupy stack", cupy_stack, ("cupy",), "cupy-cuda13x", there=lambda: torch.cuda.is_available()
)
