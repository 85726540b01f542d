"""Condensation loses nothing: counts from contested pixels against brute force over the full probabilities, bit for bit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusion.contested import Builder, Condensed, condense
from fusion.contested.cache import CondensedCache
from fusion.errors import CorruptStoreError, InputError, StoreError
from fusion.kernels.average import naive
from fusion.kernels.confusion import naive as counting
from fusion.kernels.contested import cpu as kernel
from fusion.kernels.contested.cpu import Parts
from fusion.kernels.native import build as compiled
from fusion.kernels.numbers import void_label
from fusion.metrics import CONVENTIONS, miou
from fusion.stores.format import video_key

FIELDS = ("constant", "counts", "targets", "classes", "values")


def brute_force(means: np.ndarray, targets: np.ndarray, weights, ignore: int = 255) -> np.ndarray:
    """The matrix [C, C] by the reference's own scores, argmax and counts."""
    labels = naive.argmax(naive.combine(torch.tensor(means), weights))
    return counting.confusion(
        torch.tensor(targets.astype(np.int32)), labels, means.shape[1], ignore=ignore
    ).numpy()


def probabilities(
    groups: int, classes: int, pixels: int, seed: int = 0, levels: int = 0, agree: float = 4.0
) -> np.ndarray:
    """Group means [G, C, P] that agree more or less; `levels` makes them coarse, so that ties are everywhere."""
    rng = np.random.default_rng(seed)
    logits = (
        rng.normal(size=(groups, classes, pixels)) * 3
        + rng.normal(size=(1, classes, pixels)) * agree
    )
    means = (
        naive.softmax(torch.tensor(logits.transpose(1, 0, 2), dtype=torch.float32))
        .permute(1, 0, 2)
        .numpy()
    )
    return np.ascontiguousarray(
        np.round(means * levels) / np.float32(levels) if levels else means, np.float32
    )


def some_targets(classes: int, pixels: int, seed: int = 0, void: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, pixels).astype(np.uint8 if classes <= 255 else np.uint16)
    targets[rng.random(pixels) < void] = void_label(classes)
    return targets


def condensed_of(means: np.ndarray, targets: np.ndarray, videos: int = 1) -> Condensed:
    groups, classes, pixels = means.shape
    builder = Builder([f"g{g}" for g in range(groups)], [f"c{c}" for c in range(classes)])
    for index, chunk in enumerate(np.array_split(np.arange(pixels), videos)):
        block = condense(
            np.ascontiguousarray(means[:, :, chunk]),
            targets[chunk],
            classes,
            ignore=void_label(classes),
        )
        builder.append(f"v{index}", block)
    return builder.finish()


def some_weights(groups: int, vectors: int = 7, seed: int = 0) -> np.ndarray:
    """Random ones, with zeros, every single group, and all but vanishing ones."""
    rng = np.random.default_rng(seed)
    drawn = rng.random((vectors, groups)) * (rng.random((vectors, groups)) < 0.7) + 1e-9
    tiny = np.where(np.arange(groups) == 0, 1.0, 1e-44)
    return np.concatenate([drawn, np.eye(groups), np.ones((1, groups)), tiny[None]])


@given(
    groups=st.integers(1, 4),
    classes=st.integers(1, 9),
    pixels=st.integers(1, 90),
    levels=st.sampled_from([0, 2, 6]),
    seed=st.integers(0, 2**31),
    weights=st.lists(st.floats(0, 10, allow_subnormal=True), min_size=4, max_size=4),
)
def test_equals_brute_force_cell_for_cell(groups, classes, pixels, levels, seed, weights):
    means, targets = (
        probabilities(groups, classes, pixels, seed, levels),
        some_targets(classes, pixels, seed),
    )
    chosen = weights[:groups] if sum(weights[:groups]) > 0 else [1.0] * groups
    assert np.array_equal(
        condensed_of(means, targets).confusions([chosen])[0], brute_force(means, targets, chosen)
    )


