"""numba: a hand-written loop over pixels."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.peer import Peer
from benchmarks.peers.problem import Problem, decoded


@functools.cache
def _step() -> Callable[..., None]:
    import numba

    @numba.njit(parallel=True, fastmath=True)
    def step(z: np.ndarray, share: float, total: np.ndarray) -> None:
        classes, pixels = z.shape
        for i in numba.prange(pixels):
            top, scale = z[0, i], np.float32(0)
            for c in range(1, classes):
                top = max(top, z[c, i])
            for c in range(classes):
                scale += np.exp(z[c, i] - top)
            for c in range(classes):
                total[c, i] += np.exp(z[c, i] - top) * (share / scale)

    return step


def numba_loop(p: Problem) -> Tensor:
    """One model after another."""
    total = np.zeros(p.logits[0].flatten(1).shape, dtype=np.float32)
    for z, share in zip(p.logits, p.shares(), strict=True):
        _step()(decoded(z.cpu()).flatten(1).numpy(), np.float32(share), total)
    return torch.from_numpy(total.argmax(axis=0)).view(p.logits[0].shape[1:])


LOOP = Peer("numba loop", numba_loop, ("numba",), "numba")
