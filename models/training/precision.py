"""How the numbers of a forward pass are kept, and what that asks of the backward pass.

torch.amp does all of it: bf16 has float32's range, fp16 has not, so its loss is scaled up before
gradients are made and they are scaled down again (Micikevicius et al., "Mixed Precision Training"
(2018), section 3.2). A scale that was too large costs its step and is halved.
"""

from __future__ import annotations

from typing import Any

import torch

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """name: `train.precision`. device: of the network.

    Attributes:
        name: what it came to.
        scaler: torch's; without fp16 it changes nothing.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name == "auto":
            name = "bf16" if device.type == "cuda" else "float32"
        self.name, self._device = name, device.type
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def forward(self) -> torch.autocast:
        """torch's context manager, for forward passes."""
        half = HALVES.get(self.name)
        return torch.autocast(self._device, half or torch.bfloat16, enabled=half is not None)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: plain numbers, nothing without fp16."""
        return dict(self.scaler.state_dict())

    def restore(self, state: dict[str, Any]) -> None:
        """What `state` gave; nothing, where the checkpoint was of another precision."""
        if state and self.scaler.is_enabled():
            self.scaler.load_state_dict(state)
