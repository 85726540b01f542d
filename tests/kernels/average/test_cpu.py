"""The compiled average: the contract, and what only this path has."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.kernels.average import cpu
from fusion.kernels.call import check
from fusion.kernels.native import build
from tests.kernels.channels import AverageChannels
from tests.kernels.contract import AverageContract
from tests.kernels.inputs import SOME, make


@pytest.fixture(autouse=True, scope="module")
def a_compiler():
    assert build.library() is not None, "these tests need a C compiler"


class TestCpu(AverageContract):
    backend = cpu

    def test_every_half_and_every_code(self):
        """All halves and bfloat16s (NaN, infinities) beside a zero; all codes, without a 0 too."""
        bits = torch.arange(65536, dtype=torch.int32).to(torch.int16)
        for dtype in (torch.float16, torch.bfloat16):
            z = torch.stack([bits.view(dtype), torch.zeros(65536, dtype=dtype)])
            self.check([z], [1], outputs=SOME)
        every = torch.arange(256)
        codes = torch.cartesian_prod(every, every).T.to(torch.uint8).contiguous()
        with_zero = codes.index_fill(0, torch.tensor([1]), 0)
        for temperature in (1.0, 0.6, 3.0):
            self.check([codes], [1], temperatures=[temperature], outputs=SOME)
            self.check([with_zero], [1], temperatures=[temperature], outputs=SOME)


class TestCpuChannels(AverageChannels):
    backend = cpu

    def test_every_half(self):
        bits = torch.arange(65536, dtype=torch.int32).to(torch.int16)
        for dtype in (torch.float16, torch.bfloat16):
            self.check([bits.view(dtype)[None]], [1], temperatures=[0.7], outputs=SOME)


@settings(max_examples=40, deadline=None)
@given(
    classes=st.integers(1, 4), groups=st.integers(1, 4), seed=st.integers(0, 2**31),
    level=st.floats(0.01, 0.99), coarse=st.booleans(),
)  # fmt: skip
def test_labels_of_channels_are_those_of_two_classes(classes, groups, seed, level, coarse):
    """argmax over (1 - P, P): group means, weights and a threshold through the other operation."""
    generator = torch.Generator().manual_seed(seed)
    p = torch.rand(groups, classes, 97, generator=generator)
    p = (p * 4).round() / 4 if coarse else p  # quarters tie
    p[0, 0, 5] = torch.nan
    weights = torch.randint(0, 4, (groups,), generator=generator).add(0.0).tolist()
    weights[0] = 1.0
    pair = [level, 1 - level]
    options = {"values": "probabilities", "outputs": ("labels",)}
    given = check(list(p), weights, multipliers=pair * classes, channels=True, **options)
    made = cpu.average(given).labels
    for c in range(classes):
        opposed = [torch.stack([1.0 - mean[c], mean[c]]) for mean in p]
        rival = cpu.average(check(opposed, weights, multipliers=pair, **options))
        assert torch.equal(made[c], rival.labels)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.01, 100), cut=st.integers(1, 299))
def test_scale_of_weights_and_cuts_do_not_matter(seed, scale, cut):
    logits, values = make("mixed", 3, 7, (300,), seed)
    options = {"values": values, "outputs": ("labels", "probabilities")}
    whole = cpu.average(check(logits, [1, 2, 4], **options))
    parts = [
        cpu.average(check([z[:, part] for z in logits], [1, 2, 4], **options))
        for part in (slice(cut), slice(cut, None))
    ]
    assert torch.equal(torch.cat([p.probabilities for p in parts], dim=1), whole.probabilities)
    assert torch.equal(torch.cat([p.labels for p in parts]), whole.labels)
    scaled = cpu.average(check(logits, [scale, 2 * scale, 4 * scale], **options))
    torch.testing.assert_close(scaled.probabilities, whole.probabilities, rtol=1e-6, atol=1e-7)
