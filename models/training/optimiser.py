"""Which parameters decay.

None of these do, as in mmsegmentation's Swin configurations (custom_keys of paramwise_cfg) and the
MaskFormer authors' train_net.py (WEIGHT_DECAY_NORM and WEIGHT_DECAY_EMBED are 0):

    norms and biases    vectors; the two references let biases of other layers decay
    embeddings          of queries and levels
    positions           tables and embeddings, of what is pretrained elsewhere too

Both references train a Swin at the head's learning rate, as is done here (the 0.1 of MaskFormer's
BACKBONE_MULTIPLIER is for ResNets).
"""

from __future__ import annotations

from torch import nn

# of parameters, in the libraries' and the papers' codes
_POSITIONS = ("relative_position_bias_table", "position_embedding", "pos_embed", "_token")


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """AdamW's groups: what decays, and what does not."""
    spared = undecayed(network)
    trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    decays = ((False, weight_decay), (True, 0.0))
    return [
        {"params": [p for name, p in trained if (name in spared) == whether], "weight_decay": decay}
        for whether, decay in decays
    ]


def undecayed(network: nn.Module) -> set[str]:
    """Names of the parameters that do not decay."""
    embeddings = {
        f"{path}.{name}"
        for path, module in network.named_modules()
        if isinstance(module, nn.Embedding)
        for name, _ in module.named_parameters(recurse=False)
    }
    return embeddings | {
        name
        for name, parameter in network.named_parameters()
        if parameter.ndim <= 1 or any(part in name.rsplit(".", 1)[-1] for part in _POSITIONS)
    }
