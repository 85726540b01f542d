"""The Triton kernels against kernels/reference.py and float64: cases that run interpreted, or unchanged on a real GPU.

test_triton_interpreter.py runs this file in a process of its own with TRITON_INTERPRET=1; on a machine with a GPU also
`pytest tests/kernels/triton_cases.py`.
"""

from __future__ import annotations

import itertools
import math
import os

import numpy as np
import pytest
import torch

triton_average = pytest.importorskip("fusion.kernels.average.triton")
from fusion.kernels import arithmetic as reference
from fusion.kernels import tiles as triton_terms
from fusion.kernels.arithmetic import OUTPUTS, Fused  # noqa: E402
from fusion.kernels.confusion import triton as triton_confusion
from fusion.kernels.upsample import triton as triton_upsample

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
FLOATS = (torch.float16, torch.bfloat16, torch.float32)
DTYPES = (*FLOATS, torch.uint8)
CLASSES = (1, 2, 3, 31, 32, 33, 124, 127, 128, 129, 150, 255, 256, 257, 1000)
PIXELS = (1, 7, 63, 64, 65, 1023)
CLOSE = 1e-6  # where the twin's best two scores are nearer than this, either label is right


pytestmark = pytest.mark.filterwarnings(
    "ignore:All-NaN slice encountered:RuntimeWarning"
)  # NumPy's, where it interprets a maximum


@pytest.fixture(autouse=True)
def silent_nan():
    """NumPy, which interprets the kernels, warns of the NaN and the overflow that a GPU computes in silence."""
    with np.errstate(invalid="ignore", over="ignore"):
        yield


def made_logits(
    classes: int, shape: tuple[int, ...], dtype: torch.dtype, seed: int
) -> torch.Tensor:
    """Random logits; uint8: valid gap codes, 0 at the lowest best class and nowhere else."""
    z = torch.randn(classes, *shape, generator=torch.Generator().manual_seed(seed)) * 4
    if dtype != torch.uint8:
        return z.to(dtype).to(DEVICE)
    codes = (255 * ((z.amax(0) - z).clamp(max=24) / 24).sqrt()).round().clamp(min=1)
    return codes.scatter(0, z.argmax(0, keepdim=True), 0).to(torch.uint8).to(DEVICE)


def models(count: int, classes: int, shape: tuple[int, ...], dtypes=DTYPES) -> list[torch.Tensor]:
    return [made_logits(classes, shape, dtypes[m % len(dtypes)], seed=m) for m in range(count)]


def assert_agree(got: Fused, expected: Fused, tolerance: float = 5e-7) -> None:
    """Labels equal but for near ties; everything else within some roundings, NaN at the same places. Needs probabilities."""
    scores = expected.probabilities.nan_to_num()
    if got.labels is not None:
        best = scores.sort(dim=0, descending=True).values
        clear = (
            best[0] - best[1] >= CLOSE
            if len(best) > 1
            else torch.ones_like(best[0], dtype=torch.bool)
        )
        clear |= expected.probabilities.isnan().any(dim=0)
        assert got.labels.dtype == expected.labels.dtype
        differ = got.labels.to(torch.int64) != expected.labels.to(torch.int64)
        assert not (differ & clear).any(), (differ & clear).nonzero()
    for name in set(OUTPUTS) - {"labels"}:
        ours, theirs = getattr(got, name), getattr(expected, name)
        if ours is not None:
            room = tolerance * (math.log(len(scores)) + 4 if name == "entropy" else 1)
            torch.testing.assert_close(ours, theirs, rtol=room, atol=room, equal_nan=True)


def check(logits, weights, **options) -> Fused:
    expected = reference.softmax_average(logits, weights, **{**options, "outputs": OUTPUTS})
    got = triton_average.softmax_average(logits, weights, **options)
    assert_agree(got, expected)
    return got


# Shapes and dtypes


@pytest.mark.parametrize(
    ("classes", "pixels"), [(c, PIXELS[i % len(PIXELS)]) for i, c in enumerate(CLASSES)]
)
@pytest.mark.parametrize("together", [False, True], ids=["sum", "groups"])
def test_every_class_count(classes, pixels, together):
    logits = models(5, classes, (pixels,))
    check(
        logits[1:] + logits[:1],
        [0.5, 2.0, 1.0],
        groups=[[0, 3], [1], [2, 4]],
        outputs=OUTPUTS if together else OUTPUTS[:5],
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("count", "pixels"), [(1, 1023), (2, 65), (3, 64), (17, 63), (22, 7)])
def test_every_dtype_and_model_count(dtype, count, pixels):
    check(
        models(count, 19, (pixels,), [dtype]),
        [1.0 + m for m in range(count)],
        temperatures=[0.5 + 0.1 * m for m in range(count)],
    )


