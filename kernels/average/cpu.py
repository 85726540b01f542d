"""The average on the CPU: tiles of pixels through average.c, bit for bit what naive.py returns.

M models, G groups, C classes, P pixels. Entropy alone is close instead of equal: its logarithms and
their order of summation are the C library's.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

from fusion.kernels.arithmetic import Fused, normalised
from fusion.kernels.call import Call
from fusion.kernels.native import build
from fusion.kernels.native.bindings import Average
from fusion.kernels.native.sources import Lines, floats, integers
from fusion.kernels.numbers import void_label

MOST_HEAT = 2.0**60  # of temperatures whose reciprocals are far from the ends of float32


def average(call: Call) -> Fused:
    """As `fusion.kernels.softmax_average`, on CPU tensors."""
    return accumulate(call.used())


def cheaply(call: Call) -> bool:
    """Whether labels alone of logits are asked for, at temperatures for which cheap.h is proved."""
    logits = not call.channels and set(call.values) == {"logits"}
    moderate = all(1 / MOST_HEAT < t < MOST_HEAT for t in call.temperatures)
    return call.outputs == ("labels",) and logits and moderate


def accumulate(call: Call, sizes: Sequence[int] | None = None) -> Fused:
    """The average over groups that count as of `sizes` models; default: as many as they have."""
    library = build.library()
    assert library is not None
    lines, made = Lines.of(call, channels=call.channels), call.allocate()
    sizes = [len(group) for group in call.groups] if sizes is None else sizes
    arrays = {
        "members": integers([m for group in call.groups for m in group]),
        "group_end": integers([len(group) for group in call.groups]).cumsum(0),
        "share": 1.0 / floats(sizes),
        "weight": floats(normalised(call.weights)),
    }
    if call.multipliers is not None:
        arrays["multipliers"] = floats(call.multipliers)
    addresses = {name: array.data_ptr() for name, array in (arrays | made.asked()).items()}
    given = Average(lines.address, len(call.groups), lines.pixels, lines.tile, **addresses)
    given.ignore = void_label(call.label_count)
    given.finishes = set(call.outputs) != {"group_means"}
    given.channel = math.prod(call.shape) if call.channels else 0
    given.cheap = cheaply(call)
    lines.run(lambda *span: library.fusion_average(ctypes.byref(given), *span), "softmax_average")
    return made
