"""What every backend of an average must do with independent channels: a test class names it.

    class TestCpuChannels(AverageChannels):
        backend = cpu

No step of their arithmetic crosses channels, so all backends have the oracle's bits, GPUs too.
"""

from __future__ import annotations

import math

import pytest
import torch

from fusion.kernels.arithmetic import CHANNEL_OUTPUTS, Fused
from fusion.kernels.average import naive as average_naive
from fusion.kernels.call import RESIZES, Call, Upsampling, check, check_upsampling
from fusion.kernels.upsample import naive as upsample_naive
from tests.kernels.contract import WHOLE, Agreement, Frames
from tests.kernels.inputs import FLOATS, KINDS, LAYOUTS, SIZES, VALUES, make

COUNTS = (1, 3, 8, 300)
ASKED = (CHANNEL_OUTPUTS, ("labels",), ("group_means",))
OWN = {  # of logits [C, P] whose first pixels are common ones
    "halves": lambda z: z.round().clamp(-1, 1),
    "all zero": lambda z: torch.where(z > 0, 0.0, -0.0),
    "far apart": lambda z: z * 1e6,
}


class AverageChannels(Agreement):
    """`average(call)` of a backend against the oracle."""

    def average(self, call: Call) -> Fused:
        return self.backend.average(call)

    def make(self, kind: str, models: int, classes: int, shape: tuple[int, ...], seed: int = 0):
        return make(kind, models, classes, shape, seed, self.device, channels=True)

    def check(self, logits, weights, **options) -> Fused:
        call = check(logits, weights, channels=True, **options)
        got = self.average(call)
        assert got.asked().keys() == set(call.outputs)
        self.agree(got, average_naive.average(call, tile=WHOLE))
        return got

    @pytest.mark.parametrize("outputs", ASKED, ids=["all", "labels", "means"])
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(("classes", "pixels"), [(1, 1023), (3, 65), (8, 64), (300, 7)])
    def test_counts_and_kinds(self, classes, pixels, kind, outputs):
        """Members out of order, a group of weight 0, groups of one and of many."""
        logits, values = self.make(kind, 7, classes, (pixels,))
        options = {"values": values, "temperatures": [0.5 + 0.4 * (m % 4) for m in range(7)]}
        options |= {"groups": [[5, 0, 3, 6], [2], [4, 1]], "outputs": outputs}
        for multipliers in (None, [1.0 + k % 3 for k in range(2 * classes)]):
            self.check(logits, [1.0, 0.0, 1.4], multipliers=multipliers, **options)

    @pytest.mark.parametrize("kind", ["codes", "mixed"])
    def test_every_model_alone_over_many_tiles(self, kind):
        logits, values = self.make(kind, 6, 3, (2500, 2))
        options = {"values": values, "outputs": CHANNEL_OUTPUTS}
        for multipliers in (None, range(1, 7)):
            self.check(logits, [1, 2, 0.3, 1e-8, 5, 1], multipliers=multipliers, **options)

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_any_strides_are_read(self, layout):
        plain, values = self.make("mixed", 5, 12, (3, 6, 8))
        strided, before = [LAYOUTS[layout](t) for t in plain], [t.clone() for t in plain]
        options = {"values": values, "outputs": CHANNEL_OUTPUTS, "multipliers": range(1, 25)}
        got = self.check(strided, [1, 2, 3, 4, 5], **options)
        again = self.check([t.contiguous() for t in strided], [1, 2, 3, 4, 5], **options)
        assert all(torch.equal(getattr(got, name), getattr(again, name)) for name in got.asked())
        self.check([strided[0], plain[1], strided[2], plain[3]], [1, 2, 3, 4])
        assert all(torch.equal(*pair) for pair in zip(plain, before, strict=True))

    def test_crops_and_reversals(self):
        logits, values = self.make("mixed", 4, 7, (9, 11))
        self.check([t[:, 1:8, 2:] for t in logits], [1, 1, 1, 1], values=values)
        self.check([logits[0].flip(1), logits[2]], [1, 2])

    @pytest.mark.parametrize("axis", ["channel", "pixel"])
    def test_strides_beyond_31_bits(self, axis):
        far = 2**31 + 64
        memory = torch.empty(far + 4096, dtype=torch.uint8, device=self.device)
        view = memory.as_strided((2, 2, 64), (far, 64, 1) if axis == "channel" else (64, far, 1))
        view.copy_(self.make("codes", 1, 2, (2, 64))[0][0])
        self.check([view], [1.0], outputs=("labels", "probabilities"))

    @pytest.mark.parametrize("weights", [(1.0, 1.0, 2.0), (1.0, 0.0, 1.0), (1e-8, 1.0, 0.5)])
    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("value", {**VALUES, **OWN})
    def test_values(self, value, dtype, weights):
        change = {**VALUES, **OWN}[value]
        logits = [change(z).to(dtype) for z in self.make("float32", 3, 9, (200,), seed=1)[0]]
        got = self.check(logits, weights, outputs=CHANNEL_OUTPUTS)
        if value == "some NaN":
            assert (got.labels[3, 20:120] == 255).all()
            assert (got.labels == 255).sum() == 100  # other channels have not heard of it
        if value == "all zero":
            assert not got.labels.any()
            assert (got.probabilities == 0.5).all()
        if value == "some inf":
            assert (got.labels[3, 20:120] == 1).all()

    def test_every_angle_code(self):
        codes = torch.arange(256, dtype=torch.uint8, device=self.device)[None]
        for temperature in (1.0, 0.6, 3.0):
            options = {"temperatures": [temperature], "outputs": ("labels", "probabilities")}
            got = self.check([codes], [1], **options)
            assert got.labels[0].tolist() == [0] * 128 + [1] * 128
            assert (got.probabilities.diff() > 0).all()

    def test_multipliers_are_thresholds_of_labels_alone(self):
        logits, values = self.make("mixed", 4, 3, (7, 31))
        options = {"values": values, "outputs": CHANNEL_OUTPUTS, "groups": [[0, 2], [1], [3]]}
        plain = self.check(logits, [1, 2, 0.5], **options)
        ones = self.check(logits, [1, 2, 0.5], multipliers=[3.0] * 6, **options)
        assert torch.equal(ones.labels, plain.labels)
        levels = [0.1, 0.5, 0.875]
        pairs = [number for level in levels for number in (level, 1 - level)]
        got = self.check(logits, [1, 2, 0.5], multipliers=pairs, **options)
        for name in ("probabilities", "group_means"):
            assert torch.equal(getattr(got, name), getattr(plain, name))
        for c, level in enumerate(levels):
            clear = (got.probabilities[c] - level).abs() > 1e-6
            assert torch.equal(got.labels[c][clear] == 1, (got.probabilities[c] > level)[clear])
        assert not torch.equal(got.labels, plain.labels)

    def test_ties_of_probabilities_are_the_lower_class(self):
        p = torch.tensor([[0.25, 0.5, 0.75, 0.5]], device=self.device)
        options = {"values": "probabilities", "outputs": ("labels",)}
        assert self.check([p, 1 - p], [1, 1], **options).labels.tolist() == [[0] * 4]
        for thirds in ([1, 3], [3, 1]):  # F b_1 = N b_0 at 1/4 and at 3/4
            got = self.check([p], [1], multipliers=thirds, **options).labels
            assert got.tolist() == [[0, 1, 1, 1] if thirds == [1, 3] else [0] * 4]

    def test_a_group_of_weight_zero_is_not_looked_at(self):
        logits, _ = self.make("float16", 4, 5, (64,))
        logits[0] = torch.full_like(logits[0], math.nan)
        for outputs in (CHANNEL_OUTPUTS, CHANNEL_OUTPUTS[:2]):
            options = {"groups": [[0], [1, 3], [2]], "outputs": outputs}
            assert not self.check(logits, [0, 1, 2], **options).probabilities.isnan().any()

    @pytest.mark.parametrize(("classes", "pixels"), [(1, 1023), (3, 65), (250, 63)])
    def test_outputs_are_written_whole_and_nothing_beside_them(self, poisoned, classes, pixels):
        logits, values = self.make("mixed", 4, classes, (pixels,))
        options = {"values": values, "outputs": CHANNEL_OUTPUTS, "channels": True}
        self.average(check(logits, [1, 2, 3, 4], **options))

    def test_no_pixels(self):
        logits, _ = self.make("float16", 2, 5, (1, 4))
        options = {"outputs": CHANNEL_OUTPUTS, "channels": True}
        got = self.average(check([z[:, :0] for z in logits], [1, 1], **options))
        assert got.labels.shape == got.probabilities.shape == (5, 0, 4)
        assert got.group_means.shape == (2, 5, 0, 4)

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_error_is_at_most_twice_that_of_torch(self, dtype):
        logits = [z.to(dtype) for z in self.make("float32", 7, 12, (257,))[0]]
        exact = sum(torch.sigmoid(z.double()) for z in logits) / 7
        plain = torch.stack([torch.sigmoid(z.float()) for z in logits]).mean(0)
        got = self.check(logits, [1.0] * 7, outputs=("probabilities",)).probabilities
        assert (got - exact).abs().max() <= 2 * (plain - exact).abs().max()