def nearly_tied(groups: int, classes: int, pixels: int, seed: int) -> np.ndarray:
    """Scores a few units in the last place apart, some of them zero or near the smallest numbers there are."""
    rng = np.random.default_rng(seed)
    scale = rng.choice(
        np.array([1.0, 0.3, 1e-7, 1e-30, 1e-40, 0.0], np.float32), (groups, 1, pixels)
    )
    base = (
        rng.choice(np.array([0.5, 0.3333333, 0.9999999], np.float32), (1, 1, pixels)) * scale
    ).astype(np.float32)
    bits = np.broadcast_to(base, (groups, classes, pixels)).copy().view(np.int32)
    steps = rng.choice([0, 1, 1, 2, 3, 8, 64], bits.shape) * rng.choice([1, 16], (1, classes, 1))
    return np.ascontiguousarray((bits + steps.astype(np.int32)).view(np.float32))


@pytest.mark.parametrize("groups", [1, 2, 3, 22])
def test_near_ties_are_decided_as_float32_rounding_decides_them(groups):
    means = nearly_tied(groups, 5, 4000, groups)
    targets = some_targets(5, 4000)
    weights = some_weights(groups, 12, seed=groups)
    condensed = condensed_of(means, targets)
    assert condensed.contested > 0 or groups == 1
    for vector, matrix in zip(weights, condensed.confusions(weights), strict=True):
        assert np.array_equal(matrix, brute_force(means, targets, vector))


def test_a_higher_class_needs_a_margin_where_rounding_can_tie():
    just_above = np.nextafter(np.float32(0.3), np.float32(1))
    means = np.array([[[0.3], [just_above]], [[0.3], [just_above]]], np.float32)
    assert (
        condensed_of(means, np.zeros(1, np.uint8)).contested == 1
    )  # 0.3 w may round to the same as (0.3 + ulp) w
    assert (
        condensed_of(means[:, ::-1].copy(), np.zeros(1, np.uint8)).contested == 0
    )  # a lower class wins the tie anyway


def test_candidates_of_a_pixel_worked_out_by_hand():
    #          class   0    1    2    3
    means = np.array([[0.5, 0.3, 0.1, 0.1], [0.1, 0.3, 0.4, 0.2]], np.float32)[:, :, None]
    block = condense(means, np.array([2], np.uint8), 4, ignore=255)
    assert block.classes.tolist() == [0, 1, 2]  # 3 loses to 1 in both groups
    assert block.values.tolist() == means[:, :3, 0].T.tolist()
    assert block.constant.sum() == 0
    condensed = condensed_of(means, np.array([2], np.uint8))
    assert condensed.widths == {3: 1}
    assert (condensed.contested, condensed.candidates, condensed.scored, condensed.fraction) == (
        1,
        3,
        1,
        1.0,
    )


@pytest.mark.parametrize(
    ("groups", "classes", "pixels", "levels"),
    [
        (3, 11, 1700, 0),
        (3, 11, 700, 8),
        (1, 5, 600, 4),
        (2, 300, 520, 0),
        (22, 13, 600, 0),
        (5, 1, 513, 0),
        (3, 2, 40, 3),
    ],
)
def test_compiled_and_slow_twins_return_the_same_bits(groups, classes, pixels, levels):
    means, targets = (
        probabilities(groups, classes, pixels, levels=levels),
        some_targets(classes, pixels).astype(np.uint16),
    )
    ignore = void_label(classes)
    fast, slow = (
        kernel.condense(means, targets, ignore),
        kernel.condense_slowly(means, targets, ignore),
    )
    for name in FIELDS:
        assert np.array_equal(getattr(fast, name), getattr(slow, name)), name
    parts = Parts(
        [
            (index % 2, piece)
            for index, run in enumerate(kernel.runs(fast))
            for piece in kernel.pieces(run, groups, 3)
        ]
    )
    weights = condensed_of(
        means, targets.astype(np.uint8 if classes <= 255 else np.uint16)
    ).normalised(some_weights(groups))
    for matrix, some in itertools.product((True, False), (weights, weights[:0])):
        counts = kernel.count(parts, some, classes, videos=2, matrix=matrix)
        assert np.array_equal(
            counts, kernel.count_slowly(parts, some, classes, videos=2, matrix=matrix)
        )


