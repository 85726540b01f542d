"""xarray and flox: ones grouped by target and label."""

from __future__ import annotations

import numpy as np

from benchmarks.peers.peer import Peer


def grouped(targets: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """255 is none of the expected groups."""
    import xarray
    from flox.xarray import xarray_reduce

    axes = [f"axis{i}" for i in range(targets.ndim)]
    known = xarray.DataArray(targets, dims=axes, name="targets")
    found = xarray.DataArray(labels, dims=axes, name="labels")
    groups = (np.arange(classes), np.arange(classes))
    ones = xarray.ones_like(known, dtype=np.int64).rename("ones")
    how = {"func": "sum", "expected_groups": groups, "fill_value": 0}
    return xarray_reduce(ones, known, found, **how).values


COUNTS = Peer("xarray + flox", grouped, ("xarray", "flox"), "xarray flox")
