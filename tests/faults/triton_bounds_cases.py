"""Every Triton kernel on odd shapes, interpreted, no lane outside its tensors.

test_triton_bounds.py runs this in a process of its own with TRITON_INTERPRET=1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton.runtime.errors import InterpreterError

from fusion.kernels.arithmetic import CHANNEL_OUTPUTS, HEAD_OUTPUTS, OUTPUTS
from fusion.kernels.average import triton as average
from fusion.kernels.call import check, check_head, check_upsampling
from fusion.kernels.compile_table import KERNELS
from fusion.kernels.confusion import naive as counting
from fusion.kernels.confusion import triton as confusion
from fusion.kernels.contested import layout, naive
from fusion.kernels.contested import triton as contested
from fusion.kernels.contested.layout import Parts
from fusion.kernels.head import triton as head
from fusion.kernels.upsample import triton as upsample
from tests.contested.cases import probabilities, some_targets
from tests.faults.bounded_triton import Spans, pointers_checked
from tests.kernels.inputs import make

SHAPES = [(1,), (130,), (3, 0), (2, 5, 7)]
LAUNCHED: set[str] = set()


@pytest.fixture
def spans() -> Iterator[Spans]:
    with np.errstate(all="ignore"), pointers_checked() as made:
        yield made
    LAUNCHED.update(made.launched)


@triton.jit
def shifted_kernel(x_ptr: tl.tensor, y_ptr: tl.tensor, n: tl.tensor, shift: tl.tensor) -> None:
    lane = tl.arange(0, 16)
    tl.store(y_ptr + lane, tl.load(x_ptr + lane + shift, mask=lane < n), mask=lane < n)


@pytest.mark.parametrize(("n", "shift", "said"), [(8, 1, "load"), (8, -1, "load"), (9, 0, "load")])
def test_a_lane_outside_is_seen(spans, n, shift, said):
    whole = torch.arange(64, dtype=torch.float32)
    shifted_kernel[(1,)](whole[20:28], whole[40:48], 8, 0)
    assert whole[40:48].tolist() == list(range(20, 28))
    assert spans.lanes == 16
    with pytest.raises(InterpreterError, match=f"{said} of 4 bytes outside all tensors"):
        shifted_kernel[(1,)](whole[20:28], whole[40:48], n, shift)


def test_a_write_outside_is_seen(spans):
    whole = torch.zeros(64)
    with pytest.raises(InterpreterError, match="store of 4 bytes outside"):
        shifted_kernel[(1,)](whole[20:36], whole[40:48], 9, 0)


@pytest.mark.parametrize("kind", ["codes", "mixed"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_average(spans, shape, kind):
    for classes, outputs in ((3, OUTPUTS), (33, ("labels",))):
        maps, values = make(kind, 3, classes, shape)
        how = {"values": values, "groups": [[0, 2], [1]], "outputs": outputs}
        average.average(check(maps, [1, 2], **how))
    maps, values = make(kind, 3, 5, shape, channels=True)
    how = {"values": values, "outputs": CHANNEL_OUTPUTS, "channels": True}
    average.average(check(maps, [1, 2, 3], **how))


@pytest.mark.parametrize("mixes", [False, True])
def test_head(spans, mixes):
    for shape in SHAPES:
        maps, values = make("mixed", 2, 5, shape)
        mixing = np.ones((2, 5, 5) if mixes else (2, 5))
        head.head(check_head(maps, mixing, np.ones(5), values=values, outputs=HEAD_OUTPUTS))


@pytest.mark.parametrize("resize", ["logits", "probabilities"])
@pytest.mark.parametrize("channels", [False, True])
def test_upsample(spans, channels, resize):
    known = CHANNEL_OUTPUTS if channels else OUTPUTS
    for shapes, size in ([(1, 1)], (5, 3)), ([(5, 7), (3, 4)], (6, 19)):
        made = [
            make("mixed", m + 1, 5, shapes[m % len(shapes)], channels=channels) for m in range(2)
        ]
        maps, values = [z[-1] for z, _ in made], [v[-1] for _, v in made]
        how = {"values": values, "resize": resize, "channels": channels}
        for outputs, rows in ((known, None), (("labels",), (1, size[0] - 1))):
            given = check_upsampling(maps, [1, 2], size, outputs=outputs, rows=rows, **how)
            upsample.upsample(given)


def test_confusion(spans):
    for pixels in (0, 1, 4095, 4097):
        ids = torch.arange(pixels) % 7
        got = confusion.confusion(ids, ids.flip(0), 7)
        assert np.array_equal(got, counting.confusion(ids, ids.flip(0), 7))


def test_contested(spans):
    groups, pixels = 3, 150
    means, targets = probabilities(groups, 6, pixels), some_targets(6, pixels).astype(np.uint16)
    block = contested.condense(torch.from_numpy(means), targets, 255, 2.0)
    runs = layout.runs(naive.condense(means, targets, 255, 2.0))
    assert len(block.targets) == sum(run.pixels for run in runs)
    parts = Parts([(k % 2, run) for k, run in enumerate(runs)])
    on_device = contested.upload(parts, "cpu")
    weights = np.random.default_rng(0).dirichlet(np.ones(groups), 5).astype(np.float32)
    for vectors in (weights, weights[:0]):
        factors = np.ones((len(vectors), 6), np.float32)
        for how in ({"videos": 2, "matrix": False}, {"multipliers": factors}):
            got = contested.count(on_device, vectors, 6, **how)
            assert np.array_equal(got, naive.count(parts, vectors, 6, **how))
    short = replace(on_device, targets=on_device.targets[:-16].clone())
    spans.forget()
    with pytest.raises(InterpreterError, match="load of 2 bytes outside all tensors"):
        contested.count(short, weights, 6)


def test_every_kernel_was_launched():
    """Last of this file."""
    assert {f"{name}_kernel" for name in KERNELS} <= LAUNCHED
