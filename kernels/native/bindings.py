"""Types of every C function, so that callers pass plain numbers, addresses (int) and None.

N, F, D: int64, float, double. P: an address, of an array that somebody keeps alive during the call.
F4, F8, I8, U1, U2: NumPy arrays in C order, aligned, whose type ctypes checks.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.ctypeslib import ndpointer

INT = ctypes.c_int
N, F, D, P = ctypes.c_int64, ctypes.c_float, ctypes.c_double, ctypes.c_void_p
F4, F8, I8, U1, U2 = (
    ndpointer(np.dtype(kind), flags=("C", "A")) for kind in ("f4", "f8", "i8", "u1", "u2")
)
FLIPS = ndpointer(flags=("C", "A"))  # of kernels/sweep: FLIP


class Sources(ctypes.Structure):
    """struct sources of softmax.h."""

    _fields_ = (
        *((name, N) for name in ("models", "classes", "outer", "inner")),
        *((name, P) for name in ("data", "class_stride", "outer_stride", "kind", "scale")),
        *((name, P) for name in ("exponentials", "gaps")),
    )


class Average(ctypes.Structure):
    """struct average of average.c."""

    _fields_ = (
        ("source", P),
        *((name, N) for name in ("groups", "pixels", "tile")),
        *((name, P) for name in ("members", "group_end", "share")),
        *(
            ("weight", P),
            ("multipliers", P),
            ("channel", N),
            ("ignore", N),
            ("finishes", N),
            ("labels", P),
            ("probabilities", P),
        ),
        *((name, P) for name in ("confidence", "margin", "entropy", "group_means")),
        *(("cheap", N), ("rest", N)),
    )


class Head(ctypes.Structure):
    """struct head of head.c."""

    _fields_ = (
        ("source", P),
        *((name, N) for name in ("pixels", "tile", "mixes", "ignore")),
        *((name, F) for name in ("floor", "least")),
        *((name, P) for name in ("mixing", "bias", "scaled", "labels", "probabilities", "scores")),
    )


class Maps(ctypes.Structure):
    """struct maps of upsample.c."""

    _fields_ = (
        ("data", P),
        *((name, N) for name in ("kind", "class_stride", "row_stride", "classes", "w")),
        *(("codes", P), ("infinity", F), ("dead", P)),
    )


class Steps(ctypes.Structure):
    """struct steps of cells.h."""

    _fields_ = (
        *((name, P) for name in ("left", "right", "upper", "lower", "fx", "fy")),
        *((name, N) for name in ("width", "rows")),
    )


class StripMap(ctypes.Structure):
    """struct strip_map of upsample/strips.c."""

    _fields_ = (
        ("data", P),
        *((name, N) for name in ("kind", "class_stride", "row_stride", "h", "w")),
        *(("steps", P), ("scale", F), ("weight", F)),
    )


class Frame(ctypes.Structure):
    """struct frame of resized/sums.h."""

    _fields_ = (
        *((name, P) for name in ("maps", "targets", "steps")),
        *((name, N) for name in ("models", "classes", "h", "w", "wide")),
    )


SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "fusion_sources": (ctypes.c_char_p, ()),
    "fusion_level": (INT, ()),
    "fusion_average": (INT, (P, N, N, N)),
    "fusion_head": (INT, (P, N, N, N)),
    "fusion_bilinear": (INT, (P, P, P, N)),
    "fusion_bilinear_at": (None, (P, P, P, N, P)),
    "fusion_agreed": (F, (P, N, N, N, F, P, INT, P)),
    "fusion_strip_labels": (N, (P, N, N, P, P, F, N, P, P)),
    "fusion_resized_labels": (INT, (P, N, N, N, N, P, P, F, P, N, P, P)),
    "fusion_confusion": (INT, (P, P, N, N, N, P)),
    "fusion_confusion_bytes": (INT, (P, P, N, N, N, P)),
    "fusion_resized_count": (INT, (P, F8, F8, N, F4, F, N, I8)),
    "fusion_resized_flips": (N, (P, F8, F4, F, D, D, N, FLIPS, I8)),
    # contested and sweep: arrays are checked for their type at every call
    "contested_filter": (None, (F4, U2, *6 * (N,), *3 * (F,), N, I8, U2, U2, U2, F4, N, I8)),
    "contested_count": (None, (I8, N, F4, P, *5 * (N,), I8)),
    "contested_flips": (N, (I8, N, F8, F8, P, N, N, D, D, N, FLIPS, I8, F8)),
    "contested_class_flips": (N, (I8, N, F8, F8, N, N, N, D, D, N, FLIPS, I8)),
    "contested_order": (INT, (FLIPS, N, FLIPS)),
    "contested_scan": (
        None,
        (FLIPS, *4 * (N,), I8, U1, F8, I8, F8, N, I8, *3 * (D,), F8, F8, I8, F8),
    ),
    "contested_bound": (N, (I8, N, I8, N, F8, N, D, *4 * (I8,), F8)),
}


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """The library with the types of its functions."""
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