def test_without_a_compiler(monkeypatch):
    means, targets, weights = probabilities(3, 7, 900), some_targets(7, 900), some_weights(3)
    with_compiler = condensed_of(means, targets, 2)
    monkeypatch.setattr(compiled, "library", lambda: None)
    without = condensed_of(means, targets, 2)
    assert np.array_equal(without.confusions(weights), with_compiler.confusions(weights))
    assert np.array_equal(without.miou(weights), with_compiler.miou(weights))


def test_small_output_buffers_are_used_again(monkeypatch):
    means, targets = probabilities(2, 6, 4000, agree=1.0), some_targets(6, 4000)
    whole = condense(means, targets, 6, ignore=255)
    monkeypatch.setattr(kernel, "ROOM", 1)
    in_parts = condense(means, targets, 6, ignore=255)
    for name in FIELDS:
        assert np.array_equal(getattr(whole, name), getattr(in_parts, name))


def test_batches_videos_and_subsets_add_up(monkeypatch):
    means, targets, weights = (
        probabilities(3, 5, 3000, agree=1.0),
        some_targets(5, 3000),
        some_weights(3, 20),
    )
    condensed = condensed_of(means, targets, 6)
    matrices = condensed.confusions(weights)
    assert np.array_equal(condensed.confusion(weights[3]).sum(axis=0), matrices[3])
    halves = [condensed.subset(condensed.videos[:2]), condensed.subset(condensed.videos[2:])]
    assert np.array_equal(halves[0].confusions(weights) + halves[1].confusions(weights), matrices)
    assert halves[1].pixels[0] is condensed.pixels[2]
    monkeypatch.setattr("fusion.contested.pixels.COUNTS", 1)  # one weight vector at a time
    assert np.array_equal(condensed.confusions(weights), matrices)
    assert np.array_equal(matrices.sum(axis=2), np.broadcast_to(condensed.rows, matrices.shape[:2]))


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_miou_is_that_of_the_matrices(convention):
    targets = some_targets(6, 2000)
    targets[targets == 4] = 1  # a class without pixels
    condensed = condensed_of(probabilities(3, 6, 2000), targets, 3)
    weights = some_weights(3, 30)
    assert np.array_equal(
        condensed.miou(weights, convention), miou(condensed.confusions(weights), convention)
    )


def test_one_group_and_equal_models_are_never_contested():
    means, targets = probabilities(1, 6, 1000), some_targets(6, 1000)
    for same in (means, np.repeat(means, 4, axis=0)):
        condensed = condensed_of(same, targets)
        assert np.array_equal(
            condensed.confusions([[1.0] * len(same)])[0], brute_force(means, targets, [1.0])
        )
        near_ties = condensed.contested  # classes apart by less than the margin stay
        assert near_ties <= 2


def test_ties_everywhere_go_to_the_lowest_class():
    condensed = condensed_of(np.full((3, 4, 100), 0.25, np.float32), np.full(100, 2, np.uint8))
    assert condensed.contested == 0
    assert condensed.constant["v0"][2, 0] == 100
    assert condensed.confusions(some_weights(3)).sum() == 100 * len(some_weights(3))


def test_all_void():
    condensed = condensed_of(np.full((2, 3, 40), np.nan, np.float32), np.full(40, 255, np.uint8), 2)
    assert (condensed.scored, condensed.contested, condensed.fraction) == (0, 0, 0.0)
    assert condensed.confusions([[1, 1]]).sum() == 0
    assert np.isnan(condensed.miou([[1, 1]])).all()


def test_no_pixels_at_all():
    assert condense(
        np.zeros((2, 3, 0), np.float32), np.zeros(0, np.uint8), 3, ignore=255
    ).constant.shape == (3, 3)


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -0.1, 1.5])
@pytest.mark.parametrize("agree", [False, True])
def test_a_bad_score_on_a_counted_pixel_is_named(bad, slow, agree, monkeypatch):
    if slow:
        monkeypatch.setattr(compiled, "library", lambda: None)
    means = probabilities(2, 3, 1200)
    if agree:
        means[1] = means[0]
    means[1, 2, 1100] = bad
    targets = np.ones((30, 40), np.uint8)
    with pytest.raises(InputError, match=r"video 'clip 7'.*\[27, 20\].*NaN"):
        condense(means.reshape(2, 3, 30, 40), targets, 3, ignore=255, video="clip 7")
    targets[27, 20] = 255
    condense(means.reshape(2, 3, 30, 40), targets, 3, ignore=255)


