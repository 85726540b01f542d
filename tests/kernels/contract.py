"""What every backend of an operation must do: a test class inherits a contract and names it.

    class TestCpu(AverageContract):
        backend = cpu

`agree` compares with the oracle: equal bits, entropy aside. GPU kernels override it with `Near`.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import ClassVar

import pytest
import torch

from fusion.kernels.arithmetic import OUTPUTS, Fused
from fusion.kernels.average import naive as average_naive
from fusion.kernels.call import RESIZES, Call, Upsampling, check, check_upsampling
from fusion.kernels.upsample import naive as upsample_naive
from tests.kernels.inputs import CASES, FLOATS, KINDS, LAYOUTS, SIZES, SOME, VALUES, make

WHOLE = 1 << 40  # no tiles and no bands
NARROW_TIE = 1e-6  # where the two best scores are nearer than this, either label is right


class Agreement:
    """Equal bits, but for entropy: its logarithms and their order of summation are free."""

    backend: ClassVar[ModuleType]
    device: ClassVar[str] = "cpu"

    def agree(self, got: Fused, expected: Fused, multipliers: object = None) -> None:
        for name, tensor in got.asked().items():
            theirs, room = getattr(expected, name), 2e-5 if name == "entropy" else 0
            assert tensor.dtype == theirs.dtype
            torch.testing.assert_close(tensor, theirs, rtol=0, atol=room, equal_nan=True, msg=name)


class Near(Agreement):
    """Labels equal but for near ties; all else within some roundings, NaN at the same places."""

    def agree(self, got: Fused, expected: Fused, multipliers: object = None) -> None:
        scores = expected.probabilities.nan_to_num()
        if got.labels is not None:
            best = average_naive.multiplied(scores, multipliers).sort(dim=0, descending=True).values
            near = best[0] - best[1] < NARROW_TIE if len(best) > 1 else torch.zeros_like(best[0])
            clear = ~near.to(torch.bool) | expected.probabilities.isnan().any(dim=0)
            assert got.labels.dtype == expected.labels.dtype
            differ = got.labels.to(torch.int64) != expected.labels.to(torch.int64)
            assert not (differ & clear).any(), (differ & clear).nonzero()
        for name in set(got.asked()) - {"labels"}:
            room = 5e-7 * (math.log(len(scores)) + 4 if name == "entropy" else 1)
            ours, theirs = getattr(got, name), getattr(expected, name)
            torch.testing.assert_close(ours, theirs, rtol=room, atol=room, equal_nan=True)


class AverageContract(Agreement):
    """`average(call)` of a backend against the oracle."""

    def average(self, call: Call) -> Fused:
        return self.backend.average(call)

    def make(self, kind: str, models: int, classes: int, shape: tuple[int, ...], seed: int = 0):
        return make(kind, models, classes, shape, seed, self.device)

    def check(self, logits, weights, **options) -> Fused:
        call = check(logits, weights, **options)
        full = check(logits, weights, **{**options, "outputs": OUTPUTS})
        got = self.average(call)
        assert [name for name in OUTPUTS if name in got.asked()] == sorted(
            call.outputs, key=OUTPUTS.index
        )
        self.agree(got, average_naive.average(full, tile=WHOLE), call.multipliers)
        return got

    @pytest.mark.parametrize("outputs", [("labels",), OUTPUTS, ("group_means",)])
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("case", CASES)
    def test_shapes_and_kinds(self, kind, case, outputs):
        classes, pixels, models = case
        logits, values = self.make(kind, models, classes, (pixels,))
        options = {"values": values, "temperatures": [0.5 + 0.4 * (m % 4) for m in range(models)]}
        if outputs != ("labels",):
            options["groups"] = [list(range(k, models, 2)) for k in range(min(2, models))]
        number = len(options.get("groups", logits))
        weights = [0.0 if k == 1 else 1.0 + 0.4 * k for k in range(number)]
        self.check(logits, weights, outputs=outputs, **options)

    def test_a_whole_map_of_many_tiles(self):
        logits, _ = self.make("float32", 3, 31, (25920,))
        self.check(logits, [1.0, 2.0, 3.0])

    def test_groups_of_mixed_kinds(self):
        logits, values = self.make("mixed", 8, 33, (5, 13))
        groups, temperatures = [[7, 0, 3], [1, 6, 5], [2, 4]], [9, 0.3, 9, 1, 9, 2, 5, 1.5]
        options = {"groups": groups, "temperatures": temperatures, "values": values}
        for outputs in (("labels",), OUTPUTS[:5], OUTPUTS):
            self.check(logits, [1, 3, 0.1], outputs=outputs, **options)

    @pytest.mark.parametrize("output", OUTPUTS)
    def test_every_output_alone(self, output):
        logits, values = self.make("mixed", 3, 11, (9, 7))
        self.check(logits, [1.0, 2.0, 3.0], values=values, outputs=(output,))

    def test_no_pixels(self):
        logits, _ = self.make("float16", 2, 5, (1, 4))
        got = self.average(check([z[:, :0] for z in logits], [1, 1], outputs=OUTPUTS))
        assert got.labels.shape == (0, 4)
        assert got.group_means.shape == (2, 5, 0, 4)

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_any_strides_are_read(self, layout):
        plain, values = self.make("mixed", 5, 12, (3, 6, 8))
        strided, before = [LAYOUTS[layout](t) for t in plain], [t.clone() for t in plain]
        options = {"values": values, "outputs": SOME}
        got = self.check(strided, [1, 2, 3, 4, 5], **options)
        again = self.check([t.contiguous() for t in strided], [1, 2, 3, 4, 5], **options)
        assert torch.equal(got.probabilities, again.probabilities)
        self.check([strided[0], plain[1], strided[2], plain[3]], [1, 2, 3, 4], outputs=SOME)
        assert all(torch.equal(*pair) for pair in zip(plain, before, strict=True))

    def test_deep_and_odd_views(self):
        logits, _ = self.make("float16", 3, 4, (120,))
        deep = [t.unflatten(1, (2, 3, 4, 5)).permute(0, 4, 3, 2, 1) for t in logits]
        self.check(deep, [1, 1, 1], outputs=SOME)
        logits, values = self.make("mixed", 4, 17, (99,))
        self.check([t[:, 1:98] for t in logits], [1, 1, 1, 1], values=values)
        self.check([logits[0].flip(1), logits[2]], [1, 2])

    @pytest.mark.parametrize("axis", ["class", "pixel"])
    def test_strides_beyond_31_bits(self, axis):
        """Only the touched pages of this memory exist; an offset in int32 would leave it."""
        far = 2**31 + 64
        memory = torch.empty(far + 4096, dtype=torch.uint8, device=self.device)
        strides = (far, 64, 1) if axis == "class" else (64, far, 1)
        view = memory.as_strided((2, 2, 64), strides)
        view.copy_(self.make("codes", 1, 2, (2, 64))[0][0])
        self.check([view], [1.0], outputs=("labels", "probabilities"))

    @pytest.mark.parametrize("weights", [(1.0, 1.0, 2.0), (1.0, 0.0, 1.0), (1e-8, 1.0, 0.5)])
    @pytest.mark.parametrize(
        "outputs", [OUTPUTS, SOME[:2], ("labels",)], ids=["groups", "sum", "labels"]
    )
    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("value", VALUES)
    def test_values(self, value, dtype, outputs, weights):
        logits = [VALUES[value](z).to(dtype) for z in self.make("float32", 3, 9, (200,), seed=1)[0]]
        got = self.check(logits, weights, outputs=outputs)
        if value == "constant":
            assert not got.labels.any()
        if value == "a tile dead":
            assert got.labels[:40].eq(255).all()

    @pytest.mark.parametrize("outputs", [("labels",), OUTPUTS[:5], OUTPUTS])
    @pytest.mark.parametrize("kind", ["codes", "float16", "mixed"])
    def test_multipliers_decide_labels_alone(self, kind, outputs):
        logits, values = self.make(kind, 4, 19, (7, 31))
        options = {"values": values, "outputs": outputs, "groups": [[0, 2], [1], [3]]}
        plain = self.check(logits, [1, 2, 0.5], **options)
        ones = self.check(logits, [1, 2, 0.5], multipliers=[3.0] * 19, **options)
        assert all(
            torch.equal(*pair)
            for pair in zip(plain.asked().values(), ones.asked().values(), strict=True)
        )
        raised = [1 + 3 * (c % 4) for c in range(19)]
        got = self.check(logits, [1, 2, 0.5], multipliers=raised, **options)
        assert not torch.equal(got.labels, plain.labels)
        for name in got.asked().keys() - {"labels"}:
            assert torch.equal(getattr(got, name), getattr(plain, name))

    def test_constant_codes_are_the_lowest_class(self):
        codes = torch.ones(5, 63, dtype=torch.uint8, device=self.device)
        codes[0] = 0
        assert not self.check([codes, codes], [1, 1]).labels.any()

    def test_undefined_labels_beyond_255_classes(self):
        (logits,), _ = self.make("float32", 1, 256, (7,))
        logits[:, 3] = math.nan
        assert self.check([logits], [1]).labels.to(torch.int64)[3] == 65535

    def test_nan_in_one_class_of_a_probability_map(self):
        p = torch.full((3, 130), 0.25, device=self.device)
        p[1, 3:90] = torch.nan
        outputs = ("labels", "confidence", "margin", "probabilities", "entropy")
        got = self.check([p, p + 0.1], [1, 1], values="probabilities", outputs=outputs)
        assert (got.labels == 255).sum() == 87

    @pytest.mark.parametrize("weights", [[0, 1, 0], [1, 1e-8, 1], [0, 0.2, 0.8]], ids=str)
    @pytest.mark.parametrize("outputs", [OUTPUTS[:2], OUTPUTS], ids=["sum", "groups"])
    def test_a_group_of_weight_zero_is_not_looked_at(self, weights, outputs):
        """Not even where it is NaN."""
        logits, _ = self.make("float16", 4, 13, (64,))
        if weights[0] == 0:
            logits[0] = torch.full_like(logits[0], math.nan)
        got = self.check(logits, weights, groups=[[0], [1, 3], [2]], outputs=outputs)
        assert not got.probabilities.isnan().any()

    @pytest.mark.parametrize(("classes", "pixels"), [(3, 65), (33, 1023), (250, 63)])
    def test_outputs_are_written_whole_and_nothing_beside_them(self, poisoned, classes, pixels):
        logits, values = self.make("mixed", 4, classes, (pixels,))
        self.average(check(logits, [1, 2, 3, 4], values=values, outputs=OUTPUTS))

    def test_ten_runs_are_bit_equal(self):
        logits, values = self.make("mixed", 5, 19, (129,))
        call = check(logits, [1, 2, 3, 4, 5], values=values, outputs=OUTPUTS)
        first, *others = [self.average(call).asked() for _ in range(10)]
        for other in others:
            assert all(torch.equal(first[name], other[name]) for name in OUTPUTS)

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_error_is_at_most_twice_that_of_torch(self, dtype):
        logits = [z.to(dtype) for z in self.make("float32", 7, 124, (257,))[0]]
        exact = sum(torch.softmax(z.double(), 0) for z in logits) / 7
        plain = torch.stack([torch.softmax(z.float(), 0) for z in logits]).mean(0)
        got = self.average(check(logits, [1.0] * 7, outputs=("probabilities",))).probabilities
        assert (got - exact).abs().max() <= 2 * (plain - exact).abs().max()


class Frames:
    """What an `upsample` of many frames owes: the very numbers of each frame alone."""

    def frames(self, count: int, outputs, **options) -> None:
        made = [self.make("mixed", 4, 5, [(3, 4), (5, 2), (3, 4)], seed=t) for t in range(count)]
        options |= {"values": made[0][1], "groups": [[0, 3], [1, 2]], "rows": (1, 8)}
        options |= {"outputs": outputs}
        maps = zip(*(logits for logits, _ in made), strict=True)
        stacked = [torch.stack(some, dim=1) for some in maps]
        together = self.upsample(check_upsampling(stacked, [1, 2], (9, 7), **options))
        for t, (logits, _) in enumerate(made):
            alone = self.upsample(check_upsampling(logits, [1, 2], (9, 7), **options))
            for name, tensor in alone.asked().items():
                got = getattr(together, name)[..., t, :, :]
                room = 2e-5 if name == "entropy" else 0
                torch.testing.assert_close(got, tensor, rtol=0, atol=room, equal_nan=True, msg=name)

    @pytest.mark.parametrize("shape", [(3, 0, 4, 5), (3, 2, 0, 5)])
    def test_no_frames(self, shape):
        maps = [torch.zeros(shape, device=self.device)]
        if 0 in shape[2:]:
            with pytest.raises(ValueError, match="with h and w above 0"):
                check_upsampling(maps, [1], (8, 8))
            return
        assert self.upsample(check_upsampling(maps, [1], (8, 8))).labels.shape == (0, 8, 8)


class UpsampleContract(Frames, Agreement):
    """`upsample(call)` of a backend against the oracle."""

    @pytest.mark.parametrize("outputs", [OUTPUTS, ("labels",)], ids=["all", "labels"])
    @pytest.mark.parametrize("resize", RESIZES)
    def test_frames_at_once_are_those_alone(self, resize, outputs):
        self.frames(3, outputs, resize=resize)

    def upsample(self, call: Upsampling) -> Fused:
        return self.backend.upsample(call)

    def make(self, kind: str, models: int, classes: int, shapes, seed: int = 0):
        """As `make`, of several shapes in turn."""
        made = [
            make(kind, m + 1, classes, shapes[m % len(shapes)], seed, self.device)
            for m in range(models)
        ]
        return [z[-1] for z, _ in made], [v[-1] for _, v in made]

    def check(self, logits, weights, size, **options) -> Fused:
        full = check_upsampling(logits, weights, size, **{**options, "outputs": OUTPUTS})
        call = check_upsampling(logits, weights, size, **options)
        got = self.upsample(call)
        self.agree(got, upsample_naive.upsample(full, band=WHOLE), call.multipliers)
        return got

    @pytest.mark.parametrize("outputs", [OUTPUTS, ("labels",)], ids=["all", "labels"])
    @pytest.mark.parametrize("resize", RESIZES)
    @pytest.mark.parametrize("name", SIZES)
    def test_sizes(self, name, resize, outputs):
        shapes, size = SIZES[name]
        logits, values = self.make("mixed", 5, 11, shapes)
        options = {"groups": [[0, 4, 1], [2], [3]], "temperatures": [1.0, 0.4, 2.0, 1.0, 3.0]}
        options |= {"values": values, "resize": resize, "outputs": outputs}
        whole = outputs == OUTPUTS
        rows = None if whole else (1, size[0] - 1)
        self.check(logits, [1, 2 if whole else 0, 0.5], size, rows=rows, **options)

    @pytest.mark.parametrize(("rows", "outputs"), [((1, 4), OUTPUTS), ((3, 6), ("labels",))])
    @pytest.mark.parametrize("resize", RESIZES)
    @pytest.mark.parametrize("kind", KINDS)
    def test_kinds(self, kind, resize, rows, outputs):
        shapes, size = SIZES["two resolutions"]
        logits, values = self.make(kind, 3, 7, shapes)
        options = {"groups": [[1], [2, 0]], "values": values, "resize": resize}
        self.check(logits, [1, 1.4], size, rows=rows, outputs=outputs, **options)

    @pytest.mark.parametrize("outputs", [OUTPUTS[:5], ("labels",)], ids=["five", "labels"])
    @pytest.mark.parametrize("resize", RESIZES)
    @pytest.mark.parametrize("classes", [1, 2, 124, 256, 257, 1000])
    def test_class_counts(self, classes, resize, outputs):
        logits, values = self.make("mixed", 2, classes, [(3, 4)])
        self.check(logits, [1, 2], (4, 7), values=values, resize=resize, outputs=outputs)

    @pytest.mark.parametrize(
        ("weights", "outputs"), [((1, 2), OUTPUTS), ((1, 2), SOME[:1]), ((1, 0), SOME[:1])]
    )
    @pytest.mark.parametrize("resize", RESIZES)
    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("value", VALUES)
    def test_values(self, value, dtype, resize, weights, outputs):
        plain, _ = self.make("float32", 2, 9, [(6, 9)], seed=1)
        logits = [VALUES[value](z.flatten(1)).to(dtype).view(z.shape) for z in plain]
        self.check(logits, weights, (7, 20), rows=(1, 5), resize=resize, outputs=outputs)

    @pytest.mark.parametrize("outputs", [OUTPUTS, ("labels",)], ids=["all", "labels"])
    @pytest.mark.parametrize("resize", RESIZES)
    @pytest.mark.parametrize("kind", ["codes", "float32"])
    def test_multipliers(self, kind, resize, outputs):
        logits, values = self.make(kind, 3, 11, [(7, 9)])
        options = {"groups": [[1], [2, 0]], "values": values, "resize": resize}
        options |= {"outputs": outputs, "rows": (1, 25)}
        plain = self.check(logits, [1, 1.4], (28, 33), **options)
        for multipliers in ([1 + c % 3 for c in range(11)], [2.0**-c for c in range(11)]):
            got = self.check(logits, [1, 1.4], (28, 33), multipliers=multipliers, **options)
            assert not torch.equal(got.labels, plain.labels)

    @pytest.mark.parametrize("layout", ["channels last", "sparse"])
    @pytest.mark.parametrize("outputs", [SOME, ("labels",)], ids=["some", "labels"])
    @pytest.mark.parametrize("resize", RESIZES)
    def test_strides(self, resize, outputs, layout):
        logits, values = self.make("mixed", 5, 6, [(6, 9)])
        if layout == "sparse":
            logits = [t[:, ::2, ::3] for t in logits[:3]] + [t.transpose(1, 2) for t in logits[3:]]
        else:
            logits = [t.movedim(0, -1).contiguous().movedim(-1, 0) for t in logits]
        options = {"values": values, "resize": resize, "outputs": outputs}
        self.check(logits, [1, 1, 1, 2, 2], (7, 11), **options)

    @pytest.mark.parametrize("resize", RESIZES)
    def test_maps_of_the_label_size_are_not_blurred_by_undefined_neighbours(self, resize):
        logits, _ = self.make("float16", 2, 4, [(6, 9)])
        logits[0][:, 2, 4] = math.nan
        labels = self.check(logits, [1, 1], (6, 9), resize=resize).labels
        assert (labels == 255).nonzero().tolist() == [[2, 4]]

    @pytest.mark.parametrize("resize", RESIZES)
    @pytest.mark.parametrize("outputs", [OUTPUTS, ("labels",)], ids=["all", "labels"])
    def test_outputs_are_written_whole_and_nothing_beside_them(self, poisoned, resize, outputs):
        logits, values = self.make("mixed", 4, 11, [(7, 9)])
        options = {"values": values, "resize": resize, "rows": (2, 11), "outputs": outputs}
        self.upsample(check_upsampling(logits, [1, 2, 3, 4], (12, 20), **options))

    def test_no_rows(self):
        logits, _ = self.make("float16", 1, 3, [(4, 4)])
        got = self.upsample(check_upsampling(logits, [1], (8, 8), rows=(5, 5), outputs=OUTPUTS))
        assert got.labels.shape == (0, 8)
        assert got.group_means.shape == (1, 3, 0, 8)
