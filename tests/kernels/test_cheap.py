"""Labels from cheap arithmetic with a bound: near ties, numbers at its ends, and who may use it.

Each case has pixels that the bound must leave to the exact path, for the bits to be the oracle's.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.kernels.average import cpu as average_cpu
from fusion.kernels.average import naive as average_naive
from fusion.kernels.call import check, check_upsampling
from fusion.kernels.native import build
from fusion.kernels.upsample import cpu as upsample_cpu
from fusion.kernels.upsample import naive as upsample_naive
from fusion.kernels.upsample import strips
from tests.kernels.inputs import make

PIXELS = 3000  # a few tiles
SMALL = [0.0, *(s * 2.0**-k for k in range(6, 25) for s in (1, -1))]  # differences of logits


@pytest.fixture(autouse=True, scope="module")
def a_compiler():
    assert build.library() is not None, "these tests need a C compiler"


def near_ties(models: int, classes: int, pixels: int, seed: int = 0) -> list[torch.Tensor]:
    """float32 logits whose two best classes, any two, nearly tie: their difference in one model is
    the opposite of that in the next but for one of SMALL."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(models, classes, pixels, generator=generator)
    order = torch.rand(classes, pixels, generator=generator).argsort(0)[:2]
    small = torch.tensor(SMALL)[torch.arange(pixels) % len(SMALL)]
    top = 4 + torch.rand(pixels, generator=generator)
    for m in range(models):
        apart = 1.0 if models % 2 == 0 else 0.0
        apart = apart * (-1) ** m + (small if m == 0 else 0)
        logits[m].scatter_(0, order, torch.stack([top, top + apart]))
    return list(logits)


def same(logits, weights=None, **options) -> torch.Tensor:
    weights = [1.0] * len(options.get("groups", logits)) if weights is None else weights
    call = check(logits, weights, **options)
    made, expected = average_cpu.average(call).labels, average_naive.average(call).labels
    assert torch.equal(made, expected), (made != expected).nonzero()
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("models", "classes"), [(1, 2), (2, 5), (3, 33), (6, 11)])
def test_near_ties(models, classes, dtype):
    same([z.to(dtype) for z in near_ties(models, classes, PIXELS)])