@pytest.mark.parametrize("slow", [False, True])
def test_a_stray_target_is_named(slow, monkeypatch):
    if slow:
        monkeypatch.setattr(compiled, "library", lambda: None)
    targets = np.zeros(5, np.uint8)
    targets[3] = 3
    with pytest.raises(InputError, match=r"target 3.*below 3 or 255"):
        condense(probabilities(2, 3, 5), targets, 3, ignore=255)


def test_negative_zero_is_a_score():
    means = np.full((2, 2, 1), -0.0, np.float32)
    assert condense(means, np.zeros(1, np.uint8), 2, ignore=255).constant[0, 0] == 1


@pytest.mark.parametrize(
    ("means", "targets"),
    [
        (np.zeros((2, 3, 4)), np.zeros(4, np.uint8)),
        (np.zeros((2, 4, 4), np.float32), np.zeros(4, np.uint8)),
        (np.zeros((0, 3, 4), np.float32), np.zeros(4, np.uint8)),
        (np.zeros((2, 3, 4), np.float32), np.zeros(4, np.int64)),
        (np.zeros((2, 3, 4), np.float32), np.zeros(5, np.uint8)),
    ],
)
def test_shapes_and_types_are_checked(means, targets):
    with pytest.raises(InputError, match=r"condense: .* give "):
        condense(means, targets, 3, ignore=255)


def test_wrong_weights_videos_and_blocks():
    condensed = condensed_of(probabilities(2, 3, 50), some_targets(3, 50), 2)
    for weights in ([[1.0]], [1.0, 1.0], [[-1.0, 1.0]], [[0.0, 0.0]], [[np.nan, 1.0]]):
        with pytest.raises(InputError, match="weights"):
            condensed.miou(weights)
    for videos in (["v9"], ["v0", "v0"], []):
        with pytest.raises(InputError, match="subset"):
            condensed.subset(videos)
    with pytest.raises(InputError, match="2 groups, 3 classes; expected 1 and 3"):
        Builder(["a"], ["x", "y", "z"]).append(
            "v", condense(probabilities(2, 3, 5), np.zeros(5, np.uint8), 3, ignore=255)
        )


def test_device():
    condensed = condensed_of(probabilities(3, 5, 400), some_targets(5, 400), 2)
    same = condensed.on("cpu:0")
    assert (same.device, same.pixels) == ("cpu", condensed.pixels)
    for device in ("cuda:99", "mps", "nonsense", ""):
        with pytest.raises(InputError, match=rf"device: got '{device}'.*give"):
            condensed.on(device)
    if torch.cuda.is_available():
        on_device, weights = condensed.on("cuda"), some_weights(3)
        assert on_device.subset(["v1"]).device == "cuda"
        assert np.array_equal(on_device.confusions(weights), condensed.confusions(weights))


def test_torch_tensors_and_frames_are_taken():
    means, targets = (
        torch.tensor(probabilities(2, 3, 600)).reshape(2, 3, 20, 30),
        torch.zeros(20, 30, dtype=torch.uint8),
    )
    assert condense(means, targets, 3, ignore=255).constant.sum() > 0


# ---- on disk ----

CLIPS = ("a", "../up", "b/c", ".hidden", "ünï")


def cached(path, means, targets, classes=5, clips=CLIPS) -> CondensedCache:
    cache = CondensedCache(path, "digest", ["g0", "g1", "g2"], [f"c{c}" for c in range(classes)])
    for video, chunk in zip(
        CLIPS, np.array_split(np.arange(means.shape[2]), len(CLIPS)), strict=True
    ):
        if video in clips:
            parts = np.array_split(chunk, 3)  # a video comes in parts
            cache.write(
                video,
                (
                    condense(np.ascontiguousarray(means[:, :, p]), targets[p], classes, ignore=255)
                    for p in parts
                ),
            )
    return cache


