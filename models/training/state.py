"""The tensors of a checkpoint: network, optimiser and, where there is one, moving average."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from fusion.models.training.checkpoint import load_state

_NETWORK, _OPTIMISER, _EMA = "network/", "optimiser/", "ema/"  # prefixes of names


def tensors_of(
    network: nn.Module, optimiser: torch.optim.Optimizer, ema: AveragedModel | None
) -> dict[str, Tensor]:
    """All of them by name, as they are."""
    state = {_NETWORK + name: tensor for name, tensor in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        for key, tensor in optimiser.state.get(parameter, {}).items():
            state[f"{_OPTIMISER}{name}/{key}"] = tensor
    if ema is not None:
        state |= {_EMA + name: tensor for name, tensor in ema.state_dict().items()}
    return state


def restore(
    tensors: Mapping[str, Tensor],
    path: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    ema: AveragedModel | None,
) -> None:
    """Fills them with what `tensors_of` gave; InputError, naming `path`: of another network."""
    load_state(network, _below(_NETWORK, tensors), path)
    parameters = dict(network.named_parameters())
    for name, tensor in _below(_OPTIMISER, tensors).items():
        owner, key = name.rsplit("/", 1)
        parameter = parameters[owner]
        place = "cpu" if key == "step" else parameter.device  # AdamW counts on the CPU
        optimiser.state[parameter][key] = tensor.to(place)
    if ema is not None:
        load_state(ema, _below(_EMA, tensors), path)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