def test_a_whole_map_of_many_programs():
    check(models(3, 31, (25920,)), [1.0, 2.0, 3.0])


def test_mixed_kinds_temperatures_and_probabilities():
    logits = models(8, 33, (5, 13))
    for m in (0, 1, 2):
        logits[m] = torch.softmax(logits[m].float(), 0).to(logits[m].dtype)
    values = ["probabilities"] * 3 + ["logits"] * 5
    check(
        logits,
        [1, 3, 0.1],
        groups=[[7, 0, 3], [1, 6, 5], [2, 4]],
        temperatures=[9, 9, 9, 0.3, 1, 2, 5, 1.5],
        values=values,
        outputs=OUTPUTS,
    )


@pytest.mark.parametrize("outputs", [(name,) for name in OUTPUTS])
def test_every_output_alone(outputs):
    got = check(models(3, 11, (9, 7)), [1.0, 2.0, 3.0], outputs=outputs)
    assert [name for name in OUTPUTS if getattr(got, name) is not None] == list(outputs)


def test_no_pixels():
    got = triton_average.softmax_average(models(2, 5, (0, 4)), [1, 1], outputs=OUTPUTS)
    assert got.labels.shape == (0, 4)
    assert got.group_means.shape == (2, 5, 0, 4)


def test_too_many_classes_are_refused():
    with pytest.raises(ValueError, match="1025 classes"):
        triton_average.softmax_average(models(1, 1025, (1,), FLOATS), [1])


# Memory layouts


