"""What the kernels' tests share."""

from __future__ import annotations

import math
import os
import warnings

import numpy as np
import pytest
import torch

from fusion.kernels import call


@pytest.fixture
def poisoned(monkeypatch):
    """Outputs inside larger arrays full of poison; afterwards all of it but the margins is gone."""
    arrays = []

    def surrounded(*shape, dtype=torch.float32, device="cpu"):
        shape = shape[0] if isinstance(shape[0], tuple) else shape
        poison, count = math.nan if dtype == torch.float32 else 251, math.prod(shape)
        whole = torch.tensor([poison], device=device).to(dtype).repeat(count + 512)
        arrays.append((whole, count))
        return whole[256 : 256 + count].view(shape)

    with monkeypatch.context() as patch:
        patch.setattr(call.torch, "empty", surrounded)
        yield
    assert arrays
    for whole, count in arrays:
        values = whole.to(torch.float32)
        poison = values.isnan() if whole.dtype == torch.float32 else values == 251
        assert poison[:256].all()
        assert poison[256 + count :].all()
        assert not poison[256 : 256 + count].any()


@pytest.fixture(autouse=True)
def silent_nan():
    """NumPy, which interprets the Triton kernels, warns of NaN that a GPU computes in silence."""
    if os.environ.get("TRITON_INTERPRET") != "1":
        yield
        return
    with np.errstate(invalid="ignore", over="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice encountered", RuntimeWarning)
        yield
