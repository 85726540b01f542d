"""Line sweeps against evaluation at every breakpoint, bounds and certificates against dense evaluation, resuming, time limits."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from fusion.contested import Builder, Condensed, condense
from fusion.contested.cache import CondensedCache
from fusion.errors import InputError, StoreError
from fusion.kernels import arithmetic as reference
from fusion.kernels import sweep
from fusion.kernels.native import build as compiled
from fusion.metrics import CONVENTIONS
from fusion.search.exact.certify import certify, upper_bound
from fusion.search.exact.climb import exact
from fusion.search.exact.line import best_on_segment, coordinates, directions, pairs
from fusion.search.grid import grid
from fusion.search.result import SearchResult, Trial, best_trial


def problem(
    groups: int, classes: int, pixels: int, seed: int = 0, levels: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Group means [G, C, P] of which the last group is the best, and targets."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, pixels)
    logits = rng.normal(size=(groups, classes, pixels)) * 2
    logits[:, truth, np.arange(pixels)] += np.linspace(0.5, 2.5, groups)[:, None]
    means = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if levels:
        means = np.round(means * levels) / levels
    targets = np.where(rng.random(pixels) < 0.05, 255, truth).astype(np.uint8)
    return np.ascontiguousarray(means, np.float32), targets


def condensed_of(means: np.ndarray, targets: np.ndarray, videos: int = 2) -> Condensed:
    groups, classes, pixels = means.shape
    builder = Builder([f"g{g}" for g in range(groups)], [f"c{c}" for c in range(classes)])
    for index, chunk in enumerate(np.array_split(np.arange(pixels), videos)):
        builder.append(
            f"v{index}",
            condense(np.ascontiguousarray(means[:, :, chunk]), targets[chunk], classes, ignore=255),
        )
    return builder.finish()


def small(
    groups: int = 3, seed: int = 0, classes: int = 4, pixels: int = 300, levels: int = 0
) -> Condensed:
    return condensed_of(*problem(groups, classes, pixels, seed, levels))


def simplex(groups: int, points: int, seed: int = 0) -> np.ndarray:
    """Inner points, edges and corners."""
    rng = np.random.default_rng(seed)
    inner = rng.dirichlet(np.ones(groups), points)
    edges = inner * (rng.random(inner.shape) < 0.6)
    return np.concatenate([inner, edges[edges.any(axis=1)], np.eye(groups)])


# ---- sweeps ----


def whole_of(condensed: Condensed) -> sweep.Undecided:
    (parts,) = condensed.batches()
    right, predicted = condensed.base
    return sweep.Undecided(
        sweep.every_pixel(parts.runs), right, predicted - right, np.zeros_like(right)
    )


def crossings(means: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Every s in (0, 1) where two classes of a pixel have equal scores: all breakpoints and more."""
    heights, slopes = (np.tensordot(w, means.astype(np.float64), 1) for w in (start, end - start))
    found = [np.zeros(1), np.ones(1)]
    for c, d in itertools.combinations(range(means.shape[1]), 2):
        with np.errstate(divide="ignore", invalid="ignore"):
            at = (heights[c] - heights[d]) / (slopes[d] - slopes[c])
        found.append(at[(at > 0) & (at < 1)])
    return np.unique(np.concatenate(found))


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize(("groups", "levels"), [(2, 0), (3, 0), (5, 0), (3, 8)])
def test_best_of_a_segment_is_the_best_of_all_its_pieces(groups, levels, convention):
    means, targets = problem(groups, 4, 120, seed=groups, levels=levels)
    targets[targets == 3] = (
        255  # a class that is predicted without being there: a member of the mean or not, by convention
    )
    condensed = condensed_of(means, targets)
    start, end = np.random.default_rng(groups).dirichlet(np.ones(groups), 2)
    at = crossings(means, start, end)
    wide = np.diff(at) > 1e-6
    middles = ((at[1:] + at[:-1]) / 2)[wide]
    everywhere = condensed.miou(np.outer(1 - middles, start) + np.outer(middles, end), convention)
    piece = best_on_segment(condensed, start, end, convention)
    assert piece.miou == pytest.approx(everywhere.max(), abs=1e-11)
    assert condensed.miou([piece.middle], convention)[0] == everywhere.max()
    inside = condensed.miou(
        [piece.weights(s) for s in np.linspace(piece.low, piece.high, 9)[1:-1]], convention
    )
    assert np.all(inside == everywhere.max())


