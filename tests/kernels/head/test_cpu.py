"""The compiled head: the contract, and what only this path has."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.kernels.arithmetic import HEAD_OUTPUTS
from fusion.kernels.call import check_head
from fusion.kernels.head import cpu, naive
from fusion.kernels.native import build
from tests.kernels.head.contract import FORMS, OverflowContract
from tests.kernels.inputs import make


@pytest.fixture(autouse=True, scope="module")
def a_compiler():
    assert build.library() is not None, "these tests need a C compiler"


class TestCpu(OverflowContract):
    backend = cpu

    @pytest.mark.parametrize("form", FORMS)
    def test_every_half_and_every_code(self, form):
        """Logits and probabilities of all halves and bfloat16s; all codes, without a 0 too."""
        bits = torch.arange(65536, dtype=torch.int32).to(torch.int16)
        given = self.weights(form, 1, 2)
        for dtype in (torch.float16, torch.bfloat16):
            z = torch.stack([bits.view(dtype), torch.zeros(65536, dtype=dtype)])
            for values in ("logits", "probabilities"):
                self.check([z], *given, values=values, outputs=HEAD_OUTPUTS)
        every = torch.arange(256)
        codes = torch.cartesian_prod(every, every).T.to(torch.uint8).contiguous()
        with_zero = codes.index_fill(0, torch.tensor([1]), 0)
        for temperature in (1.0, 0.6, 3.0):
            for maps in ([codes], [with_zero]):
                options = {"temperatures": [temperature], "outputs": HEAD_OUTPUTS}
                self.check(maps, *given, **options)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), cut=st.integers(1, 299), classes=st.integers(1, 9))
def test_cuts_do_not_matter_and_any_class_count_fits_its_rows(seed, cut, classes):
    maps, values = make("mixed", 3, classes, (300,), seed)
    given = TestCpu().weights("mix", 3, classes, seed)
    options = {"values": values, "outputs": HEAD_OUTPUTS}
    whole = cpu.head(check_head(maps, *given, **options))
    parts = [
        cpu.head(check_head([z[:, part] for z in maps], *given, **options))
        for part in (slice(cut), slice(cut, None))
    ]
    for name in HEAD_OUTPUTS:
        assert torch.equal(
            torch.cat([getattr(p, name) for p in parts], dim=-1), getattr(whole, name)
        )
    assert torch.equal(whole.scores, naive.scores(check_head(maps, *given, **options)))