@pytest.mark.parametrize("shift", [0, 30, -30, 80, -80, 87.5, -100, 5000, -5000, 60000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_logits_far_from_zero(dtype, shift):
    """Powers that overflow or vanish decide nothing."""
    same([(z + shift).to(dtype) for z in near_ties(2, 5, 300, seed=1)])
    logits, _ = make("float32", 2, 7, (300,))
    same([logits[0].to(dtype), (logits[1] + shift).to(dtype)])


@pytest.mark.parametrize("heat", [2.0**-64, 1e-6, 0.03, 40.0, 1e6, 1e19, 2.0**64])
@pytest.mark.parametrize("kind", ["float16", "float32", "codes"])
def test_temperatures(kind, heat):
    same(make(kind, 3, 9, (500,))[0], temperatures=[1.0, heat, heat])
    if kind == "float32":
        same(near_ties(2, 5, 500), temperatures=[heat, heat])


@pytest.mark.parametrize("weights", [(1, 1e-8, 1), (1, 1e-30, 1e-38), (1, 1e-300, 1), (0, 1, 1e-8)])
@pytest.mark.parametrize("kind", ["float32", "float16", "codes", "mixed"])
def test_weights(kind, weights):
    """A group of next to no weight decides where the others tie."""
    tied = torch.zeros(2, 9, 400)
    tied[:, 3::4] = 2.0
    other = make("float32", 1, 9, (400,))[0][0]
    logits = [tied[0], other, tied[1]]
    if kind == "codes":
        logits = [(z != 2.0).to(torch.uint8) * 90 for z in tied]
        logits.insert(1, make("codes", 1, 9, (400,))[0][0])
    elif kind == "float16":
        logits = [z.half() for z in logits]
    elif kind == "mixed":
        logits[1] = make("codes", 1, 9, (400,))[0][0]
    same(logits, weights)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_what_is_no_number_is_found_in_any_model_and_class(dtype, value):
    for m, c in itertools.product(range(3), (0, 4, 8)):
        logits = [z.to(dtype) for z in make("float32", 3, 9, (200,), seed=m)[0]]
        logits[m][c, 5::7] = value
        labels = same(logits, [1.0, 1e-8, 2.0])
        assert (labels == 255).any() == (value != -math.inf)
    logits[0][:, 30:90] = -math.inf
    assert same(logits)[30:90].eq(255).all()


def test_float32_nan_of_every_payload():
    bits = torch.tensor([0x7F800001, 0x7FC00000, 0x7FFFFFFF, 0x7F8001FF])
    for payload in [*bits.tolist(), 0xFF800001 - (1 << 32)]:
        logits = make("float32", 1, 4, (96,))[0][0]
        logits[2, ::3] = torch.tensor(payload, dtype=torch.int32).view(torch.float32)
        assert (same([logits]) == 255).sum() == 32


@pytest.mark.parametrize("kind", ["float32", "float16", "codes"])
def test_multipliers_that_bring_classes_near(kind):
    """Multipliers are chosen per picture so that two scores tie as nearly as they can."""
    logits, _ = make(kind, 2, 3, (640,))
    scores = average_naive.average(check(logits, [1, 1], outputs=("probabilities",))).probabilities
    for pixel in range(0, 640, 16):
        a, b = scores[:2, pixel].tolist()
        if min(a, b) < max(a, b) * 2.0**-19:
            continue
        for nudge in (1.0, 1 + 2.0**-22, 1 - 2.0**-23, 1 + 2.0**-14):
            same(logits, multipliers=[1 / a, nudge / b, min(1 / a, 1 / b)])


def test_multipliers_of_twenty_bits():
    logits, _ = make("float16", 3, 21, (700,))
    labels = same(logits, multipliers=[2.0**-c for c in range(21)])
    assert len(labels.unique()) > 2
    same(make("codes", 3, 21, (700,))[0], multipliers=[2.0**-c for c in range(21)])


@pytest.mark.parametrize("models", [1, 2, 7])
def test_codes_that_nearly_tie_across_models(models):
    """Two classes with the codes 0 and q in turn: sums are equal, or apart by rounding."""
    q = torch.arange(1, 2561) % 255 + 1
    codes = torch.full((2 * models, 6, len(q)), 200, dtype=torch.uint8)
    for m in range(2 * models):
        codes[m, 1 + m % 2], codes[m, 2 - m % 2] = 0, q.to(torch.uint8)
        codes[m, 3] = (q + m).clamp(1, 255).to(torch.uint8)
    same(list(codes))
    for nudge in (1e-7, 1e-5, 1e-4, 1e-3, 1e-2):
        same(list(codes), [1.0 + nudge * (m % 2) for m in range(2 * models)])


def test_codes_without_a_zero_count_in_full():
    """A model whose best code is not 0, beside one that is less sure and less weighted."""
    for low in range(1, 256, 6):
        codes = torch.full((2, 3, 64), min(255, low + 50), dtype=torch.uint8)
        codes[0, 1], codes[1], codes[1, 2] = low, 40, 0
        same(list(codes), [1, 0.8])


def test_codes_whose_roundings_add_up():
    """Two models, each sure of one class, all others at one code, whose exponential in 16 bits is
    rounded up in one model and down in the other; weights that make a tie but for a nudge."""
    classes, codes = 900, range(150, 196, 9)
    values = torch.exp(-24 * (torch.tensor(codes, dtype=torch.float64) / 255) ** 2).tolist()
    for (q, e), (other, f) in itertools.product(zip(codes, values, strict=True), repeat=2):
        logits = [torch.full((classes, 8), q), torch.full((classes, 8), other)]
        logits[0][3], logits[1][5] = 0, 0
        tie = (1 - e) / (1 + 899 * e) * (1 + 899 * f) / (1 - f)
        for nudge in (-3e-4, 3e-4):
            labels = same([z.to(torch.uint8) for z in logits], [1, tie * (1 + nudge)])
            assert labels.eq(3 if nudge < 0 else 5).all()


@pytest.mark.parametrize("classes", [1, 2, 255, 256, 1023, 1024, 1025])
def test_codes_of_any_number_of_classes(classes):
    logits, _ = make("codes", 3, classes, (130,))
    same(logits)
    same([z.clamp(min=1) for z in logits])  # no code 0 anywhere
    same([torch.full_like(z, 255) for z in logits])


def test_a_part_of_constants_does_not_spoil_what_follows():
    """Tiles in which nothing is decided turn the cheap way off for some, never the labels."""
    for kind in ("float16", "codes"):
        logits, _ = make(kind, 2, 40, (20_000,))
        for z in logits:
            z[:, 3000:9000] = 0
        assert not same(logits)[3000:9000].any()


@settings(max_examples=60, deadline=None)
@given(
    classes=st.integers(1, 7), models=st.integers(1, 5), seed=st.integers(0, 2**31),
    levels=st.integers(1, 40), noise=st.sampled_from([0.0, 1e-7, 1e-5, 1e-4, 1e-3]),
    codes=st.booleans(),
)  # fmt: skip
def test_labels_of_few_levels(classes, models, seed, levels, noise, codes):
    generator = torch.Generator().manual_seed(seed)
    shape = (models, classes, 130)
    values = torch.randint(levels, shape, generator=generator)
    weights = torch.randint(0, 5, (models,), generator=generator).add(1e-8).tolist()
    weights = [w + noise * k for k, w in enumerate(weights)]
    if codes:
        logits = (values * (255 // levels)).to(torch.uint8)
    else:
        logits = values + noise * torch.randn(shape, generator=generator)
    same(list(logits), weights)


def same_strips(logits, size, weights=None, *, used: bool = True, **options) -> None:
    weights = [1.0] * len(logits) if weights is None else weights
    call = check_upsampling(logits, weights, size, resize="logits", **options)
    assert (strips.labels(call.used()) is not None) == used
    made, expected = upsample_cpu.upsample(call).labels, upsample_naive.upsample(call).labels
    assert torch.equal(made, expected), (made != expected).nonzero()


@pytest.fixture
def all_open(monkeypatch):
    monkeypatch.setattr(strips, "MOST_OPEN", 1.0)


KINDS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@pytest.mark.parametrize("size", [(20, 30), (9, 41), (33, 100), (3, 230)])
@pytest.mark.parametrize("kind", [*KINDS, "codes"])
def test_interpolated_labels(kind, size, all_open):
    logits, _ = make(kind, 3, 7, (7, 20))
    same_strips(logits, size, [1, 0.5, 2], groups=[[1], [0], [2]], rows=(1, size[0] - 1))
    same_strips([z[:, ::2, ::3] for z in logits], size, multipliers=[1 + c % 3 for c in range(7)])
    two_sizes = [logits[0], make(kind, 1, 7, (9, 13))[0][0]]
    same_strips(two_sizes, size, [1, 1.4], temperatures=[0.6, 3.0])


@pytest.mark.parametrize("kind", [*KINDS, "codes"])
def test_interpolated_models_that_agree(kind, all_open):
    """Whole blocks whose corners agree: by far, by less than GAP, in all models but one."""
    lead = torch.zeros(3, 1, 6, 40, dtype=torch.int64)
    lead[..., 20:] = 1
    for apart in (5.0, 1.0, 2.0**-6, 2.0**-8, 2.0**-20, 0.0):
        near = torch.full((3, 4, 6, 40), 3.0 - apart).scatter_(1, lead, 3.0)
        near[2, 3, 3:, 4:9] += 1.5 * apart
        logits = list(near.to(KINDS.get(kind, torch.float32)))
        if kind == "codes":
            code = max(1, round(255 * math.sqrt(apart / 24)))
            logits = [torch.where(z == z.max(0).values, 0, code).to(torch.uint8) for z in near]
        same_strips(logits, (12, 200))
        same_strips(logits, (12, 200), multipliers=[1, 1 + 2.0**-9, 1.5, 1000])


def test_interpolated_corners_that_agree_by_a_rounding(all_open):
    """The upper class is one rounding ahead at all corners; between them the two often tie."""
    generator = torch.Generator().manual_seed(0)
    ahead = torch.rand(6, 40, generator=generator) + 40
    behind = torch.nextafter(ahead, torch.zeros(()))
    z = torch.stack([behind, ahead, ahead - 9])
    same_strips([z, z], (12, 200))


@settings(max_examples=40, deadline=None)
@given(
    levels=st.integers(1, 4), models=st.integers(1, 4), classes=st.integers(1, 6),
    h=st.integers(1, 5), w=st.integers(1, 40), seed=st.integers(0, 2**31),
    height=st.integers(1, 12), wider=st.floats(1.3, 5), noise=st.sampled_from([0, 1e-7, 1e-4]),
)  # fmt: skip
def test_interpolated_near_ties(levels, models, classes, h, w, height, wider, noise, seed):
    generator = torch.Generator().manual_seed(seed)
    shape = (models, classes, h, w)
    logits = 4.0 * torch.randint(levels, shape, generator=generator)
    logits += noise * torch.randint(3, shape, generator=generator)
    weights = torch.rand(models, generator=generator).add(0.01).tolist()
    call = check_upsampling(list(logits), weights, (height, math.ceil(w * wider)), resize="logits")
    assert torch.equal(upsample_cpu.upsample(call).labels, upsample_naive.upsample(call).labels)


@pytest.mark.parametrize("value", [math.nan, math.inf, 65504.0, -65504.0])
def test_interpolated_numbers_without_a_bound(value):
    for z in make("float16", 1, 5, (6, 20))[0]:
        z[2, 3, 4:9] = value
        same_strips([z], (20, 61), used=False)


def test_interpolated_classes_and_pixels_without_a_score(all_open):
    logits, _ = make("float16", 2, 5, (6, 20))
    logits[0][2] = -math.inf
    logits[1][1:4, 2, 3:11] = -math.inf
    same_strips(logits, (20, 61))
    logits[0][:, 4, 7] = -math.inf
    same_strips(logits, (20, 61), used=False)


def test_what_strips_are_not_for():
    logits, _ = make("float32", 2, 5, (6, 20))
    for size in ((6, 20), (12, 24), (3, 10)):
        same_strips(logits, size, used=False)
    same_strips(logits, (12, 40), temperatures=[1, 1e-7], used=False)
    same_strips([torch.zeros(4, 6, 20)], (12, 40), used=False)  # ties alone
    same_strips(logits, (12, 40), [1, 1e-300])
