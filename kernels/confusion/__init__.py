"""Counts of (target, label) pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def confusion(targets: Tensor, labels: Tensor, classes: int, *, ignore: int = 255) -> Tensor:
    """Counts of (target, label) pairs: int64 [C, C] on the labels' device, rows targets, columns labels.

    Args:
        targets, labels: integer tensors of one shape, values 0..C-1.
        classes: C.
        ignore: pixels whose target has this value do not count, whatever their label.

    Raises:
        TypeError: tensors that are not integers. ValueError: shapes or devices that differ, or a counted value outside 0..C-1.
    """
    from fusion.kernels import call as arguments

    arguments.check_labels(targets, labels, classes)
    if labels.device.type not in ("cpu", "cuda"):
        raise ValueError(
            f"device: got {labels.device}; fusion runs on cpu and cuda (ROCm included)"
        )
    if labels.device.type == "cuda":
        from fusion.kernels.confusion.triton import confusion as count
    else:
        from fusion.kernels.average.cpu import confusion as count
    return count(targets, labels, classes, ignore=ignore)
