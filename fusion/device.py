"""Where tensors live: the one reading of "auto", "cpu", "cuda" and "cuda:1"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.errors import InputError

if TYPE_CHECKING:
    import torch


def chosen(name: str) -> torch.device:
    """torch's device of a name, "auto" is a GPU where torch finds one; InputError where none is."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    problem = "; give 'auto', 'cpu' or 'cuda' (ROCm included)"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device: got {name!r}{problem}") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        problem = ", torch sees no GPU of that name; give 'auto' or 'cpu'"
    elif device.type in ("cpu", "cuda"):
        return device
    raise InputError(f"device: got {name!r}{problem}")
