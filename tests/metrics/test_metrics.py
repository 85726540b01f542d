"""Confusion matrices and scores, against torchmetrics, loops that spell the formulas out, and answers worked out by hand."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchmetrics import JaccardIndex

from fusion.errors import InputError
from fusion.metrics import CONVENTIONS, Scores, class_iou, confusion, miou, miou_of_counts

HAND_TARGETS, HAND_LABELS = [0, 0, 0, 1], [0, 0, 3, 1]
HAND_MIOU = {"vspw": 5 / 6, "union": 5 / 9, "all": 5 / 12}


def slow_confusion(targets, labels, classes, ignore=255):
    matrix = np.zeros((classes, classes), dtype=np.int64)
    for t, p in zip(np.ravel(targets).tolist(), np.ravel(labels).tolist(), strict=True):
        if t != ignore:
            matrix[t, p] += 1
    return matrix


def slow_miou(matrix, convention):
    total, members = 0.0, 0
    for k in range(len(matrix)):
        row, column = int(matrix[k].sum()), int(matrix[:, k].sum())
        union = row + column - int(matrix[k, k])
        inside = {"vspw": row > 0, "union": row + column > 0, "all": True}[convention]
        if inside:
            members += 1
            total += int(matrix[k, k]) / union if union else 0.0
    return total / members if matrix.sum() else math.nan


def random_matrices(seed, videos, classes, absent=()):
    rng = np.random.default_rng(seed)
    found = {}
    for v in range(videos):
        matrix = rng.integers(0, 1000, (classes, classes))
        matrix[list(absent)] = 0
        matrix[:, list(absent)[:1]] = 0
        found[f"video_{v}"] = matrix
    return found


def names(classes):
    return [f"class {c}" for c in range(classes)]


matrices = st.integers(1, 6).flatmap(
    lambda c: arrays(np.int64, (c, c), elements=st.integers(0, 50) | st.just(0))
)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint16])
def test_confusion_equals_a_loop_and_drops_void(dtype):
    rng = np.random.default_rng(0)
    targets = rng.choice([0, 1, 2, 3, 255], (3, 8, 5)).astype(dtype)
    labels = rng.integers(0, 4, (3, 8, 5)).astype(dtype)
    labels[targets == 255] = 200  # whatever is predicted at void
    matrix = confusion(targets, labels, 4)
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(matrix, slow_confusion(targets, labels, 4))


def test_confusion_beyond_255_classes():
    targets = np.array([300, 299, 65535, 255], dtype=np.uint16)
    labels = np.array([300, 0, 65535, 255], dtype=np.uint16)
    matrix = confusion(targets, labels, 301, ignore=65535)
    assert matrix.sum() == 3
    assert matrix[300, 300] == matrix[299, 0] == matrix[255, 255] == 1


def test_confusion_counts_the_same_in_blocks(monkeypatch):
    rng = np.random.default_rng(1)
    targets, labels = rng.integers(0, 5, 1000), rng.integers(0, 5, 1000)
    whole = confusion(targets, labels, 5)
    monkeypatch.setattr(sys.modules["fusion.metrics.confusion"], "_BLOCK", 37)
    np.testing.assert_array_equal(confusion(targets, labels, 5), whole)


@pytest.mark.parametrize(
    ("targets", "labels", "classes", "message"),
    [
        ([0, 7, 9], [0, 0, 0], 4, "targets hold 7, 9 outside 0..3"),
        ([0, 1, 1], [0, 4, 255], 4, "labels hold 4, 255 outside 0..3"),
        ([0, 1], [0, -1], 4, "labels hold -1 outside"),
        ([-1, 1], [0, 0], 4, "targets hold -1 outside"),
        ([0, 1], [0], 4, "one shape"),
        ([0.0, 1.0], [0, 1], 4, "targets are float64"),
        ([0, 1], [0, 1], 0, "classes is 0"),
    ],
)
def test_confusion_refuses(targets, labels, classes, message):
    with pytest.raises(InputError, match=message):
        confusion(targets, labels, classes)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_hand_made_case(convention):
    scores = Scores({"v": confusion(HAND_TARGETS, HAND_LABELS, 4)}, names(4), convention)
    assert scores.miou == pytest.approx(HAND_MIOU[convention], abs=1e-15)
    assert scores.pixel_accuracy == 0.75
    assert scores.mean_accuracy == pytest.approx((2 / 3 + 1) / 2, abs=1e-15)
    assert scores.fwiou == pytest.approx(0.75 * 2 / 3 + 0.25, abs=1e-15)
    np.testing.assert_allclose(scores.class_iou, [2 / 3, 1, np.nan, 0])
    np.testing.assert_allclose(scores.class_accuracy, [2 / 3, 1, np.nan, np.nan])


@settings(deadline=None, max_examples=60)
@given(matrices, st.sampled_from(CONVENTIONS))
def test_miou_equals_the_formula(matrix, convention):
    np.testing.assert_allclose(miou(matrix, convention), slow_miou(matrix, convention), rtol=1e-14)


@pytest.mark.parametrize("absent", [(), (2, 4)])
def test_union_is_torchmetrics_macro(absent):
    rng = np.random.default_rng(3)
    classes = 6
    present = [c for c in range(classes) if c not in absent]
    targets = rng.choice([*present, 255], 5000)
    labels = rng.choice(present, 5000)
    oracle = JaccardIndex(task="multiclass", num_classes=classes, ignore_index=255, average="macro")
    expected = float(oracle(torch.from_numpy(labels), torch.from_numpy(targets)))
    assert float(miou(confusion(targets, labels, classes), "union")) == pytest.approx(
        expected, abs=1e-6
    )


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from(CONVENTIONS))
def test_a_batch_gives_the_bits_of_its_members(seed, classes, convention):
    batch = np.random.default_rng(seed).integers(0, 99, (5, classes, classes))
    one_by_one = np.array([miou(matrix, convention) for matrix in batch])
    np.testing.assert_array_equal(miou(batch, convention), one_by_one)
    np.testing.assert_array_equal(miou(np.asfortranarray(batch), convention), one_by_one)
    counts = np.einsum("bcc->bc", batch), batch.sum(axis=2), batch.sum(axis=1)
    np.testing.assert_array_equal(
        miou_of_counts(*map(np.asfortranarray, counts), convention), one_by_one
    )
    assert class_iou(batch).shape == (5, classes)


def test_more_pixels_than_32_bits():
    matrix = np.array([[2**40, 2**39], [0, 2**38]])
    assert float(miou(matrix)) == pytest.approx((2 / 3 + 1 / 3) / 2, abs=1e-15)
    assert Scores({"v": matrix}, names(2)).to_json()["pixels"] == 2**40 + 2**39 + 2**38


def test_scores_equal_loops():
    found = random_matrices(0, 7, 5, absent=(1, 3))
    scores = Scores(found, names(5))
    total = sum(found.values())
    np.testing.assert_array_equal(scores.confusion, total)
    rows = total.sum(axis=1)
    iou = [
        total[k, k] / (rows[k] + total[:, k].sum() - total[k, k])
        if rows[k] + total[:, k].sum()
        else math.nan
        for k in range(5)
    ]
    np.testing.assert_allclose(scores.class_iou, iou)
    assert scores.fwiou == pytest.approx(
        sum(rows[k] / rows.sum() * iou[k] for k in range(5) if rows[k])
    )
    assert scores.mean_accuracy == pytest.approx(
        np.mean([total[k, k] / rows[k] for k in range(5) if rows[k]])
    )
    assert scores.pixel_accuracy == pytest.approx(sum(total[k, k] for k in range(5)) / total.sum())
    for convention in CONVENTIONS:
        other = scores.with_convention(convention)
        assert other.miou == pytest.approx(slow_miou(total, convention))
        assert other.per_video == pytest.approx(
            {v: slow_miou(m, convention) for v, m in found.items()}
        )
        assert other.video_miou == pytest.approx(
            np.mean([slow_miou(m, convention) for m in found.values()])
        )
    assert scores.convention == "vspw"


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(6)))
def test_order_of_videos_changes_no_bit(order):
    found = random_matrices(1, 6, 4)
    keys = list(found)
    first, second = (
        Scores(found, names(4)),
        Scores({keys[i]: found[keys[i]] for i in order}, names(4)),
    )
    for name in ("miou", "fwiou", "video_miou", "pixel_accuracy", "mean_accuracy"):
        assert getattr(first, name) == getattr(second, name)
    assert first.interval(samples=20) == second.interval(samples=20)
    assert first.difference_interval(second, samples=20) == (0, 0)


@settings(deadline=None, max_examples=30)
@given(
    arrays(np.uint8, (2, 5, 5), elements=st.sampled_from([0, 1, 2, 255])),
    arrays(np.uint8, (2, 5, 5), elements=st.integers(0, 2)),
)
def test_confusion_adds_up(targets, labels):
    whole = confusion(targets, labels, 3)
    np.testing.assert_array_equal(
        whole, confusion(targets[0], labels[0], 3) + confusion(targets[1], labels[1], 3)
    )


def test_scores_add_up():
    found = random_matrices(2, 5, 4)
    keys = list(found)
    left, right = ({k: found[k] for k in part} for part in (keys[:2], keys[2:]))
    both = Scores(left, names(4)) + Scores(right, names(4))
    assert both.to_json() == Scores(found, names(4)).to_json()
    with pytest.raises(InputError, match="video_0"):
        both + Scores(left, names(4))
    with pytest.raises(InputError, match="with_convention"):
        Scores(left, names(4)) + Scores(right, names(4), "union")
    with pytest.raises(InputError, match="name or order"):
        Scores(left, names(4)) + Scores(right, names(4)[::-1])


def test_no_pixel_scored_is_nan_and_said_once():
    with pytest.warns(UserWarning, match="no pixel was scored in 1 videos"):
        scores = Scores({"v": np.zeros((3, 3), dtype=np.int64)}, names(3))
    for convention in CONVENTIONS:  # any further warning would be an error here
        other = scores.with_convention(convention)
        for name in ("miou", "fwiou", "video_miou", "pixel_accuracy", "mean_accuracy"):
            assert math.isnan(getattr(other, name))
    assert np.isnan(scores.class_iou).all()
    assert np.isnan(scores.interval()).all()
    assert json.loads(json.dumps(scores.to_json(), allow_nan=False))["class_iou"] == dict.fromkeys(
        names(3)
    )
    assert scores.to_json()["miou"] is None
    with pytest.warns(UserWarning, match="no pixel was scored in 0 videos"):
        assert math.isnan(Scores({}, names(3)).miou)


def test_a_void_video_among_others_is_left_out_of_video_miou():
    found = {**random_matrices(4, 3, 3), "void": np.zeros((3, 3), dtype=np.int64)}
    scores = Scores(found, names(3))
    assert math.isnan(scores.per_video["void"])
    assert scores.video_miou == pytest.approx(
        np.mean([slow_miou(m, "vspw") for v, m in found.items() if v != "void"])
    )


def test_scores_are_theirs_and_plain():
    matrix = np.array([[3, 1], [0, 4]])
    scores = Scores({"v": matrix}, names(2))
    matrix[:] = 0
    assert scores.confusion.tolist() == [[3, 1], [0, 4]]
    with pytest.raises(ValueError, match="read-only"):
        scores.confusions["v"][0, 0] = 9
    with pytest.raises(ValueError, match="read-only"):
        scores.confusion[0, 0] = 9
    assert pickle.loads(pickle.dumps(scores)).to_json() == scores.to_json()
    plain = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    assert plain["pixel_accuracy"] == 7 / 8
    assert plain["class_iou"] == {"class 0": 3 / 4, "class 1": 4 / 5}
    assert "miou=0.7750 by 'vspw'" in repr(scores)


@pytest.mark.parametrize(
    ("matrix", "classes", "convention", "message"),
    [
        (np.zeros((2, 3), dtype=int), 2, "vspw", r"'v' has int64 \[2, 3\]; give integer \[2, 2\]"),
        (np.zeros((3, 3), dtype=int), 2, "vspw", r"give integer \[2, 2\]"),
        (np.ones((2, 2)), 2, "vspw", "float64"),
        (-np.eye(2, dtype=int), 2, "vspw", "negative"),
        (np.eye(2, dtype=int), 2, "macro", "convention: got 'macro'"),
        (np.zeros((0, 0), dtype=int), 0, "vspw", "0 names"),
    ],
)
def test_scores_refuse(matrix, classes, convention, message):
    with pytest.raises(InputError, match=message):
        Scores({"v": matrix}, names(classes), convention)


def test_names_are_unique():
    with pytest.raises(InputError, match="2 names, 1 different"):
        Scores({"v": np.eye(2, dtype=int)}, ["road", "road"])


def slow_bootstrap(found, convention, samples, seed, level):
    keys = sorted(found)
    draws = np.random.default_rng(seed).integers(0, len(keys), size=(samples, len(keys)))
    values = [slow_miou(sum(found[keys[i]] for i in draw), convention) for draw in draws.tolist()]
    return values, np.percentile(values, [50 * (1 - level), 50 * (1 + level)])


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_interval_equals_a_loop(convention):
    found, other = random_matrices(5, 8, 4, absent=(2,)), random_matrices(6, 8, 4, absent=(2,))
    for video, matrix in other.items():  # the same targets in both
        matrix[:] = (
            np.diag(found[video].sum(axis=1))
            if video == "video_0"
            else np.roll(found[video], 1, axis=1)
        )
    scores, rival = Scores(found, names(4), convention), Scores(other, names(4), convention)
    mine, expected = slow_bootstrap(found, convention, 200, 7, 0.9)
    np.testing.assert_allclose(scores.interval(0.9, 200, 7), expected, rtol=1e-12)
    theirs, _ = slow_bootstrap(other, convention, 200, 7, 0.9)
    paired = np.percentile(np.subtract(mine, theirs), [5, 95])
    np.testing.assert_allclose(scores.difference_interval(rival, 0.9, 200, 7), paired, rtol=1e-9)
    low, high = scores.interval()
    assert low <= scores.miou <= high


def test_interval_of_one_video_is_unknown():
    scores = Scores(random_matrices(0, 1, 3), names(3))
    assert np.isnan(scores.interval()).all()
    assert np.isnan(scores.difference_interval(scores)).all()


def test_a_void_video_does_not_widen_the_interval():
    found = random_matrices(0, 5, 3)
    padded = {**found, "a void one": np.zeros((3, 3), dtype=np.int64)}
    assert Scores(found, names(3)).interval(samples=50) == Scores(padded, names(3)).interval(
        samples=50
    )


def test_intervals_refuse():
    found = random_matrices(0, 3, 3)
    scores = Scores(found, names(3))
    with pytest.raises(InputError, match="level is 95"):
        scores.interval(95)
    with pytest.raises(InputError, match="samples is 0"):
        scores.interval(samples=0)
    with pytest.raises(InputError, match="'video_2' is in one of the two only"):
        scores.difference_interval(Scores({k: found[k] for k in list(found)[:2]}, names(3)))
    with pytest.raises(InputError, match="'video_0' was scored against other targets"):
        scores.difference_interval(Scores({k: m + 1 for k, m in found.items()}, names(3)))


def test_imports_are_light():
    code = (
        "import sys, fusion.metrics, fusion.labels; "
        "assert not {'dask', 'torch', 'PIL', 'distributed', 'tqdm', 'zarr'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