class UpsampleChannels(Frames, Agreement):
    """`upsample(call)` of a backend against the oracle."""

    @pytest.mark.parametrize("resize", RESIZES)
    def test_frames_at_once_are_those_alone(self, resize):
        self.frames(3, CHANNEL_OUTPUTS, resize=resize, channels=True)

    def upsample(self, call: Upsampling) -> Fused:
        return self.backend.upsample(call)

    def make(self, kind: str, models: int, classes: int, shapes, seed: int = 0):
        """As `make`, of several shapes in turn."""
        shaped = [(m + 1, classes, shapes[m % len(shapes)], seed) for m in range(models)]
        made = [make(kind, *given, self.device, channels=True) for given in shaped]
        return [z[-1] for z, _ in made], [v[-1] for _, v in made]

    def check(self, logits, weights, size, **options) -> Fused:
        call = check_upsampling(logits, weights, size, channels=True, **options)
        got = self.upsample(call)
        self.agree(got, upsample_naive.upsample(call, band=WHOLE))
        return got

    @pytest.mark.parametrize("outputs", ASKED[:2], ids=["all", "labels"])
    @pytest.mark.parametrize("resize", RESIZES)
    @pytest.mark.parametrize("name", SIZES)
    def test_sizes(self, name, resize, outputs):
        shapes, size = SIZES[name]
        logits, values = self.make("mixed", 5, 3, shapes)
        options = {"groups": [[0, 4, 1], [2], [3]], "temperatures": [1.0, 0.4, 2.0, 1.0, 3.0]}
        options |= {"values": values, "resize": resize, "outputs": outputs}
        whole = outputs == CHANNEL_OUTPUTS
        rows = None if whole else (1, size[0] - 1)
        self.check(logits, [1, 2 if whole else 0, 0.5], size, rows=rows, **options)

    @pytest.mark.parametrize("outputs", ASKED, ids=["all", "labels", "means"])
    @pytest.mark.parametrize("resize", RESIZES)
    @pytest.mark.parametrize("kind", KINDS)
    def test_kinds(self, kind, resize, outputs):
        shapes, size = SIZES["two resolutions"]
        logits, values = self.make(kind, 3, 4, shapes)
        options = {"groups": [[2, 1], [0]], "values": values, "resize": resize}
        for multipliers in (None, range(1, 9)):
            given = {**options, "outputs": outputs, "multipliers": multipliers}
            self.check(logits, [1, 1.4], size, rows=(1, 4), **given)

    @pytest.mark.parametrize("resize", RESIZES)
    @pytest.mark.parametrize("classes", COUNTS)
    def test_channel_counts(self, classes, resize):
        logits, values = self.make("mixed", 2, classes, [(3, 4)])
        options = {"values": values, "resize": resize, "outputs": ("labels", "probabilities")}
        self.check(logits, [1, 2], (4, 7), rows=(1, 2), **options)

    @pytest.mark.parametrize(("weights", "outputs"), [((1, 2), ASKED[0]), ((1, 0), ASKED[1])])
    @pytest.mark.parametrize("resize", RESIZES)
    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("value", {**VALUES, **OWN})
    def test_values(self, value, dtype, resize, weights, outputs):
        plain, _ = self.make("float32", 2, 9, [(6, 9)], seed=1)
        change = {**VALUES, **OWN}[value]
        logits = [change(z.flatten(1)).to(dtype).view(z.shape) for z in plain]
        options = {"resize": resize, "outputs": outputs, "rows": (1, 5)}
        got = self.check(logits, weights, (7, 20), **options)
        if value == "all zero":
            assert not got.labels.any()
        if value == "some NaN":
            assert got.labels[3].eq(255).any()
            assert not got.labels[[0, 1, 2, 4, 5, 6, 7, 8]].eq(255).any()

    @pytest.mark.parametrize("layout", ["channels last", "sparse"])
    @pytest.mark.parametrize("resize", RESIZES)
    def test_strides(self, resize, layout):
        logits, values = self.make("mixed", 5, 6, [(6, 9)])
        if layout == "sparse":
            logits = [t[:, ::2, ::3] for t in logits[:3]] + [t.transpose(1, 2) for t in logits[3:]]
        else:
            logits = [t.movedim(0, -1).contiguous().movedim(-1, 0) for t in logits]
        options = {"values": values, "resize": resize, "outputs": CHANNEL_OUTPUTS}
        self.check(logits, [1, 1, 1, 2, 2], (7, 11), **options)

    @pytest.mark.parametrize("resize", RESIZES)
    def test_maps_of_the_label_size_are_not_blurred_by_undefined_neighbours(self, resize):
        logits, _ = self.make("float16", 2, 4, [(6, 9)])
        logits[0][1, 2, 4] = math.nan
        labels = self.check(logits, [1, 1], (6, 9), resize=resize).labels
        assert (labels == 255).nonzero().tolist() == [[1, 2, 4]]

    @pytest.mark.parametrize("resize", RESIZES)
    def test_outputs_are_written_whole_and_nothing_beside_them(self, poisoned, resize):
        logits, values = self.make("mixed", 4, 3, [(7, 9)])
        options = {"values": values, "resize": resize, "rows": (2, 11), "channels": True}
        call = check_upsampling(logits, [1, 2, 3, 4], (12, 20), outputs=CHANNEL_OUTPUTS, **options)
        self.upsample(call)

    def test_no_rows(self):
        logits, _ = self.make("float16", 1, 3, [(4, 4)])
        options = {"rows": (5, 5), "outputs": CHANNEL_OUTPUTS, "channels": True}
        got = self.upsample(check_upsampling(logits, [1], (8, 8), **options))
        assert got.labels.shape == got.probabilities.shape == (3, 0, 8)
        assert got.group_means.shape == (1, 3, 0, 8)