def test_a_segment_worked_out_by_hand():
    """Pixel 1 turns from wrong to right at s = 1/2, pixel 2 from right to wrong at s = 3/4: both are right in between."""
    means = np.zeros((2, 2, 2), np.float32)
    means[:, :, 0] = [[0.75, 0.25], [0.25, 0.75]]  # 0.75 - s / 2 against 0.25 + s / 2
    means[:, :, 1] = [[0.875, 0.125], [0.375, 0.625]]  # 0.875 - s / 2 against 0.125 + s / 2
    condensed = condensed_of(means, np.array([1, 0], np.uint8), 1)
    piece = best_on_segment(condensed, [1, 0], [0, 1])
    assert (piece.low, piece.high, piece.miou) == (0.5, 0.75, 1.0)
    assert piece.middle.tolist() == [0.375, 0.625]
    assert (
        best_on_segment(condensed, [1, 0], [0, 1], narrowest=0.3).miou == 0.25
    )  # only s < 1/2 is wide enough: one of two right


def test_equal_breakpoints_are_one():
    """Many pixels flip at the same s, half for the better: no state in the middle of the flip is ever scored."""
    means = np.repeat(np.array([[[0.75], [0.25]], [[0.25], [0.75]]], np.float32), 10, axis=2)
    condensed = condensed_of(means, np.array([0, 1] * 5, np.uint8), 1)
    assert best_on_segment(condensed, [1, 0], [0, 1], narrowest=0.0).miou == 0.25


@pytest.mark.parametrize("memory", [40_000, 4 * 10**9])
def test_streamed_from_disk_and_with_little_room_for_flips(tmp_path, memory, monkeypatch):
    means, targets = problem(3, 4, 4000)
    whole = condensed_of(means, targets, 1)
    cache = CondensedCache(tmp_path / "c", "digest", whole.groups, whole.classes)
    cache.write("v0", [condense(means, targets, 4, ignore=255)])
    loaded = cache.load(["v0"], memory)
    assert loaded.resident == (memory > 40_000)
    start, end = np.array([0.2, 0.3, 0.5]), np.array([0.0, 0.9, 0.1])
    expected = best_on_segment(whole, start, end)
    calls = []
    original = sweep.flips

    def scarce(parts, ends, classes, low, high, room):
        calls.append((low, high))
        return original(parts, ends, classes, low, high, 100)

    assert best_on_segment(loaded, start, end).miou == pytest.approx(expected.miou, abs=1e-11)
    monkeypatch.setattr(sweep, "flips", scarce)
    for ends in ((start, end), (end, start)):
        assert best_on_segment(loaded, *ends).miou == pytest.approx(expected.miou, abs=1e-11)
    assert len(calls) > 8


# ---- segments ----


@pytest.mark.parametrize("segments", [coordinates, pairs, directions])
@pytest.mark.parametrize(
    "weights", [[1.0], [1.0, 0.0], [0.5, 0.2, 0.3], [0.0, 0.0, 1.0], [0.1, 0.2, 0.3, 0.4]]
)
def test_segments_stay_on_the_simplex_and_pass_through_the_point(segments, weights):
    weights = np.array(weights)
    made = list(segments(weights, np.random.default_rng(0)))
    assert bool(made) == (len(weights) > 1)
    for start, end in made:
        for point in (start, end):
            assert point.min() >= 0
            assert point.sum() == pytest.approx(1, abs=1e-12)
        span = end - start
        s = ((weights - start) @ span) / (span @ span)
        assert -1e-12 <= s <= 1 + 1e-12
        assert start + s * span == pytest.approx(weights, abs=1e-12)


# ---- bounds and certificates ----


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("levels", [0, 3, 16])
def test_bounds_hold_for_float32_labels(levels, slow, monkeypatch):
    if slow:
        monkeypatch.setattr(compiled, "library", lambda: None)
    for seed, groups in itertools.product(range(3), (2, 3)):
        condensed = small(groups, seed, 4, 100, levels)
        (parts,) = condensed.batches()
        corners = (
            np.random.default_rng(seed).dirichlet(np.ones(groups), groups) * 0.3
            + 0.7 * np.eye(groups)[seed % groups]
        )
        found = sweep.bound(parts, whole_of(condensed), corners)
        weights = simplex(groups, 60, seed) @ corners
        matrices = condensed.confusions(weights)
        inter, predicted = np.diagonal(matrices, axis1=1, axis2=2), matrices.sum(axis=1)
        assert (inter >= found.right).all()
        assert (inter <= found.right + found.gain).all()
        assert (predicted - inter >= found.wrong).all()
        for convention in CONVENTIONS:
            assert condensed.miou(weights, convention).max() <= upper_bound(
                found, condensed.rows, convention
            )


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_certificates_are_true(groups, convention):
    condensed = small(groups, seed=groups, pixels=150)
    start = Trial((1.0,) * groups, float(condensed.miou([[1.0] * groups], convention)[0]))
    done = certify(condensed, start, convention=convention, gap=0.01)
    dense = condensed.miou(simplex(groups, 4000), convention).max()
    assert done.certificate["complete"]
    assert done.best.miou == condensed.miou([done.best.weights], convention)[0]
    assert dense <= done.certificate["upper_bound"]
    assert done.certificate["upper_bound"] - done.best.miou == done.certificate["gap"] <= 0.01


