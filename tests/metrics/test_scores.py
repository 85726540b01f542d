"""Scores, against loops that spell the formulas out, and answers worked out by hand."""

from __future__ import annotations

import json
import math
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import InputError
from fusion.metrics import CONVENTIONS, OBJECTIVES, Scores, confusion, miou, objective
from tests.metrics.oracles import names, random_matrices, slow_miou

HAND_TARGETS, HAND_LABELS = [0, 0, 0, 1], [0, 0, 3, 1]
TOTALS = ("miou", "fwiou", "video_miou", "pixel_accuracy", "mean_accuracy")
HAND_MIOU = {"vspw": 5 / 6, "union": 5 / 9, "all": 5 / 12}


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_hand_made_case(convention):
    scores = Scores({"v": confusion(HAND_TARGETS, HAND_LABELS, 4)}, names(4), convention)
    assert scores.miou == pytest.approx(HAND_MIOU[convention], abs=1e-15)
    assert scores.pixel_accuracy == 0.75
    assert scores.mean_accuracy == pytest.approx((2 / 3 + 1) / 2, abs=1e-15)
    assert scores.fwiou == pytest.approx(0.75 * 2 / 3 + 0.25, abs=1e-15)
    np.testing.assert_allclose(scores.class_iou, [2 / 3, 1, np.nan, 0])
    np.testing.assert_allclose(scores.class_accuracy, [2 / 3, 1, np.nan, np.nan])


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
    unions = [rows[k] + total[:, k].sum() - total[k, k] for k in range(5)]
    iou = [total[k, k] / unions[k] if unions[k] else math.nan for k in range(5)]
    np.testing.assert_allclose(scores.class_iou, iou)
    present = [k for k in range(5) if rows[k]]
    fwiou = sum(rows[k] / rows.sum() * iou[k] for k in present)
    assert scores.fwiou == pytest.approx(fwiou)
    assert scores.mean_accuracy == pytest.approx(np.mean([total[k, k] / rows[k] for k in present]))
    assert scores.pixel_accuracy == pytest.approx(sum(total[k, k] for k in range(5)) / total.sum())
    for convention in CONVENTIONS:
        other = scores.with_convention(convention)
        assert other.miou == pytest.approx(slow_miou(total, convention))
        by_video = {v: slow_miou(m, convention) for v, m in found.items()}
        assert other.per_video == pytest.approx(by_video)
        assert other.video_miou == pytest.approx(np.mean(list(by_video.values())))
    assert scores.convention == "vspw"


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(6)))
def test_order_of_videos_changes_no_bit(order):
    found = random_matrices(1, 6, 4)
    keys = list(found)
    shuffled = {keys[i]: found[keys[i]] for i in order}
    first, second = Scores(found, names(4)), Scores(shuffled, names(4))
    units = {key: "even" if key[-1] in "024" else key for key in keys}
    for wanted in OBJECTIVES:
        first, second = first.with_convention(wanted), second.with_convention(wanted)
        for name in ("score", *TOTALS):
            assert getattr(first, name) == getattr(second, name)
        for grouped in (None, units):
            assert first.interval(units=grouped) == second.interval(units=grouped)
            foreseen = (each.prediction_interval(3, units=grouped) for each in (first, second))
            assert len(set(foreseen)) == 1
            assert first.difference_interval(second, units=grouped) == (0, 0)


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


def test_the_score_is_the_objective_and_miou_stays_miou():
    found = random_matrices(0, 3, 4, absent=(1,))
    matrices = np.stack(list(found.values()))
    for convention in CONVENTIONS:
        scores = Scores(found, names(4), convention)
        assert scores.score == scores.miou
    chosen = objective("case-dice-monai", {"class 0": 2.0, "class 3": 0.5}, names(4))
    scores = Scores(found, names(4), chosen)
    assert scores.score == chosen.of(matrices) != scores.miou
    assert scores.miou == Scores(found, names(4)).miou
    assert scores.per_video == Scores(found, names(4)).per_video
    assert Scores(found, names(4), "fwiou").score == Scores(found, names(4)).fwiou
    assert "score=" in repr(scores)
    assert f"by {chosen.name!r}" in repr(scores)
    plain = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    said = "case-dice-monai(class 0=2, class 3=0.5)"
    assert (plain["convention"], plain["score"]) == (said, scores.score)
    assert pickle.loads(pickle.dumps(scores)).score == scores.score
    half = Scores({"video_0": found["video_0"]}, names(4), chosen)
    rest = {video: found[video] for video in ("video_1", "video_2")}
    assert (half + Scores(rest, names(4), chosen)).score == scores.score
    with pytest.raises(InputError, match=r"'case-dice-monai\(class 0=2.*' and 'case-dice-monai';"):
        half + Scores(rest, names(4), "case-dice-monai")
    low, high = scores.interval()
    assert low < scores.score < high


