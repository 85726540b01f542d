"""The compiled path at label resolution: the contract, its shortcut, and many callers at once."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulated import agreeing
from fusion.kernels.arithmetic import OUTPUTS, Fused
from fusion.kernels.call import check_upsampling
from fusion.kernels.native import build, sources
from fusion.kernels.upsample import cpu, naive
from tests.kernels.channels import UpsampleChannels
from tests.kernels.contract import UpsampleContract
from tests.kernels.inputs import KINDS, LARGE, SIZES, SOME, make


@pytest.fixture(autouse=True, scope="module")
def a_compiler():
    assert build.library() is not None, "these tests need a C compiler"


class TestCpu(UpsampleContract):
    backend = cpu

    def check_calls(self, logits, values, size, resize) -> None:
        """Three models: in and out of groups, with and without a weight of 0, all rows and some."""
        inner = (1, size[0] - 1)
        for groups, weights, rows, outputs in (
            (None, [1, 2, 0.5], None, ("labels",)),
            ([[0, 2], [1]], [1, 1.4], (size[0] // 3, size[0] // 3 + 2), ("labels",)),
            ([[1], [2, 0]], [0, 1], None, ("group_means",)),
            ([[1], [2, 0]], [0, 1], (1, 6), OUTPUTS),
            ([[1], [2, 0]], [0, 1], inner, OUTPUTS[:5]),
        ):
            rows = None if rows is None else (rows[0], min(rows[1], size[0]))
            options = {"groups": groups, "values": values, "rows": rows, "resize": resize}
            options |= {"temperatures": [1, 1.3, 0.7], "outputs": outputs}
            self.check(logits, weights, size, **options)

    @pytest.mark.parametrize("resize", ["probabilities", "logits"])
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("name", [*SIZES, *LARGE])
    def test_every_kind_at_every_size(self, name, kind, resize):
        shapes, size = {**SIZES, **LARGE}[name]
        self.check_calls(*self.make(kind, 3, 7, shapes), size, resize)

    @pytest.mark.parametrize("resize", ["probabilities", "logits"])
    @pytest.mark.parametrize("classes", [1, 257])
    def test_one_class_and_uint16(self, classes, resize):
        self.check_calls(*self.make("mixed", 3, classes, [(5, 7)]), (20, 30), resize)


class TestCpuChannels(UpsampleChannels):
    backend = cpu

    @pytest.mark.parametrize("resize", ["probabilities", "logits"])
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("name", LARGE)
    def test_large_maps(self, name, kind, resize, monkeypatch):
        monkeypatch.setattr(cpu, "BAND_BYTES", 1 << 12)  # several bands
        shapes, size = LARGE[name]
        logits, values = self.make(kind, 3, 3, shapes)
        options = {"groups": [[1], [2, 0]], "values": values, "resize": resize}
        self.check(logits, [1, 2], size, outputs=SOME, **options)


@settings(max_examples=40, deadline=None)
@given(
    levels=st.integers(1, 4), groups=st.integers(1, 4), classes=st.integers(2, 6),
    h=st.integers(1, 5), w=st.integers(1, 70), seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(1, 12), st.integers(1, 150)),
)  # fmt: skip
def test_corner_candidates_never_lose_the_winner(levels, groups, classes, h, w, size, seed):
    """Few distinct levels, exact ties and near ties: where pruning by corners would go wrong."""
    generator = torch.Generator().manual_seed(seed)
    logits = [
        torch.randint(levels, (classes, h, w), generator=generator).float() for _ in range(groups)
    ]
    logits[0] += 1e-7 * torch.randint(3, (classes, h, w), generator=generator)
    weights = torch.rand(groups, generator=generator).add(0.01).tolist()
    call = check_upsampling(logits, weights, size)
    made, shortcuts = cpu.counted(call)
    assert torch.equal(made.labels, naive.upsample(call).labels)
    assert 0 <= shortcuts.one_class <= shortcuts.pixels == size[0] * size[1]


def test_corners_decide_most_pixels_of_models_that_agree():
    call = check_upsampling(agreeing(3, 20, (24, 32)), [1, 1, 1], (96, 128))
    made, shortcuts = cpu.counted(call)
    assert torch.equal(made.labels, naive.upsample(call).labels)
    assert shortcuts.one_class > shortcuts.pixels // 2


def test_many_callers_at_once_and_any_number_of_threads(monkeypatch):
    """Bands of one row, cut again into tiles of one span: the pool must not wait for itself."""
    monkeypatch.setattr(cpu, "BAND_BYTES", 1)
    monkeypatch.setattr(sources, "TILE_BYTES", 1)
    logits, values = make("mixed", 5, 11, (40, 50))
    call = check_upsampling(logits, [1] * 5, (80, 100), values=values, outputs=SOME)
    expected, results, before = naive.upsample(call).asked(), [], torch.get_num_threads()

    def work() -> None:
        results.extend(cpu.upsample(call) for _ in range(3))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    try:
        torch.set_num_threads(max(2, before))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert len(results) == 12
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append(cpu.upsample(call))
    finally:
        torch.set_num_threads(before)
    made: Fused
    for made in results:
        assert all(torch.equal(tensor, expected[name]) for name, tensor in made.asked().items())