def test_a_certificate_can_be_interrupted_and_forgets_pixels_when_memory_is_short():
    condensed = small(pixels=400)
    start = Trial((1.0, 1.0, 1.0), float(condensed.miou([[1, 1, 1]])[0]))
    whole = certify(condensed, start, gap=0.005)
    first = certify(condensed, start, gap=0.05)
    assert 0 < first.certificate["boxes"] < whole.certificate["boxes"]
    second = certify(condensed, first.best, gap=0.005, state=json.loads(json.dumps(first.state)))
    assert (second.certificate["upper_bound"], second.best) == (
        whole.certificate["upper_bound"],
        whole.best,
    )
    assert second.certificate["boxes"] == whole.certificate["boxes"]
    forgetful = Condensed(
        condensed.groups, condensed.classes, condensed.videos, condensed.pixels, memory=0
    )
    again = certify(forgetful, start, gap=0.005)
    assert again.certificate["upper_bound"] == pytest.approx(
        whole.certificate["upper_bound"], abs=1e-12
    )


def test_no_time_gives_no_knowledge():
    condensed = small()
    done = certify(condensed, Trial((1.0, 1.0, 1.0), 0.25), time_limit=0.0)
    assert done.certificate["upper_bound"] == 1.0
    assert done.certificate["gap"] == 0.75
    assert not done.certificate["complete"]


def test_what_cannot_be_certified():
    with pytest.raises(InputError, match="4 groups"):
        certify(small(4), Trial((1.0,) * 4, 0.0))
    void = condensed_of(problem(3, 3, 20)[0], np.full(20, 255, np.uint8))
    with pytest.raises(InputError, match="0 scored pixels"):
        certify(void, Trial((1.0,) * 3, 0.0))


# ---- the search ----


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("groups", [2, 3, 6])
def test_never_below_grid_starts_or_trials_and_true_in_float32(groups, convention):
    condensed = small(groups, seed=7, pixels=500)
    given_points = simplex(groups, 30, seed=3)
    found = exact(
        condensed, convention=convention, starts=given_points.tolist(), gap=None, climbs=2
    )
    assert (
        found.miou
        == condensed.miou([found.vector], convention)[0]
        == best_trial(found.history).miou
    )
    assert found.miou >= condensed.miou(given_points, convention).max()
    if groups < 4:
        assert found.miou >= grid(condensed, convention=convention).miou
    assert list(found.weights) == list(condensed.groups)