LAYOUTS = {
    "frames": lambda t: t.movedim(1, 0).contiguous().movedim(0, 1),  # [T, C, H, W] in memory
    "transposed": lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
    "channels last": lambda t: t.movedim(0, -1).contiguous().movedim(-1, 0),
    "cropped": lambda t: torch.nn.functional.pad(t, (3, 2, 1, 4, 1, 1))[:, 1:-1, 1:-4, 3:-2],
    "every second": lambda t: torch.stack([t, t + 1], dim=-1).flatten(-2)[..., ::2],
    "reversed classes": lambda t: torch.cat([t, t]).as_strided(t.shape, t.stride(), t.stride(0)),
    "expanded": lambda t: t[:, :1].expand(t.shape),
    "permuted deep": lambda t: (
        t.unflatten(3, (2, 4)).permute(0, 4, 2, 3, 1).contiguous().permute(0, 4, 2, 3, 1).flatten(3)
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_strides_are_read_in_place(layout):
    plain = models(4, 12, (3, 6, 8))
    strided = [LAYOUTS[layout](t) for t in plain]
    got = check(strided, [1, 2, 3, 4], outputs=("labels", "probabilities"))
    again = check(
        [t.contiguous() for t in strided], [1, 2, 3, 4], outputs=("labels", "probabilities")
    )
    assert torch.equal(got.probabilities, again.probabilities)
    check([strided[0], plain[1], strided[2], plain[3]], [1, 2, 3, 4])


def test_more_than_three_pixel_axes_are_copied():
    check(
        [t.unflatten(1, (2, 3, 4, 5)).permute(0, 4, 3, 2, 1) for t in models(3, 4, (120,))],
        [1, 1, 1],
    )


def test_slices_at_odd_addresses():
    check([t[:, 1:98] for t in models(4, 17, (99,))], [1, 1, 1, 1])


@pytest.mark.parametrize("axis", ["class", "pixel"])
def test_strides_beyond_31_bits(axis):
    """Only the touched pages of this memory exist; an offset in int32 would leave it."""
    stride = 2**31 + 64
    memory = torch.empty(stride + 4096, dtype=torch.uint8, device=DEVICE)
    view = memory.as_strided((2, 2, 64), (stride, 64, 1) if axis == "class" else (64, stride, 1))
    view.copy_(made_logits(2, (2, 64), torch.uint8, seed=1))
    check([view], [1.0], outputs=("labels", "probabilities"))


# Values


VALUES = {
    "constant": lambda z: torch.full_like(z, 3.0),
    "exact ties": lambda z: z.round().clamp(0, 1),
    "largest": lambda z: torch.where(z > 0, 65504.0, -65504.0).to(z.dtype),
    "one class dead": lambda z: z.index_fill(0, torch.tensor([2], device=z.device), -math.inf),
    "all but one dead": lambda z: torch.full_like(z, -math.inf).index_copy(
        0, torch.tensor([4], device=z.device), z[4:5]
    ),
    "a tile dead": lambda z: z.masked_fill(
        (torch.arange(z.shape[1], device=z.device) < 40)[None, :], -math.inf
    ),
    "a pixel dead": lambda z: z.masked_fill(
        (torch.arange(z.shape[1], device=z.device) == 22)[None, :], -math.inf
    ),
    "a pixel NaN": lambda z: z.masked_fill(
        (torch.arange(z.shape[1], device=z.device) == 3)[None, :], math.nan
    ),
    "one value NaN": lambda z: torch.cat([z[:2], z[2:3].masked_fill(z[2:3] > 3, math.nan), z[3:]]),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("value", VALUES)
def test_values(value, dtype):
    logits = [VALUES[value](z) for z in models(3, 9, (65,), [dtype])]
    got = check(logits, [1.0, 1.0, 2.0], outputs=OUTPUTS)
    if value == "constant":
        assert not got.labels.any()
    if value == "a tile dead":
        assert got.labels[:40].eq(255).all()


def test_constant_codes_are_the_lowest_class():
    codes = torch.ones(5, 63, dtype=torch.uint8, device=DEVICE).index_fill(
        0, torch.tensor([0], device=DEVICE), 0
    )
    assert not check([codes, codes], [1, 1]).labels.any()


def test_undefined_labels_beyond_255_classes():
    logits = models(1, 256, (7,), [torch.float32])
    logits[0][:, 3] = math.nan
    assert check(logits, [1]).labels.to(torch.int64)[3] == 65535


def test_probabilities_with_nan():
    p = torch.softmax(made_logits(6, (64,), torch.float32, 0), 0)
    p[2, 5] = math.nan
    got = check([p], [1.0], values="probabilities", outputs=OUTPUTS)
    assert got.labels[5] == 255


@pytest.mark.parametrize("weights", [[0, 1, 0], [1, 1e-8, 1], [0, 0.2, 0.8]], ids=str)
@pytest.mark.parametrize("outputs", [OUTPUTS[:2], OUTPUTS], ids=["sum", "groups"])
def test_weights(weights, outputs):
    """A group of weight 0 is not looked at, not even where it is NaN."""
    logits = models(4, 13, (64,))
    if weights[0] == 0:
        logits[0] = torch.full_like(logits[0], math.nan)
    check(logits, weights, groups=[[0], [1, 3], [2]], outputs=outputs)


# Memory around the outputs, repetition, error


POISON = 251  # no class of these tests


@pytest.fixture
def poisoned(monkeypatch):
    """Outputs inside larger arrays full of poison; afterwards every output is overwritten and nothing around it."""
    arrays = []

    def surrounded(*shape, dtype, device):
        poison = math.nan if dtype == torch.float32 else POISON
        count = math.prod(shape[0] if isinstance(shape[0], tuple) else shape)
        whole = torch.tensor([poison], device=device).to(dtype).repeat(count + 128)
        arrays.append((whole, count))
        return whole[64 : 64 + count].view(shape[0] if isinstance(shape[0], tuple) else shape)

    monkeypatch.setattr(triton_terms.torch, "empty", surrounded)
    return arrays


def assert_canaries_live(arrays) -> None:
    assert arrays
    for whole, count in arrays:
        around = torch.cat([whole[:64].to(torch.float32), whole[64 + count :].to(torch.float32)])
        inside = whole[64 : 64 + count].to(torch.float32)
        poison = around.isnan() if whole.dtype == torch.float32 else around == POISON
        assert poison.all()
        assert not (inside.isnan() if whole.dtype == torch.float32 else inside == POISON).any()


@pytest.mark.parametrize(("classes", "pixels"), [(3, 65), (33, 1023), (250, 63)])
def test_outputs_are_written_in_full_and_nothing_else(poisoned, classes, pixels):
    triton_average.softmax_average(models(3, classes, (pixels,)), [1, 2, 3], outputs=OUTPUTS)
    assert_canaries_live(poisoned)


@pytest.mark.parametrize("resize", ["logits", "probabilities"])
def test_upsampled_outputs_are_written_in_full_and_nothing_else(poisoned, resize):
    logits = models(3, 11, (5, 7))
    triton_upsample.upsample_softmax_average(
        logits, [1, 2, 3], (13, 22), resize=resize, rows=(2, 11), outputs=OUTPUTS
    )
    assert_canaries_live(poisoned)


def test_ten_runs_are_bit_equal():
    logits = models(5, 19, (129,))
    first, *others = [
        triton_average.softmax_average(logits, [1, 2, 3, 4, 5], outputs=OUTPUTS) for _ in range(10)
    ]
    for other, name in itertools.product(others, OUTPUTS):
        assert torch.equal(getattr(first, name), getattr(other, name))


@pytest.mark.parametrize("dtype", FLOATS)
def test_error_is_at_most_twice_that_of_torch(dtype):
    logits = models(7, 124, (257,), [dtype])
    exact = sum(torch.softmax(z.double(), 0) for z in logits) / 7
    torch_error = (
        (torch.stack([torch.softmax(z.float(), 0) for z in logits]).mean(0) - exact).abs().max()
    )
    error = (
        (
            triton_average.softmax_average(
                logits, [1.0] * 7, outputs=("probabilities",)
            ).probabilities
            - exact
        )
        .abs()
        .max()
    )
    assert error <= 2 * torch_error


# Upsampling


def check_upsampled(logits, weights, size, **options) -> Fused:
    expected = reference.upsample_softmax_average(
        logits, weights, size, **{**options, "outputs": OUTPUTS}
    )
    got = triton_upsample.upsample_softmax_average(logits, weights, size, **options)
    assert_agree(got, expected)
    return got


SIZES = {
    "four times": ([(3, 8)], (12, 32)),
    "odd": ([(4, 11)], (13, 43)),
    "same": ([(5, 10)], (5, 10)),
    "one axis": ([(5, 10)], (11, 10)),
    "smaller": ([(13, 14)], (6, 5)),
    "single pixel": ([(1, 1)], (3, 4)),
    "mixed": ([(3, 8), (2, 4), (10, 32), (7, 5)], (10, 32)),
}


@pytest.mark.parametrize("resize", ["logits", "probabilities"])
@pytest.mark.parametrize("name", SIZES)
def test_upsampling(name, resize):
    shapes, size = SIZES[name]
    logits = [made_logits(11, shapes[m % len(shapes)], DTYPES[m % 4], seed=m) for m in range(5)]
    groups = [[0, 4, 1], [2], [3]]
    temperatures = [1.0, 0.4, 2.0, 1.0, 3.0]
    check_upsampled(
        logits,
        [1, 2, 0.5],
        size,
        groups=groups,
        temperatures=temperatures,
        resize=resize,
        outputs=OUTPUTS,
    )
    check_upsampled(
        logits,
        [1, 0, 0.5],
        size,
        groups=groups,
        temperatures=temperatures,
        resize=resize,
        rows=(1, size[0] - 1),
    )


@pytest.mark.parametrize("resize", ["logits", "probabilities"])
@pytest.mark.parametrize("classes", [1, 2, 124, 256, 1000])
def test_upsampling_class_counts(classes, resize):
    check_upsampled(
        models(2, classes, (3, 4), [torch.float16, torch.uint8]),
        [1, 2],
        (7, 9),
        resize=resize,
        outputs=OUTPUTS[:5],
    )


@pytest.mark.parametrize("resize", ["logits", "probabilities"])
@pytest.mark.parametrize("value", VALUES)
def test_upsampling_values(value, resize):
    logits = [
        VALUES[value](z.reshape(9, -1)).reshape(z.shape)
        for z in models(2, 9, (6, 9), [torch.float16])
    ]
    check_upsampled(logits, [1.0, 2.0], (10, 34), resize=resize, outputs=OUTPUTS)


@pytest.mark.parametrize("resize", ["logits", "probabilities"])
def test_upsampling_probabilities_and_strides(resize):
    logits = models(3, 6, (5, 8), FLOATS)
    logits[2] = torch.softmax(logits[2], 0)
    logits = [t.movedim(0, -1).contiguous().movedim(-1, 0) for t in logits]
    check_upsampled(
        logits, [1, 1, 1], (11, 32), values=["logits", "logits", "probabilities"], resize=resize
    )


@pytest.mark.parametrize("resize", ["logits", "probabilities"])
def test_maps_of_the_label_size_are_not_blurred_by_undefined_neighbours(resize):
    logits = models(2, 4, (6, 9), [torch.float16])
    logits[0][:, 2, 4] = math.nan
    labels = check_upsampled(logits, [1, 1], (6, 9), resize=resize).labels
    assert (labels == 255).nonzero().tolist() == [[2, 4]]


def test_bands_of_native_sums_are_the_whole(monkeypatch):
    logits = models(4, 5, (9, 7))
    heights = []

    def recorded(logits, *arguments, **options) -> Fused:
        heights.append(logits[0].shape[1])
        return triton_average.softmax_average(logits, *arguments, **options)

    monkeypatch.setattr(triton_upsample, "softmax_average", recorded)
    whole = triton_upsample.upsample_softmax_average(
        logits, [1, 2, 3, 4], (16, 22), outputs=OUTPUTS
    )
    monkeypatch.setattr(triton_upsample, "BAND_BYTES", 4 * 4 * 5 * 7 * 3)  # three native rows
    banded = triton_upsample.upsample_softmax_average(
        logits, [1, 2, 3, 4], (16, 22), outputs=OUTPUTS
    )
    for name in OUTPUTS:
        assert torch.equal(getattr(whole, name), getattr(banded, name))
    assert max(heights) == 9
    assert max(heights[4:]) <= 5  # the band and its neighbours


def test_no_rows():
    got = triton_upsample.upsample_softmax_average(
        models(1, 3, (4, 4)), [1], (8, 8), rows=(5, 5), outputs=OUTPUTS
    )
    assert got.labels.shape == (0, 8)


# Confusion


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.uint16, torch.int16, torch.int32, torch.int64]
)
@pytest.mark.parametrize(("classes", "pixels"), [(1, 1), (2, 4097), (11, 25920), (124, 1023)])
def test_confusion(classes, pixels, dtype):
    generator = torch.Generator().manual_seed(pixels)
    targets = torch.randint(0, classes + 1, (pixels,), generator=generator)
    targets = torch.where(targets == classes, 255, targets).to(dtype).to(DEVICE)
    labels = torch.randint(0, classes, (pixels,), generator=generator).to(dtype).to(DEVICE)
    counts = triton_confusion.confusion(targets, labels, classes)
    assert counts.dtype == torch.int64
    assert torch.equal(counts, reference.confusion(targets, labels, classes))


def test_confusion_many_classes_void_and_strides():
    targets = torch.arange(4000, dtype=torch.int32, device=DEVICE).reshape(50, 80).T % 1000
    labels = targets.flip(0)
    assert torch.equal(
        triton_confusion.confusion(targets, labels, 1000, ignore=7),
        reference.confusion(targets, labels, 1000, ignore=7),
    )
    assert not triton_confusion.confusion(
        torch.full_like(labels, 7), labels + 5000, 1000, ignore=7
    ).any()
    assert triton_confusion.confusion(targets[:0], labels[:0], 3).shape == (3, 3)


@pytest.mark.parametrize(("target", "label"), [(5, 0), (0, 5), (-1, 0), (0, -1), (255, 255)])
def test_confusion_refuses_what_is_outside(target, label):
    targets = torch.tensor([0] * 5000 + [target], dtype=torch.int16, device=DEVICE)
    labels = torch.tensor([0] * 5000 + [label], dtype=torch.int16, device=DEVICE)
    with pytest.raises(ValueError, match=r"all must be in 0\.\.4"):
        triton_confusion.confusion(targets, labels, 5, ignore=254)


def test_confusion_writes_nothing_for_what_is_outside():
    targets = torch.tensor([0, 1, 5, 2, -1, 9], dtype=torch.int16, device=DEVICE)
    labels = torch.tensor([0, 1, 0, 7, 0, -3], dtype=torch.int16, device=DEVICE)
    counts = torch.zeros(3, 3, 3, dtype=torch.int64, device=DEVICE)
    outside = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    triton_confusion.confusion_kernel[(1,)](
        targets, labels, counts[1:2], outside, 6, 3, 255, COPIES=1, BLOCK_P=128
    )
    assert counts.nonzero().tolist() == [[1, 0, 0], [1, 1, 1]]
    assert outside.item() == 1
