"""Other people's checkpoints, to start from: what a network takes of them, and what it does not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from fusion.cli import remark
from fusion.errors import InputError
from fusion.models.networks import official
from fusion.models.registry import Network
from fusion.models.training import checkpoint
from fusion.text import listed

# what one side may have alone: norms behind a backbone's stages and its last, heads for training
# and for images' classes, a prior; indices follow from the window
_SPARE = re.compile(
    r"\.hidden_states_norms\.|\.(swin|encoder\.model)\.layernorm\.|\.auxiliary_head\."
    r"|\.head\.(weight|bias)$|\.log_prior$|\.relative_position_index$"
)
# beside the last layer; DPT numbers the layers of its auxiliary head
_ROW_A_CLASS = re.compile(
    r"\.(classifier|class_predictor|auxiliary_head\.head\.4)\.|\.empty_weight$"
)


def of_others(
    network: Network, tensors: Mapping[str, Tensor], path: str | Path
) -> dict[str, Tensor]:
    """What a network takes of somebody else's checkpoint; how many tensors is said on stderr.

    A published one of `networks.official`, or a plain state of the network's own module. What has a
    row a class stays as it is where the classes are others. InputError: another network's.
    """
    own = network.state_dict()
    found, covered = _under_own_names(tensors, own, path)
    last = f"{network.classifier}." if network.classifier else "/"
    given = {
        key: _shaped(part, own[key]) if key in own and key.startswith(last) else part
        for parts in found.values()
        for key, part in parts.items()
        if key in own or not (_SPARE.search(key) or key == f"{last}bias")
    }
    rows = {
        key
        for key in given.keys() & own.keys()
        if key.startswith(last) or _ROW_A_CLASS.search(key)
        if given[key].shape[1:] == own[key].shape[1:] and len(given[key]) != len(own[key])
    }
    given = {key: part for key, part in given.items() if key not in rows}
    left = [
        key
        for key in own
        if key not in given
        if key in rows or not key.startswith(covered) or _SPARE.search(key)
    ]
    if odd := checkpoint.differences({k: own[k] for k in own if k not in left}, given):
        got = f"start {path}, {checkpoint.what(tensors)}, is not for {type(network).__name__}"
        raise InputError(f"network: {got}: it {odd}; give weights of the same network and preset")
    count = sum(parts.keys() <= given.keys() for parts in found.values())
    said = [key for key in left if not key.endswith(".relative_position_index")]
    rest = f"left as they are: {listed(said, 4)}" if said else "none is left as it was"
    remark(f"{path}: matched {count} of {len(found)} tensors; {rest}")
    return given


def _under_own_names(
    tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], path: str | Path
) -> tuple[dict[str, dict[str, Tensor]], str]:
    """As of `official.renamed`, and how the names begin that should all be among them."""
    for prefix in ("", "model.", "module."):
        if 2 * sum(f"{prefix}{name}" in own for name in tensors) > len(tensors):
            return {name: {f"{prefix}{name}": t} for name, t in tensors.items()}, ""
    if (source := official.recognised(tensors)) is None:
        advice = "give weights of this network, or a checkpoint of its authors"
        raise InputError(f"network: start {path} is {checkpoint.what(tensors)}; {advice}")
    covered = "" if source.whole else official.backbone(own)[0]
    return official.renamed(tensors, source, own), covered


def _shaped(tensor: Tensor, own: Tensor) -> Tensor:
    """A 1 x 1 convolution's [C, D, 1, 1] as the cosine classifier's [C, D]."""
    flat = tensor.ndim == 4 and own.ndim == 2 and tensor.shape[2:].numel() == 1
    return tensor.reshape(tensor.shape[:2]) if flat else tensor
