"""Numbers that stores, labels and kernels agree on: the scale of gap codes, and the void label."""

from __future__ import annotations

import numpy as np

GAP_RANGE = 24.0  # the largest gap below the top logit that a code keeps; exp(-24) = 4e-11
DECODE_TABLE = (-GAP_RANGE * (np.arange(256) / 255.0) ** 2).astype(np.float32)


def void_label(classes: int) -> int:
    """The value of a label map that stands for no class: the last one of its dtype."""
    return 255 if classes <= 255 else 65535
