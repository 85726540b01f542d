"""Arrays of MONAI's MetaTensors in the order of a store, and where they lie in the world."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fusion.errors import InputError
from fusion.stores.codec import to_numpy

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def rows_first(unit: str, tensor: Any, meta: Mapping[str, Any], already: bool) -> np.ndarray:
    """[C, Y, X] or [C, Z, Y, X]."""
    array = to_numpy(tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor)
    turned = array if already else array.transpose(0, *range(array.ndim - 1, 0, -1))
    width, height = meta.get("width"), meta.get("height")  # of a picture's file
    if turned.shape[1:] == (width, height) != (height, width):
        problem = f"got {list(array.shape)}, of a picture of {height} rows and {width} columns"
        raise InputError(f"case {unit!r}: {problem}; set rows_first={not already}")
    return turned


def place(tensor: Any, meta: Mapping[str, Any]) -> dict[str, Any] | None:
    """Geometry of a volume, as `fusion.geometry` has it; none of a picture."""
    if tensor.ndim != 4 or "affine" not in meta:
        return None
    affine = np.asarray(meta["affine"], np.float64)
    affine = LPS_TO_RAS @ affine if str(meta.get("space", "RAS")) == "LPS" else affine
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))[::-1]
    return {"kind": "nifti", "affine": affine.tolist(), "spacing": spacing.tolist()}
