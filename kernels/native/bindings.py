"""Signatures of the compiled functions: what each returns and takes.

They are checked at every call: an array of another dtype, or not in C order, raises.
"""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.ctypeslib import ndpointer

INT, FLOAT, DOUBLE = ctypes.c_int64, ctypes.c_float, ctypes.c_double
F4, F8, I8, U1, U2 = (
    ndpointer(np.dtype(kind), flags="C") for kind in ("f4", "f8", "i8", "u1", "u2")
)
FLIPS = ndpointer(flags="C")  # of dtype kernels/sweep/layout.py:FLIP

Signature = tuple[type | None, tuple[type, ...]]

CONTESTED: dict[str, Signature] = {
    "contested_filter": (
        None,
        (F4, U2, *6 * (INT,), *3 * (FLOAT,), I8, U2, U2, U2, F4, INT, I8),
    ),
    "contested_count": (None, (I8, INT, F4, *5 * (INT,), I8)),
    "contested_flips": (INT, (I8, INT, F8, F8, INT, INT, DOUBLE, DOUBLE, INT, FLIPS, I8, F8)),
    "contested_scan": (None, (FLIPS, INT, I8, I8, INT, U1, *3 * (DOUBLE,), F8, F8)),
    "contested_bound": (INT, (I8, INT, I8, INT, F8, INT, DOUBLE, *4 * (I8,), F8, U1)),
}


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """The library with its functions' types set: ctypes would take every integer for 32 bits."""
    for name, (returns, takes) in CONTESTED.items():
        function = getattr(library, name)
        function.restype, function.argtypes = returns, takes
    return library