@pytest.mark.parametrize("seed", range(4))
def test_finds_the_optimum_of_two_groups(seed):
    """Two groups are one segment: every piece can be evaluated."""
    means, targets = problem(2, 3, 80, seed)
    condensed = condensed_of(means, targets)
    at = crossings(means, np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    middles = (at[1:] + at[:-1])[np.diff(at) > 1e-6] / 2
    best = condensed.miou(np.stack([1 - middles, middles], axis=1)).max()
    found = exact(condensed, gap=1e-9)
    assert found.miou >= best
    assert found.certificate["upper_bound"] >= best


def test_same_seed_same_result_and_the_optimum_of_three_groups_is_certified():
    condensed = small(seed=5)
    found = exact(condensed, gap=0.004, seed=3)
    again = exact(condensed, gap=0.004, seed=3)
    assert found.history == again.history
    assert found.certificate["complete"]
    assert condensed.miou(simplex(3, 5000)).max() <= found.certificate["upper_bound"]
    assert json.loads(json.dumps(found.to_json()))["certificate"]["gap"] <= 0.004
    if found.notes.get("piece"):
        ends = condensed.miou([found.notes["piece"]["from"], found.notes["piece"]["to"]])
        assert (ends <= found.miou + 1e-12).all()


def test_no_time_returns_the_best_start_with_an_unknown_gap():
    condensed = small()
    found = exact(condensed, time_limit=0.0)
    assert found.miou == best_trial(found.history).miou >= grid(condensed).miou
    assert found.notes["sweeps"] == 0
    assert found.certificate == {
        "gap": None,
        "upper_bound": 1.0,
        "boxes": 0,
        "seconds": 0.0,
        "complete": False,
    }


def test_an_interrupted_search_goes_on_to_the_same_end(tmp_path, monkeypatch):
    condensed, state = small(seed=11, pixels=600), tmp_path / "state.json"
    whole = exact(condensed, gap=0.01, seed=1)
    sweeps = []
    original = best_on_segment

    def dies(*arguments, **options):
        if len(sweeps) == 7:
            raise KeyboardInterrupt
        sweeps.append(1)
        return original(*arguments, **options)

    with monkeypatch.context() as broken:
        broken.setattr("fusion.search.exact.climb.best_on_segment", dies)
        with pytest.raises(KeyboardInterrupt):
            exact(condensed, gap=0.01, seed=1, state=state)
    kept = json.loads(state.read_text())
    assert kept["step"] >= 1
    found = exact(condensed, gap=0.01, seed=1, state=state)
    assert found.notes["resumed"]
    assert found.notes["sweeps"] < whole.notes["sweeps"]
    assert (found.vector, found.miou) == (whole.vector, whole.miou)
    done = exact(condensed, gap=0.01, seed=1, state=state)
    assert done.notes["sweeps"] == 0
    assert (done.vector, done.certificate["upper_bound"]) == (
        whole.vector,
        whole.certificate["upper_bound"],
    )
    assert {entry.name for entry in tmp_path.iterdir()} == {"state.json"}


def test_states_of_other_data_and_broken_ones_are_refused(tmp_path):
    state = tmp_path / "state.json"
    exact(small(), climbs=1, gap=None, state=state)
    for other in (small(seed=9), small(classes=5)):
        with pytest.raises(InputError, match="other data"):
            exact(other, climbs=1, gap=None, state=state)
    with pytest.raises(InputError, match="other data"):
        exact(small(), convention="union", state=state)
    for text in ("{", "[]", "{}"):
        state.write_text(text)
        with pytest.raises(StoreError, match="no state"):
            exact(small(), state=state)
    with pytest.raises(StoreError, match="cannot be written"):
        exact(small(), climbs=1, state=tmp_path / "nowhere" / "state.json")


def test_wrong_options():
    for options in (
        {"climbs": -1},
        {"time_limit": -1.0},
        {"time_limit": float("nan")},
        {"gap": 1.5},
        {"convention": "x"},
    ):
        with pytest.raises(InputError):
            exact(small(), **options)
    with pytest.raises(InputError, match="weights"):
        exact(small(), starts=[[1.0, 2.0]])


def test_one_group():
    found = exact(small(1))
    assert found.weights == {"g0": 1.0}
    assert found.certificate["complete"]


def test_all_uncontested_and_equal_models():
    means, targets = problem(1, 4, 200)
    condensed = condensed_of(np.repeat(means, 3, axis=0), targets)
    found = exact(condensed)
    assert found.miou == condensed.miou([[1, 1, 1]])[0]
    assert found.certificate["gap"] < 1e-9


def test_all_void_has_no_score():
    found = exact(condensed_of(problem(3, 3, 30)[0], np.full(30, 255, np.uint8)))
    assert np.isnan(found.miou)
    assert found.certificate is None
    assert found.to_json()["miou"] is None


def test_a_class_without_pixels():
    means, targets = problem(3, 4, 300)
    targets[targets == 2] = 255
    for convention in CONVENTIONS:
        condensed = condensed_of(means, targets)
        found = exact(condensed, convention=convention, gap=0.05)
        assert (
            condensed.miou(simplex(3, 2000), convention).max() <= found.certificate["upper_bound"]
        )


# ---- results ----


def test_results_as_json_and_the_best_of_ties():
    trials = (Trial((1.0, 0.0), float("nan")), Trial((1.0, 1.0), 0.5), Trial((2.0, 1.0), 0.5))
    assert best_trial(trials) == trials[1]
    result = SearchResult("grid", ("a", "b"), (1.0, 1.0), 0.5, "vspw", trials, held_out=0.45)
    plain = json.loads(json.dumps(result.to_json()))
    assert plain["weights"] == {"a": 1.0, "b": 1.0}
    assert plain["interval"] is None
    assert plain["history"][0] == [[1.0, 0.0], None]
    assert reference.normalised(result.vector) == [0.5, 0.5]
