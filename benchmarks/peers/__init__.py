"""How else the same answers are had: the ways people write it today. A peer, a file; here is who
contends in what.

`AVERAGE`, `UPSAMPLE` and `CHANNELS` take a `Problem` and give labels, `COUNTS` and `MIOU` take
targets, labels (uint8 [T, H, W], 255 is void) and C, and give int64 [C, C] or a fraction. Every
peer decodes gap codes with the plain formula and averages in float32.
"""

from benchmarks.peers import (
    cupy_stack,
    flox_counts,
    mmseg_loop,
    monai_ensembles,
    nnunet_average,
    numba_loop,
    numpy_stack,
    sklearn_counts,
    torch_average,
    torch_channels,
    torch_counts,
    torch_upsample,
    torchmetrics_scores,
)
from benchmarks.peers.peer import Peer, present, table
from benchmarks.peers.problem import BLOCK, Problem, decoded
from benchmarks.peers.torch_average import torch_stack
from benchmarks.peers.torch_counts import bincount

__all__ = ["BLOCK", "Peer", "Problem", "bincount", "decoded", "present", "torch_stack"]

AVERAGE = table(
    torch_average.STACK,
    torch_average.ACCUMULATE,
    torch_average.BLOCKED,
    numpy_stack.STACK,
    torch_average.COMPILED,
    numba_loop.LOOP,
    cupy_stack.STACK,
    monai_ensembles.MEAN,
    monai_ensembles.VOTE,
)
UPSAMPLE = {
    "probabilities": table(torch_upsample.PROBABILITIES),
    "logits": table(torch_upsample.LOGITS, mmseg_loop.LOGITS),
}
CHANNELS = table(torch_channels.STACK, torch_channels.ACCUMULATE, torch_channels.COMPILED)
COUNTS = table(
    torch_counts.COUNTS,
    numpy_stack.COUNTS,
    sklearn_counts.COUNTS,
    flox_counts.COUNTS,
    torchmetrics_scores.COUNTS,
)
MIOU = table(torchmetrics_scores.MIOU, mmseg_loop.MIOU, nnunet_average.MIOU)
