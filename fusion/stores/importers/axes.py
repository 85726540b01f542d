"""The order of an array's axes: told by the class count, given, or refused with what to give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fusion.errors import InputError
from fusion.stores.importers.protocol import option

AXES = ("TCHW", "CTHW", "CHW", "HWC", "THWC")
TURNED = ("CWH", "WHC", "TCWH", "TWHC")  # taken where they are asked for, never proposed


def axes_option() -> Any:
    return option("order of the axes (default: told by the class count)", choices=(*AXES, *TURNED))


def order_of(shape: tuple[int, ...], classes: int, axes: str | None, where: object) -> str:
    """The order of an array's axes, one of AXES or TURNED.

    Args:
        shape: of the array.
        classes: C.
        axes: the order that was given, if one was.
        where: the file, for errors.
    """
    if axes is not None and axes not in (*AXES, *TURNED):
        raise InputError(f"axes: got {axes!r}; choose one of {AXES}")
    fitting = [
        order
        for order in (*AXES, *TURNED)
        if len(order) == len(shape) and shape[order.index("C")] == classes
    ]
    # taken by itself only where no other reading is as likely: [C, T, H, W] is not guessed
    plain = [a for a in fitting if a in ("TCHW", "CHW") or (a == "CTHW" and shape[1] == 1)]
    order = axes or next(iter(plain), None)
    if order is None or order not in fitting:
        wanted = f"{axes or '[T, C, H, W] or [C, H, W]'} with C = {classes} classes"
        say = " or ".join(f"axes='{a}'" for a in fitting if a in AXES)
        hint = f"; if the order is another, say so with {say}" if say else ""
        raise InputError(f"{where}: shape {list(shape)}, expected {wanted}{hint}")
    return order


def as_clip(array: np.ndarray, classes: int, axes: str | None, path: Path) -> np.ndarray:
    """[T, C, H, W] view of an array.

    Args:
        array: [T, C, H, W], [C, H, W], nnU-Net's [C, 1, H, W], or an order that `axes` gives.
        classes: C.
        axes: one of AXES or TURNED.
        path: the file, for errors.
    """
    order = order_of(array.shape, classes, axes, path)
    if "T" not in order:
        array, order = array[None], f"T{order}"
    return array.transpose([order.index(axis) for axis in "TCHW"])


class Clip:
    """Frames [C, H, W] of an array that is read as it is asked for: h5py's, Zarr's.

    Args:
        array: something with a shape that slices give arrays of.
        order: of its axes.
    """

    def __init__(self, array: Any, order: str) -> None:
        self.array, self.order = array, order

    def __len__(self) -> int:
        return int(self.array.shape[self.order.index("T")]) if "T" in self.order else 1

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.at(None)

    def at(self, index: int | None) -> Iterator[np.ndarray]:
        """One frame, or all of them."""
        rest = self.order.replace("T", "")
        turn = [rest.index(axis) for axis in "CHW"]
        for t in range(len(self)) if index is None else [index]:
            at = tuple(t if axis == "T" else slice(None) for axis in self.order)
            yield np.asarray(self.array[at]).transpose(turn)
