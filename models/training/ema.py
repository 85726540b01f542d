"""A moving average of the weights (Polyak and Juditsky 1992; Tarvainen and Valpola 2017).

    W' = decay W' + (1 - decay) W after every step; torch.optim.swa_utils does it.

Buffers are the network's own, not averaged: torch would round averages of whole numbers, and batch
norm's statistics are counted anew under the averaged weights, as those of `swa`.
"""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """The average's own network, to be updated by `update_parameters(network)` after each step."""
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay))
