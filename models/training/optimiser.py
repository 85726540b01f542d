"""Which parameters decay."""

from __future__ import annotations

from torch import nn


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """AdamW's groups: norms, biases and other vectors do not decay."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    matrices, vectors = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
    decays = ((matrices, weight_decay), (vectors, 0.0))
    return [{"params": some, "weight_decay": decay} for some, decay in decays]