def test_no_pixel_scored_is_nan_and_said_once():
    with pytest.warns(UserWarning, match="no pixel was scored in 1 videos"):
        scores = Scores({"v": np.zeros((3, 3), dtype=np.int64)}, names(3))
    for convention in CONVENTIONS:  # any further warning would be an error here
        other = scores.with_convention(convention)
        for name in TOTALS:
            assert math.isnan(getattr(other, name))
    assert np.isnan(scores.class_iou).all()
    assert np.isnan(scores.interval()).all()
    plain = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    assert (plain["class_iou"], plain["miou"]) == (dict.fromkeys(names(3)), None)
    with pytest.warns(UserWarning, match="no pixel was scored in 0 videos"):
        assert math.isnan(Scores({}, names(3)).miou)


def test_a_void_video_among_others_is_left_out_of_video_miou():
    found = {**random_matrices(4, 3, 3), "void": np.zeros((3, 3), dtype=np.int64)}
    scores = Scores(found, names(3))
    assert math.isnan(scores.per_video["void"])
    known = [slow_miou(m, "vspw") for v, m in found.items() if v != "void"]
    assert scores.video_miou == pytest.approx(np.mean(known))


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


def test_class_table():
    table = Scores({"v": np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])}, names(3)).class_table()
    assert [line.split() for line in table.splitlines()] == [
        ["class", "IoU", "%", "Dice", "%", "accuracy", "%", "pixels"],
        ["-" * 7, "-" * 5, "-" * 6, "-" * 10, "-" * 6],
        ["class", "0", "75.00", "85.71", "75.00", "4"],  # 6 / 7
        ["class", "1", "80.00", "88.89", "100.00", "4"],  # 8 / 9
        ["class", "2", "nan", "nan", "nan", "0"],
    ]


def test_as_data_frames():
    scores = Scores(random_matrices(0, 7, 5, absent=(1, 3)), names(5))
    frame = scores.to_pandas()
    assert list(frame.columns) == ["class", "iou", "dice", "accuracy", "pixels"]
    assert list(frame["class"]) == names(5)
    columns = {"iou": scores.class_iou, "dice": scores.class_dice}
    columns["accuracy"] = scores.class_accuracy
    for name, expected in columns.items():
        np.testing.assert_array_equal(frame[name], expected)
    assert frame["pixels"].sum() == scores.confusion.sum()
    assert frame["pixels"].dtype == np.int64
    videos = scores.to_pandas(by="videos").set_index("video")
    assert videos["miou"].to_dict() == pytest.approx(scores.per_video)
    assert videos["pixels"].sum() == scores.confusion.sum()
    with pytest.raises(InputError, match="got by='frames'; choose one of classes, videos"):
        scores.to_pandas(by="frames")


def test_without_pandas_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    scores = Scores({"v": confusion(HAND_TARGETS, HAND_LABELS, 4)}, names(4))
    with pytest.raises(InputError, match=r"to_pandas needs pandas.*pip install pandas"):
        scores.to_pandas()


def test_notebooks_show_the_classes_escaped():
    scores = Scores({"v": confusion(HAND_TARGETS, HAND_LABELS, 4)}, ["<a>", "b", "c", "d&e"])
    shown = scores._repr_html_()
    assert "&lt;a&gt;" in shown
    assert "d&amp;e" in shown
    assert "<a>" not in shown
    assert shown.count("<tr>") == 5
    assert "<td>66.67</td>" in shown
    assert "miou=0.8333" in shown
