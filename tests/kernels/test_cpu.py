"""The compiled CPU path, and the path without a compiler, against the reference: equal bits, entropy aside."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulated import agreeing, gap_codes
from fusion.kernels import arithmetic as reference
from fusion.kernels.arithmetic import OUTPUTS, Fused
from fusion.kernels.average import cpu
from fusion.kernels.native import build as compiled
from fusion.kernels.upsample import cpu as cpu_upsample

DTYPES = ("float16", "bfloat16", "float32", "codes", "mixed", "probabilities")
SOME = ("labels", "probabilities", "group_means")


@pytest.fixture(autouse=True)
def a_compiler():
    assert compiled.library() is not None, "these tests need a C compiler"


def make(
    kind: str, models: int, classes: int, shape: tuple[int, ...], seed: int = 0
) -> tuple[list[torch.Tensor], list[str]]:
    """Logits around one common map, so that scores come close to each other and often agree."""
    generator = torch.Generator().manual_seed(seed)
    common = 6 * torch.randn(classes, *shape, generator=generator)
    logits, values = [], []
    for m in range(models):
        z = common + 3 * torch.randn(classes, *shape, generator=generator)
        name = (
            ("float16", "codes", "float32", "bfloat16", "probabilities")[m % 5]
            if kind == "mixed"
            else kind
        )
        values.append("probabilities" if name == "probabilities" else "logits")
        if name == "probabilities":
            z = z.softmax(0)
        logits.append(
            gap_codes(z)
            if name == "codes"
            else z.to(
                {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(name, torch.float32)
            )
        )
    return logits, values


def assert_same(made: Fused, expected: Fused) -> None:
    for name in OUTPUTS:
        mine, theirs = getattr(made, name), getattr(expected, name)
        assert (mine is None) == (theirs is None), name
        if mine is not None:
            tolerance = 2e-5 if name == "entropy" else 0
            torch.testing.assert_close(
                mine,
                theirs,
                rtol=0,
                atol=tolerance,
                equal_nan=True,
                msg=lambda text, name=name: f"{name}: {text}",
            )


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize(
    ("classes", "pixels", "models"),
    [
        (1, 7, 2),
        (2, 63, 3),
        (3, 64, 1),
        (31, 65, 2),
        (33, 1, 3),
        (11, 1023, 22),
        (124, 1100, 4),
        (255, 130, 2),
        (256, 70, 2),
        (1000, 65, 2),
    ],
)
def test_every_output_equals_the_reference(kind, classes, pixels, models):
    logits, values = make(kind, models, classes, (pixels,))
    temperatures = [0.5 + 0.4 * (m % 4) for m in range(models)]
    halves = [
        group for group in ([m for m in range(models) if m % 2 == k] for k in range(2)) if group
    ]
    for groups, outputs in ((None, ("labels",)), (halves, OUTPUTS), (halves, ("group_means",))):
        weights = [0.0 if k == 1 else 1.0 + 0.4 * k for k in range(len(groups or logits))]
        call = {
            "groups": groups,
            "temperatures": temperatures,
            "values": values,
            "outputs": outputs,
        }
        assert_same(
            cpu.softmax_average(logits, weights, **call),
            reference.softmax_average(logits, weights, **call),
        )


def test_several_tiles_without_a_compiler(monkeypatch):
    monkeypatch.setattr(compiled, "library", lambda: None)
    logits, values = make("mixed", 5, 6, (3, 30, 100))
    call = {"groups": [[0, 3], [1], [4, 2]], "values": values, "outputs": OUTPUTS}
    assert_same(
        cpu.softmax_average(logits, [1, 0, 2], **call),
        reference.softmax_average(logits, [1, 0, 2], **call),
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    "value",
    [
        "constant",
        "ties",
        "extreme",
        "one -inf",
        "all but one -inf",
        "all -inf",
        "nan",
        "inf",
        "subnormal",
    ],
)
def test_unusual_values(dtype, value):
    z = torch.randn(9, 200, generator=torch.Generator().manual_seed(1))
    if value == "constant":
        z[:] = 3.0
    elif value == "ties":
        z = z.round()
    elif value == "extreme":
        z = torch.where(z > 0, 65504.0, -65504.0)
    elif value == "subnormal":
        z = z * 1e-7
    else:
        rows = {"all but one -inf": slice(1, None), "all -inf": slice(None)}.get(value, slice(3, 4))
        z[rows, 50:120] = {"nan": torch.nan, "inf": torch.inf}.get(value, -torch.inf)
    logits = [z.to(dtype), (z + 0.25).to(dtype)]
    for weights in ([1.0, 1.0], [1.0, 0.0], [1e-8, 1.0]):
        assert_same(
            cpu.softmax_average(logits, weights, outputs=SOME),
            reference.softmax_average(logits, weights, outputs=SOME),
        )
        for resize in ("probabilities", "logits"):
            maps = [m.reshape(9, 10, 20) for m in logits]
            call = {"resize": resize, "outputs": ("labels",)}
            assert_same(
                cpu_upsample.upsample_softmax_average(maps, weights, (23, 31), **call),
                reference.upsample_softmax_average(maps, weights, (23, 31), **call),
            )


def test_nan_in_one_class_of_a_probability_map():
    p = torch.full((3, 130), 0.25)
    p[1, 3:90] = torch.nan
    call = {"values": "probabilities", "outputs": ("labels", "confidence", "margin")}
    made = cpu.softmax_average([p, p + 0.1], [1, 1], **call)
    assert_same(made, reference.softmax_average([p, p + 0.1], [1, 1], **call))
    assert (made.labels == 255).sum() == 87


def test_every_half_and_every_code():
    """All 65536 halves and bfloat16s (NaN and infinities too) as one class beside a zero; all codes with and without a code 0."""
    bits = torch.arange(65536, dtype=torch.int32).to(torch.int16)
    for dtype in (torch.float16, torch.bfloat16):
        logits = [torch.stack([bits.view(dtype), torch.zeros(65536, dtype=dtype)])]
        assert_same(
            cpu.softmax_average(logits, [1], outputs=SOME),
            reference.softmax_average(logits, [1], outputs=SOME),
        )
    codes = (
        torch.cartesian_prod(torch.arange(256), torch.arange(256)).T.to(torch.uint8).contiguous()
    )
    for temperature in (1.0, 0.6, 3.0):
        call = {"temperatures": [temperature], "outputs": SOME}
        assert_same(
            cpu.softmax_average([codes], [1], **call),
            reference.softmax_average([codes], [1], **call),
        )
        with_zero = codes.index_fill(0, torch.tensor([1]), 0)
        assert_same(
            cpu.softmax_average([with_zero], [1], **call),
            reference.softmax_average([with_zero], [1], **call),
        )


def test_strided_inputs_and_untouched_surroundings():
    whole = torch.randn(4, 6, 9, 20, generator=torch.Generator().manual_seed(2)).half()
    views = [
        whole.movedim(1, 0),  # frames first in memory: read in place
        whole.movedim(1, 0).contiguous()[:, 1:4],
        whole.permute(1, 0, 3, 2),
        whole.movedim(1, 0)[..., ::2],
        whole[:1].movedim(1, 0).expand(6, 4, 9, 20),
        whole.movedim(1, 0).flip(0),
    ]
    for view in views:
        before = whole.clone()
        other = torch.randn(view.shape, generator=torch.Generator().manual_seed(3))
        assert_same(
            cpu.softmax_average([view, other], [1, 2], outputs=SOME),
            reference.softmax_average([view, other], [1, 2], outputs=SOME),
        )
        assert torch.equal(whole, before)
    maps = [whole[0][:, ::2, ::3], whole[1].transpose(1, 2)]
    for resize in ("probabilities", "logits"):
        assert_same(
            cpu_upsample.upsample_softmax_average(
                maps, [1, 2], (13, 17), resize=resize, outputs=SOME
            ),
            reference.upsample_softmax_average(maps, [1, 2], (13, 17), resize=resize, outputs=SOME),
        )


def test_outputs_are_written_whole_and_nothing_beside_them(monkeypatch):
    """Outputs lie in the middle of poisoned memory: no poison left inside, none overwritten around."""
    surroundings = []
    allocate = cpu.allocate

    def poisoned(*arguments: object) -> Fused:
        plain, made = allocate(*arguments), {}
        for name, values in vars(plain).items():
            if values is not None:
                poison = 77 if values.dtype == torch.uint8 else -777.0
                room = torch.full((values.numel() + 512,), poison, dtype=values.dtype)
                surroundings.append((room, values.numel(), poison))
                made[name] = room[256 : 256 + values.numel()].view(values.shape)
        return Fused(**made)

    monkeypatch.setattr(cpu, "allocate", poisoned)
    monkeypatch.setattr(cpu_upsample, "allocate", poisoned)
    logits, _ = make("mixed", 4, 11, (13, 17))
    values = ["logits"] * 4
    cpu.softmax_average(logits, [1, 2, 3, 4], values=values, outputs=OUTPUTS)
    for resize in ("probabilities", "logits"):
        cpu_upsample.upsample_softmax_average(
            logits, [1, 2, 3, 4], (31, 40), values=values, resize=resize, outputs=OUTPUTS
        )
    cpu_upsample.upsample_softmax_average(logits, [1, 2, 3, 4], (31, 40), values=values)
    assert len(surroundings) > 10
    for room, inside, poison in surroundings:
        assert (room[:256] == poison).all()
        assert (room[256 + inside :] == poison).all()
        assert not (room[256 : 256 + inside] == poison).any()


SHAPES = [
    ([(5, 7)] * 3, (20, 30)),
    ([(5, 7), (9, 4), (5, 7)], (37, 11)),
    ([(1, 1)] * 3, (6, 5)),
    ([(12, 9), (20, 9), (12, 30)], (12, 30)),
]


@pytest.mark.parametrize("resize", ["probabilities", "logits"])
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "codes", "mixed", "probabilities"])
@pytest.mark.parametrize(("classes", "cases"), [(1, SHAPES[:1]), (7, SHAPES), (257, SHAPES[2:3])])
def test_upsampling_equals_the_reference(resize, kind, classes, cases):
    for shapes, size in cases:
        made = [make(kind, m + 1, classes, shape) for m, shape in enumerate(shapes)]
        logits, values = (
            [z[m] for m, (z, _) in enumerate(made)],
            [v[m] for m, (_, v) in enumerate(made)],
        )
        for groups, weights, rows, outputs in (
            (None, [1, 2, 0.5], None, ("labels",)),
            ([[0, 2], [1]], [1, 1.4], (3, 5), ("labels",)),
            ([[1], [2, 0]], [0, 1], None, ("group_means",)),
            ([[1], [2, 0]], [0, 1], (1, 6), OUTPUTS),
        ):
            call = {
                "groups": groups,
                "temperatures": [1, 1.3, 0.7],
                "values": values,
                "resize": resize,
                "rows": rows,
                "outputs": outputs,
            }
            assert_same(
                cpu_upsample.upsample_softmax_average(logits, weights, size, **call),
                reference.upsample_softmax_average(logits, weights, size, **call),
            )


@pytest.mark.parametrize("resize", ["probabilities", "logits"])
def test_several_bands_without_a_compiler(monkeypatch, resize):
    monkeypatch.setattr(compiled, "library", lambda: None)
    logits, values = make("mixed", 5, 4, (6, 8))
    call = {
        "groups": [[0, 3], [1], [4, 2]],
        "values": values,
        "resize": resize,
        "rows": (2, 70),
        "outputs": OUTPUTS,
    }
    assert_same(
        cpu_upsample.upsample_softmax_average(logits, [1, 0, 2], (80, 9), **call),
        reference.upsample_softmax_average(logits, [1, 0, 2], (80, 9), **call),
    )


@settings(max_examples=40, deadline=None)
@given(
    levels=st.integers(1, 4), groups=st.integers(1, 4), classes=st.integers(2, 6), h=st.integers(1, 5), w=st.integers(1, 70),
    size=st.tuples(st.integers(1, 12), st.integers(1, 150)), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_corner_candidates_never_lose_the_winner(levels, groups, classes, h, w, size, seed):
    """Scores of few distinct levels, exact ties and near ties: where pruning by corners would go wrong first."""
    generator = torch.Generator().manual_seed(seed)
    logits = [
        torch.randint(levels, (classes, h, w), generator=generator).float() for _ in range(groups)
    ]
    logits[0] += 1e-7 * torch.randint(3, (classes, h, w), generator=generator)
    weights = torch.rand(groups, generator=generator).add(0.01).tolist()
    made, shortcuts = cpu_upsample.counted_upsample(logits, weights, size)
    assert_same(made, reference.upsample_softmax_average(logits, weights, size))
    assert 0 <= shortcuts.one_class <= shortcuts.pixels == size[0] * size[1]


def test_corners_decide_most_pixels_of_models_that_agree():
    logits = agreeing(3, 20, (24, 32))
    made, shortcuts = cpu_upsample.counted_upsample(logits, [1, 1, 1], (96, 128))
    assert_same(made, reference.upsample_softmax_average(logits, [1, 1, 1], (96, 128)))
    assert shortcuts.one_class > shortcuts.pixels // 2


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.01, 100), cut=st.integers(1, 299))
def test_scale_of_weights_and_cuts_do_not_matter(seed, scale, cut):
    logits, values = make("mixed", 3, 7, (300,), seed)
    call = {"values": values, "outputs": ("labels", "probabilities")}
    whole = cpu.softmax_average(logits, [1, 2, 4], **call)
    parts = [
        cpu.softmax_average([z[:, s] for z in logits], [1, 2, 4], **call)
        for s in (slice(cut), slice(cut, None))
    ]
    assert torch.equal(torch.cat([p.probabilities for p in parts], dim=1), whole.probabilities)
    assert torch.equal(torch.cat([p.labels for p in parts]), whole.labels)
    scaled = cpu.softmax_average(logits, [scale, 2 * scale, 4 * scale], **call)
    torch.testing.assert_close(scaled.probabilities, whole.probabilities, rtol=1e-6, atol=1e-7)


def test_many_callers_at_once_and_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(
        cpu_upsample, "BAND_BYTES", 1
    )  # one label row each, cut again into tiles of one vector:
    monkeypatch.setattr(cpu, "TILE_BYTES", 1)  # the pool's threads must not wait for the pool
    logits, values = make("mixed", 5, 11, (40, 50))
    expected = reference.upsample_softmax_average(
        logits, [1] * 5, (80, 100), values=values, outputs=SOME
    )
    results: list[Fused] = []

    def work() -> None:
        call = {"values": values, "outputs": SOME}
        results.extend(
            cpu_upsample.upsample_softmax_average(logits, [1] * 5, (80, 100), **call)
            for _ in range(3)
        )

    threads, before = (
        [threading.Thread(target=work, daemon=True) for _ in range(4)],
        torch.get_num_threads(),
    )
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(results) == 12
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append(
                cpu_upsample.upsample_softmax_average(
                    logits, [1] * 5, (80, 100), values=values, outputs=SOME
                )
            )
    finally:
        torch.set_num_threads(before)
    for made in results:
        assert_same(made, expected)


@pytest.mark.parametrize(
    ("dtype", "compiles"),
    [(torch.uint8, True), (torch.int16, True), (torch.int64, True), (torch.uint8, False)],
)
def test_confusion_equals_the_reference(monkeypatch, dtype, compiles):
    if not compiles:
        monkeypatch.setattr(compiled, "library", lambda: None)
    generator = torch.Generator().manual_seed(4)
    targets, labels = (
        torch.randint(11, (3, 70_001), generator=generator).to(dtype) for _ in range(2)
    )
    targets[:, ::5] = 100
    labels[0, 5] = 90  # beside an ignored target: does not count
    counts = cpu.confusion(targets, labels, 11, ignore=100)
    assert torch.equal(counts, reference.confusion(targets, labels, 11, ignore=100))
    assert torch.equal(cpu.confusion(targets.T, labels.T, 11, ignore=100), counts)
    assert counts.sum() == int((targets != 100).sum())
    labels[0, 6] = 11
    with pytest.raises(ValueError, match=r"must be in 0\.\.10"):
        cpu.confusion(targets, labels, 11, ignore=100)


def test_confusion_refuses_negative_values():
    with pytest.raises(ValueError, match="targets"):
        cpu.confusion(torch.tensor([-1]), torch.tensor([0]), 2)
    with pytest.raises(ValueError, match="labels"):
        cpu.confusion(torch.tensor([0]), torch.tensor([-1]), 2)