def test_cache_gives_back_the_same_set_in_memory_and_streamed(tmp_path):
    means, targets, weights = (
        probabilities(3, 5, 4000, agree=1.0),
        some_targets(5, 4000),
        some_weights(3),
    )
    expected = np.stack([brute_force(means, targets, w) for w in weights])
    cache = cached(tmp_path / "c.zarr", means, targets)
    assert {entry.name for entry in tmp_path.iterdir()} == {"c.zarr"}
    whole, streamed = cache.load(CLIPS), cache.load(CLIPS, memory=60_000)
    assert whole.resident
    assert not streamed.resident
    assert len(list(streamed.batches())) > 5
    assert max(sum(run.nbytes for _, run in batch.runs) for batch in streamed.batches()) <= 15_000
    for condensed in (whole, streamed):
        assert np.array_equal(condensed.confusions(weights), expected)
        assert np.array_equal(condensed.confusion(weights[0]), whole.confusion(weights[0]))
        assert np.array_equal(condensed.miou(weights), miou(expected))
        assert condensed.subset(["b/c"]).contested == whole.subset(["b/c"]).contested > 0


def test_an_interrupted_build_goes_on(tmp_path, monkeypatch):
    means, targets = probabilities(3, 5, 1000), some_targets(5, 1000)
    cache = cached(tmp_path / "c", means, targets, clips=CLIPS[:2])

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("fusion.contested.cache._commit", die)
        with pytest.raises(KeyboardInterrupt):
            cached(tmp_path / "c", means, targets, clips=CLIPS[2:3])
    assert cache.missing(CLIPS) == list(CLIPS[2:])
    with pytest.raises(StoreError, match="3 videos are not condensed yet, first 'b/c'"):
        cache.load(CLIPS)
    again = cached(
        tmp_path / "c", means, targets, clips=CLIPS[1:]
    )  # writes one of them a second time
    assert again.missing(CLIPS) == []
    assert np.array_equal(
        again.load(CLIPS).confusions([[1, 1, 1]])[0], brute_force(means, targets, [1, 1, 1])
    )


def test_cache_of_other_data_is_refused(tmp_path):
    CondensedCache(tmp_path / "c", "one", ["g"], ["x"])
    for other in (("two", ["g"], ["x"]), ("one", ["h"], ["x"]), ("one", ["g"], ["x", "y"])):
        with pytest.raises(StoreError, match=r"another (digest|groups|classes)"):
            CondensedCache(tmp_path / "c", *other)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be used"):
        CondensedCache(tmp_path / "file", "one", ["g"], ["x"])


@pytest.mark.parametrize("array", ["constant", "values"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_damage_is_noticed(tmp_path, array, damage):
    cache = cached(tmp_path / "c", probabilities(3, 5, 2000, agree=1.0), some_targets(5, 2000))
    chunk = next(
        path
        for path in sorted((tmp_path / "c" / video_key("a") / "000002" / array / "c").rglob("*"))
        if path.is_file()
    )
    raw = bytearray(chunk.read_bytes())
    raw[3] ^= 16
    {
        "flip": lambda: chunk.write_bytes(raw),
        "truncate": lambda: chunk.write_bytes(raw[:-9]),
        "delete": chunk.unlink,
    }[damage]()
    with pytest.raises(CorruptStoreError, match="delete this folder"):
        cache.load(CLIPS)
    with pytest.raises(CorruptStoreError):
        cache.load(CLIPS, memory=60_000).confusions([[1, 1, 1]])


def test_a_video_without_contested_pixels_on_disk(tmp_path):
    means, targets = np.full((3, 5, 50), 0.2, np.float32), np.ones(50, np.uint8)
    condensed = cached(tmp_path / "c", means, targets).load(CLIPS, memory=0)
    assert condensed.confusions([[1, 1, 1]])[0, 1, 0] == 50
