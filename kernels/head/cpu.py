"""The head on the CPU: tiles of pixels through head.c, bit for bit what naive.py returns.

M models, C classes.
"""

from __future__ import annotations

import ctypes

import numpy as np
import torch
from torch import Tensor

from fusion.kernels.arithmetic import Fused
from fusion.kernels.call import Head
from fusion.kernels.native import build
from fusion.kernels.native.bindings import Head as Given
from fusion.kernels.native.sources import Lines, scaled_gaps
from fusion.kernels.numbers import GAP_RANGE, LEAST_PROBABILITY, void_label

ROWS = 4  # as in head.c


def head(call: Head) -> Fused:
    """As `fusion.kernels.head`, on CPU tensors."""
    library = build.library()
    assert library is not None
    lines, made = Lines.of(call), call.allocate()
    arrays = {
        "mixing": in_rows(call.mixing) if call.mixes else call.mixing,
        "bias": call.bias,
        "scaled": torch.stack([scaled_gaps(t) for t in call.temperatures]),
    }
    addresses = {name: array.data_ptr() for name, array in (arrays | made.asked()).items()}
    sizes = (lines.pixels, lines.tile, call.mixes, void_label(call.classes))
    given = Given(lines.address, *sizes, -GAP_RANGE, LEAST_PROBABILITY, **addresses)
    lines.run(lambda *span: library.fusion_head(ctypes.byref(given), *span), "head")
    return made


def in_rows(mixing: Tensor) -> Tensor:
    """[M, C, C] as [M, blocks, C, ROWS]: what ROWS scores take of a class lies side by side.

    By NumPy, on one thread: those of torch would go on spinning beside the kernel's own.
    """
    models, classes, _ = mixing.shape
    padded = np.pad(mixing.numpy(), ((0, 0), (0, -classes % ROWS), (0, 0)))
    rows = padded.reshape(models, -1, ROWS, classes).swapaxes(2, 3)
    return torch.from_numpy(np.ascontiguousarray(rows))
