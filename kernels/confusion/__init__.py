"""Counts of (target, label) pairs."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING

from fusion.arguments import checked
from fusion.errors import InputError

if TYPE_CHECKING:
    from fusion.kernels.confusion.naive import Ids


@checked
def confusion(targets: Ids, labels: Ids, classes: int, *, ignore: int = 255) -> Ids:
    """Counts of (target, label) pairs.

    Args:
        targets: integers of any dtype and shape, values 0..C-1 or `ignore`: a tensor, or a NumPy
            array. Two arrays of uint8 are counted as they are, others in copies of some pixels.
        labels: the same kind of thing of the same shape, on the same device, values 0..C-1.
        classes: C.
        ignore: pixels whose target has this value do not count, whatever their label.

    Returns:
        int64 [C, C], rows targets, columns labels: a tensor on the labels' device, or for NumPy
        arrays an array.

    Raises:
        TypeError: what is not integers.
        ValueError: shapes or devices that differ, or a counted value outside 0..C-1 (InputError).
    """
    from fusion.kernels.backends import choose
    from fusion.kernels.call import check_labels

    device = check_labels(targets, labels, classes)
    if not -(2**63) <= index(ignore) < 2**63:
        raise InputError(f"ignore: got {ignore}; give an integer of 64 bits")
    return choose("confusion", device.type).confusion(targets, labels, classes, ignore=ignore)
