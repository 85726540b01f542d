"""What every backend of `head` must do; `Exact` and `Close` say how far from the oracle it may be.

class TestCpu(Exact, HeadContract):
    backend = cpu
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import ClassVar

import pytest
import torch

from fusion.kernels.arithmetic import HEAD_OUTPUTS, Fused
from fusion.kernels.call import Head, check_head
from fusion.kernels.head import naive
from fusion.kernels.numbers import void_label
from tests.kernels.inputs import CASES, FLOATS, KINDS, LAYOUTS, VALUES, make

FORMS = ("log", "mix")
OUTPUT_SETS = [("labels",), HEAD_OUTPUTS]


class Exact:
    """Equal bits."""

    backend: ClassVar[ModuleType]
    device: ClassVar[str] = "cpu"

    def agree(self, got: Fused, expected: Fused, call: Head) -> None:
        for name, tensor in got.asked().items():
            theirs = getattr(expected, name)
            assert tensor.dtype == theirs.dtype
            torch.testing.assert_close(tensor, theirs, rtol=0, atol=0, equal_nan=True, msg=name)


class HeadContract(Exact):
    """`head(call)` of a backend against the oracle."""

    def head(self, call: Head) -> Fused:
        return self.backend.head(call)

    def make(self, kind: str, models: int, classes: int, shape: tuple[int, ...], seed: int = 0):
        return make(kind, models, classes, shape, seed, self.device)

    def weights(self, form: str, models: int, classes: int, seed: int = 0):
        """Mixing and bias of both signs; a class leans on itself, as what is fitted does."""
        generator = torch.Generator().manual_seed(seed)
        shape = (models, classes, classes) if form == "mix" else (models, classes)
        spread = 0.3 / classes if form == "mix" else 0.3
        mixing = spread * torch.randn(shape, generator=generator)
        mixing += torch.eye(classes) if form == "mix" else 1.0
        return mixing / models, torch.randn(classes, generator=generator)

    def check(self, maps, mixing, bias, **options) -> Fused:
        call = check_head(maps, mixing, bias, **options)
        full = check_head(maps, mixing, bias, **{**options, "outputs": HEAD_OUTPUTS})
        got = self.head(call)
        assert got.asked().keys() == set(call.outputs)
        self.agree(got, naive.head(full, tile=1 << 40), call)
        return got

    @pytest.mark.parametrize("outputs", OUTPUT_SETS, ids=["labels", "all"])
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("case", CASES)
    def test_shapes_and_kinds(self, kind, case, form, outputs):
        classes, pixels, models = case
        if form == "mix" and classes > 300:
            classes, pixels, models = 300, 7, 1
        maps, values = self.make(kind, models, classes, (pixels,))
        options = {"values": values, "temperatures": [0.5 + 0.4 * (m % 4) for m in range(models)]}
        self.check(maps, *self.weights(form, models, classes), outputs=outputs, **options)

    @pytest.mark.parametrize("form", FORMS)
    def test_a_whole_map_of_many_tiles(self, form):
        maps, _ = self.make("float32", 3, 31, (25920,))
        self.check(maps, *self.weights(form, 3, 31), outputs=HEAD_OUTPUTS)

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("output", HEAD_OUTPUTS)
    def test_every_output_alone(self, output, form):
        maps, values = self.make("mixed", 5, 11, (9, 7))
        self.check(maps, *self.weights(form, 5, 11), values=values, outputs=(output,))

    @pytest.mark.parametrize("form", FORMS)
    def test_no_pixels(self, form):
        maps, _ = self.make("float16", 2, 5, (1, 4))
        given = [z[:, :0] for z in maps], *self.weights(form, 2, 5)
        got = self.head(check_head(*given, outputs=HEAD_OUTPUTS))
        assert got.labels.shape == (0, 4)
        assert got.scores.shape == got.probabilities.shape == (5, 0, 4)

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_any_strides_are_read(self, layout, form):
        plain, values = self.make("mixed", 5, 12, (3, 6, 8))
        strided, before = [LAYOUTS[layout](t) for t in plain], [t.clone() for t in plain]
        options = {"values": values, "outputs": HEAD_OUTPUTS}
        given = self.weights(form, 5, 12)
        got = self.check(strided, *given, **options)
        again = self.check([t.contiguous() for t in strided], *given, **options)
        assert torch.equal(got.scores, again.scores)
        assert all(torch.equal(*pair) for pair in zip(plain, before, strict=True))

    def test_deep_and_odd_views(self):
        maps, _ = self.make("float16", 3, 4, (120,))
        deep = [t.unflatten(1, (2, 3, 4, 5)).permute(0, 4, 3, 2, 1) for t in maps]
        self.check(deep, *self.weights("mix", 3, 4))
        maps, values = self.make("mixed", 5, 17, (99,))
        self.check([t[:, 1:98] for t in maps], *self.weights("log", 5, 17), values=values)
        self.check([maps[0].flip(1), maps[2]], *self.weights("mix", 2, 17))

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("value", VALUES)
    def test_values(self, value, dtype, form):
        maps = [VALUES[value](z).to(dtype) for z in self.make("float32", 3, 9, (200,), seed=1)[0]]
        got = self.check(maps, *self.weights(form, 3, 9), outputs=HEAD_OUTPUTS)
        undefined = torch.stack([z.float() for z in maps]).sum(0)
        undefined = undefined.isnan().any(0) | (undefined == math.inf).any(0)
        if value.startswith("a "):
            assert undefined.any() or "dead" in value
            assert got.labels[3 if value == "a pixel NaN" else 22] == 255
        assert got.labels[undefined].eq(255).all()
        assert got.scores[:, undefined].isnan().all()

    @pytest.mark.parametrize("form", FORMS)
    def test_ties_go_to_the_lowest_class(self, form):
        maps = [torch.full((7, 70), 3.0, device=self.device) for _ in range(2)]
        mixing = torch.ones(2, 7) if form == "log" else torch.eye(7).repeat(2, 1, 1)
        bias = torch.tensor([0.0, 0, 1, 0, 1, 0, 1])
        assert self.check(maps, mixing, bias, outputs="labels").labels.eq(2).all()

    @pytest.mark.parametrize("form", FORMS)
    def test_logits_below_the_floor_count_as_the_floor(self, form):
        """The same from -30 as from -inf, and from a probability of 0."""
        z = torch.zeros(3, 66, device=self.device)
        maps = [z.index_fill(0, torch.tensor([1], device=self.device), x) for x in (-30, -math.inf)]
        mixing, bias = self.weights(form, 1, 3)
        near = [self.check([x], mixing, bias, outputs="scores").scores for x in maps]
        assert torch.equal(*near)
        p = [x.softmax(0) for x in maps[1:]]
        got = self.check(p, mixing, bias, values="probabilities", outputs="scores").scores
        torch.testing.assert_close(got, near[0], rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("form", FORMS)
    def test_nan_in_one_class_of_a_probability_map(self, form):
        """Its own score alone is NaN, or all of them where classes mix; never a label."""
        p = torch.full((3, 130), 0.25, device=self.device)
        p[1, 3:90] = math.nan
        given = self.weights(form, 2, 3)
        got = self.check([p, p], *given, values="probabilities", outputs=HEAD_OUTPUTS)
        assert (got.labels == 255).sum() == 87
        assert got.probabilities[:, 3:90].isnan().all()
        assert got.scores.isnan().sum() == (87 if form == "log" else 3 * 87)

    def test_undefined_labels_beyond_255_classes(self):
        (z,), _ = self.make("float32", 1, 256, (7,))
        z[:, 3] = math.nan
        got = self.check([z], *self.weights("log", 1, 256), outputs="labels").labels
        assert got.to(torch.int64)[3] == void_label(256)

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize(("classes", "pixels"), [(3, 65), (33, 1023), (250, 63)])
    def test_outputs_are_written_whole_and_nothing_beside_them(
        self, poisoned, classes, pixels, form
    ):
        maps, values = self.make("mixed", 4, classes, (pixels,))
        given = maps, *self.weights(form, 4, classes)
        self.head(check_head(*given, values=values, outputs=HEAD_OUTPUTS))

    @pytest.mark.parametrize("form", FORMS)
    def test_ten_runs_are_bit_equal(self, form):
        maps, values = self.make("mixed", 5, 19, (129,))
        options = {"values": values, "outputs": HEAD_OUTPUTS}
        call = check_head(maps, *self.weights(form, 5, 19), **options)
        first, *others = [self.head(call).asked() for _ in range(10)]
        for other in others:
            assert all(torch.equal(first[name], other[name]) for name in HEAD_OUTPUTS)


class OverflowContract(HeadContract):
    """Where sums are those of the oracle whatever they reach; a product in parts promises less."""

    @pytest.mark.parametrize("form", FORMS)
    def test_scores_that_overflow_have_no_label(self, form):
        """inf - inf on the way; finite numbers are all that is asked of weights."""
        maps, _ = self.make("float32", 2, 4, (66,))
        mixing, bias = self.weights(form, 2, 4)
        mixing[0], mixing[1] = 3e38, -3e38
        got = self.check(maps, mixing, bias, outputs=HEAD_OUTPUTS)
        assert (got.labels == 255).any()
