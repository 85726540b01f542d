"""What the kernels' tests share."""

from __future__ import annotations

import itertools
import math
import os
import warnings
from collections import defaultdict

import numpy as np
import pytest
import torch

from fusion.kernels import call
from tests.kernels.inputs import covering

CONTRACTS = tuple(
    f"tests.kernels.{name}"
    for name in ("contract", "channels", "head.contract", "contested.contract")
)


def pytest_collection_modifyitems(items):
    """Interpreted kernels are slow: of a contract's cases enough for every pair of parameters."""
    if os.environ.get("TRITON_INTERPRET") != "1":
        return
    cases = defaultdict(list)
    for item in items:
        alone = not hasattr(item, "callspec") or item.function.__module__ not in CONTRACTS
        cases[item if alone else (item.cls, item.originalname)].append(item)
    chosen = {item for some in cases.values() for item in covering(some, pairs)}
    items[:] = [item for item in items if item in chosen]


def pairs(item) -> set:
    given = item.callspec.params if hasattr(item, "callspec") else {}
    values = [(name, str(value)) for name, value in given.items()] or [item]
    return set(itertools.combinations(values, min(2, len(values))))


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


@pytest.fixture(autouse=True)
def within_tensors():
    """No interpreted lane reads or writes outside the tensors that kernels were given."""
    if os.environ.get("TRITON_INTERPRET") != "1":
        yield
        return
    from tests.faults.bounded_triton import pointers_checked

    with pointers_checked():
        yield


@pytest.fixture(autouse=True)
def fused_multiply_add(monkeypatch):
    """Rounds once, as on a GPU: the interpreter rounds the product too."""
    if os.environ.get("TRITON_INTERPRET") != "1":
        return
    from triton.runtime import interpreter

    def fma(builder, x, y, z):
        wide = x.data.astype(np.float64) * y.data + z.data
        return interpreter.TensorHandle(wide.astype(z.data.dtype), z.dtype)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_fma", fma)
