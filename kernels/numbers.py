"""Numbers that every room agrees on; NumPy only, so that readers of files need no torch.

A gap is how far a logit lies below its pixel's largest; code 0..255 is GAP_RANGE * (code / 255)^2.
"""

from __future__ import annotations

import numpy as np

GAP_RANGE = 24.0
DECODE_TABLE = (-GAP_RANGE * (np.arange(256) / 255.0) ** 2).astype(np.float32)


def void_label(classes: int | None) -> int:
    """The label of pixels that never count: 255, beyond 255 classes 65535."""
    return 255 if classes is None or classes <= 255 else 65535
