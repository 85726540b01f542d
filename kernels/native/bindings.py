"""Types of every C function, so that callers pass plain numbers, addresses (int) and None.

N, F, D: int64, float, double. P: an address; of an array that somebody keeps alive during the call.
"""

from __future__ import annotations

import ctypes
from typing import Any

INT = ctypes.c_int
N, F, D, P = ctypes.c_int64, ctypes.c_float, ctypes.c_double, ctypes.c_void_p


class Average(ctypes.Structure):
    """struct average of average.c."""

    _fields_ = (
        *((name, N) for name in ("models", "groups", "classes", "pixels", "inner", "tile")),
        *((name, P) for name in ("data", "class_stride", "outer_stride", "kind", "scale")),
        *((name, P) for name in ("exponentials", "gaps", "members", "group_end", "share")),
        *(("weight", P), ("ignore", N), ("finishes", N), ("labels", P), ("probabilities", P)),
        *((name, P) for name in ("confidence", "margin", "entropy", "group_means")),
    )


class Maps(ctypes.Structure):
    """struct maps of upsample.c."""

    _fields_ = (
        ("data", P),
        *((name, N) for name in ("kind", "class_stride", "row_stride", "classes", "w")),
        *((name, P) for name in ("gaps", "dead")),
    )


class Steps(ctypes.Structure):
    """struct steps of upsample.c."""

    _fields_ = (
        *((name, P) for name in ("left", "right", "upper", "lower", "fx", "fy")),
        *((name, N) for name in ("width", "rows")),
    )


SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "fusion_average": (INT, (P, N, N, N)),
    "fusion_bilinear": (INT, (P, P, P, N)),
    "fusion_resized_labels": (INT, (P, N, N, N, N, P, F, P, N, P, P)),
    "fusion_confusion": (INT, (P, P, N, N, N, P)),
    "fusion_confusion_bytes": (INT, (P, P, N, N, N, P)),
    # contested and sweep
    "contested_filter": (None, (P, P, N, N, N, N, N, N, F, F, F, P, P, P, P, P, N, P)),
    "contested_count": (None, (P, N, P, N, N, N, N, N, P)),
    "contested_flips": (N, (P, N, P, P, N, N, D, D, N, P, P, P)),
    "contested_scan": (None, (P, P, N, P, P, N, N, D, D, D, P, P)),
    "contested_bound": (N, (P, P, N, P, N, D, P, P, P, P, P, P)),
}


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """The library with the types of its functions."""
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
