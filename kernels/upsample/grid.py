"""Neighbours and fractions of label rows and columns, as the compiled loops take them."""

from __future__ import annotations

from fusion.kernels.arithmetic import bilinear_steps
from fusion.kernels.call import Pair
from fusion.kernels.native.bindings import Steps


class Grid:
    """Neighbours and fractions of label rows and columns over maps [h, w]."""

    def __init__(self, source: Pair, size: Pair) -> None:
        self.source, self.size = source, size
        # here, not in a thread's task: they must outlive the addresses that `steps` hands out
        self.rows, self.columns = map(bilinear_steps, source, size)

    def steps(self, start: int, stop: int) -> Steps:
        (left, right, fx), (upper, lower, fy) = self.columns, (step[start:] for step in self.rows)
        tables = (left, right, upper, lower, fx, fy)
        return Steps(*(table.data_ptr() for table in tables), self.size[1], stop - start)
