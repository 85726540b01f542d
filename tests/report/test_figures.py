"""Every figure keeps the contract, and its words are true: numbers by other ways than its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fusion.report.facts import Contender, Estimate, Plane
from fusion.report.figures import FIGURES
from fusion.report.figures.chart import apart, series_of
from fusion.report.figures.plane import _outline, _thinned
from fusion.report.figures.style import FOUND, SINGLE, TOKENS, UNIFORM
from tests.report.contract import FigureContract
from tests.report.example import NASTY, full, hostile, tiny


def of(values, name):
    return np.array([getattr(value, name) for value in values], float)


class TestLadder(FigureContract):
    name = "ladder"

    def numbers(self, facts):
        return ["56.6", "61.2 [57.7, 64.7]", "+4.6", "55.2", "59.8 [55.7, 63.9]"]


class TestContenders(FigureContract):
    name = "contenders"

    def numbers(self, facts):
        return ["weights + multipliers, 60.8 [57.3, 64.3]", "the best single model, 56.4"]


class TestGains(FigureContract):
    name = "gains"

    def numbers(self, facts):
        said = ["+1.1 [+0.4, +1.8] (real)", "+0.3 [\u22120.1, +0.7] (not distinguishable)"]
        return [*said, "\u22123.3 [\u22124.2, \u22122.4] (a real loss)"]

    def test_a_gain_without_an_interval_is_not_called_real(self):
        facts = replace(tiny(), contenders=(Contender("a", Estimate(0.5), Estimate(0.1)),))
        assert "+10.0 (no interval)" in self.figure.alt(facts)


class TestPlane(FigureContract):
    name = "plane"

    def numbers(self, facts):
        share = f"{100 * np.mean(facts.plane.scores > 0.609):.0f} % of the grid"
        low, high = (f"{100 * edge:.1f}" for edge in np.percentile(facts.plane.scores, [0, 100]))
        return ["weak 1.41", "auxiliary 0.948", "61.2", "61.3", share, f"{low} to {high}", "0.95."]

    def test_the_outline_is_the_border_of_the_region(self):
        inside = np.zeros((3, 4), bool)
        inside[1, 1:3] = True
        rows = _outline(inside, np.arange(5.0), np.arange(4.0))[0]["data"]["values"]
        drawn = {((row["a"], row["c"]), (row["b"], row["d"])) for row in rows}
        across = {((x, y), (x + 1, y)) for x in (1.0, 2.0) for y in (1.0, 2.0)}
        assert drawn == across | {((x, 1.0), (x, 2.0)) for x in (1.0, 3.0)}

    def test_fine_grids_are_thinned_to_points_that_are_there(self):
        x = np.linspace(0, 2, 201)
        fine = Plane("a", ("b", "c"), x, x[:5], np.arange(1005.0).reshape(5, 201), (1, 1, 1))
        thin = _thinned(fine)
        assert thin.scores.shape == (5, len(thin.x)) == (5, 51)
        np.testing.assert_array_equal(thin.scores, fine.scores[:, np.searchsorted(x, thin.x)])


def line():
    """Two groups, of which one weight moves."""
    x = np.linspace(0, 2, 5)
    scores = np.array([[0.6, 0.65, 0.66, 0.655, 0.61]])
    inside = np.array([[False, True, True, False, True]])
    return Plane("a", ("b", ""), x, np.zeros(1), scores, (0.93, 0, 0.6612), None, inside, 0.67)


class TestWeightLine(FigureContract):
    name = "weight_line"

    def example(self):
        return replace(full(), plane=line())

    def nasty(self):
        return replace(hostile(), plane=replace(line(), axes=(NASTY[0], ""), fixed=NASTY[1]))

    def numbers(self, facts):
        said = ["b relative to a is 0.93", "66.1 %", "67.0 %", "60.0 to 66.0"]
        return [*said, "weights from 0.5 to 2."]

    def test_it_takes_the_place_of_the_plane(self, facts):
        assert not FIGURES["plane"].shown(facts)
        assert not self.figure.shown(full())

    def test_bands_are_the_stretches_that_are_plausible(self, facts):
        rows = self.figure.spec(facts, 780)["layer"][0]["data"]["values"]
        assert rows == [{"x": 0.5, "end": 1.0}, {"x": 2.0, "end": 2.0}]


class TestWeights(FigureContract):
    name = "weights"

    def numbers(self, facts):
        return ["weak 1.4", "strong 1", "auxiliary 0.95"]


class TestMultipliers(FigureContract):
    name = "multipliers"

    def numbers(self, facts):
        values = np.array(list(facts.multipliers.values()))
        names, top = list(facts.multipliers), int(values.argmax())
        counts = [f"{(values > 1).sum()} have", f"{(values < 1).sum()} below"]
        return [*counts, f"{names[top]} {values[top]:.3g}", f"{values.min():.3g}"]

    def test_thresholds_are_called_thresholds(self):
        thresholds = {"a": 0.35, "b": 0.5, "c": 0.7}
        facts = replace(tiny(), multipliers=thresholds, decision="threshold")
        said = (
            "Of 3 classes 1 have a threshold above 0.5 and 1 below; highest c 0.7, lowest a 0.35."
        )
        assert self.figure.alt(facts) == said
        assert {row["start"] for row in self.figure.spec(facts, 780)["data"]["values"]} == {0.5}
        assert not self.figure.shown(replace(facts, multipliers={"a": 0.5}))


class TestClassChanges(FigureContract):
    name = "class_changes"

    def numbers(self, facts):
        change = of(facts.classes, "found") - of(facts.classes, "single")
        best = facts.classes[int(np.nanargmax(change))]
        gained = f"{(change > 0).sum()} of {np.isfinite(change).sum()} classes gain IoU on test"
        return [gained, f"{(change < 0).sum()} lose", f"{best.name} +{100 * np.nanmax(change):.1f}"]

    def test_dice_is_not_called_iou(self):
        assert "gain Dice" in self.figure.alt(tiny())

    def test_it_is_said_whether_the_ensemble_was_chosen_on_these_videos(self):
        assert "On test, which nothing was chosen on." in self.figure.caption(full())
        facts = tiny()
        assert "chosen on: new videos gain less." in self.figure.caption(facts)
        held = replace(facts, classes=(replace(facts.classes[0], held_out=0.7),))
        assert "chosen on: held-out scores stand in the table." in self.figure.caption(held)


class TestClassRarity(FigureContract):
    name = "class_rarity"

    def numbers(self, facts):
        there = [row for row in facts.classes if row.pixels]
        order = np.argsort(of(there, "pixels"))
        change = (of(there, "found") - of(there, "single"))[order]
        half = len(order) // 2
        means = [f"+{100 * part.mean():.1f}" for part in (change[:half], change[half:])]
        return [f"{half} rarest", *means, f"{int(of(there, 'pixels').max()):,}"]


class TestContributions(FigureContract):
    name = "contributions"

    def numbers(self, facts):
        adds = of(facts.models, "adds")
        best = facts.models[int(adds.argmax())].name
        return [f"{best} adds most, +{100 * adds.max():.1f}", f"{(adds < 0).sum()} of 22"]


class TestSimilarity(FigureContract):
    name = "similarity"

    def numbers(self, facts):
        shares = facts.similarity.shares.copy()
        mean = (shares.sum() - np.trace(shares)) / (shares.size - len(shares))
        np.fill_diagonal(shares, np.nan)
        ends = [f"({100 * end:.0f} %)" for end in (np.nanmax(shares), np.nanmin(shares))]
        return [f"{100 * mean:.0f} %", *ends]

    def test_rows_columns_and_leaves_come_in_one_order(self, facts):
        tree, heat = self.figure.spec(facts, 780)["vconcat"]
        names = list(facts.similarity.models)
        assert all(heat["encoding"][axis]["scale"]["domain"] == names for axis in ("x", "y"))
        leaves = {row["x"] for row in tree["data"]["values"]}
        assert {n + 0.5 for n in range(22)} <= leaves

    def test_brackets_do_not_cross(self, facts):
        """In the order of the clustering every cluster is a range of leaves."""
        clusters = [{n} for n in range(22)]
        for one, two, _, size in facts.similarity.linkage:
            clusters.append(clusters[int(one)] | clusters[int(two)])
            assert max(clusters[-1]) - min(clusters[-1]) + 1 == size == len(clusters[-1])


class TestVideos(FigureContract):
    name = "videos"

    def numbers(self, facts):
        change = of(facts.videos, "found") - of(facts.videos, "single")
        best = facts.videos[int(change.argmax())].name
        said = [f"{(change > 0).sum()} of 60 videos", f"+{100 * change.mean():.1f}"]
        return [*said, f"{best} (+{100 * change.max():.1f})"]


class TestConfusions(FigureContract):
    name = "confusions"

    def numbers(self, facts):
        return [
            "9 pairs",
            "6 are",
            "less often on test",
            "3 more",
            "(90,000 to 59,000)",
            "(78,000 to 87,000)",
        ]


def test_systems_keep_their_colours():
    names = ["best single", "uniform weights", "what was found", "another"]
    domain = series_of(names, 780)["color"]["scale"]
    assert domain["range"][:3] == [SINGLE, UNIFORM, FOUND]
    assert len(set(domain["range"])) == 4
    assert series_of(["val", "test"], 780)["color"]["scale"]["range"][0] == FOUND


class TestCalibration(FigureContract):
    name = "calibration"

    def numbers(self, facts):
        said = []
        for curve in facts.calibration:
            over = ((curve.confidence - curve.accuracy) * curve.share).sum()
            said.append(f"{curve.name}: expected calibration error {100 * curve.ece:.1f} %")
            said.append(f"too sure by {100 * over:.1f} points")
        return said

    def test_bins_without_pixels_are_not_drawn(self):
        facts = full()
        curve = facts.calibration[0]
        accuracy = np.where(np.arange(10) < 4, np.nan, curve.accuracy)
        facts = replace(facts, calibration=(replace(curve, accuracy=accuracy),))
        assert len(self.figure.spec(facts, 780)["data"]["values"]) == 6


class TestFront8(FigureContract):
    name, consistency = "front_vc8", "vc8"

    def numbers(self, facts):
        values, scores = of(facts.front, self.consistency), of(facts.front, "score")
        on_front = sum(
            not any((scores > s) & (values >= v) | (scores >= s) & (values > v))
            for s, v in zip(scores, values, strict=True)
        )
        best, steadiest = (facts.front[int(each.argmax())].name for each in (scores, values))
        said = [f"Best score: {best}", f"most consistent: {steadiest}", "chosen: flow, 0.8"]
        return [*said, f"{on_front} are on the front", f"{100 * values.max():.1f}"]


class TestFront16(TestFront8):
    name, consistency = "front_vc16", "vc16"


def test_names_that_would_lie_on_each_other_are_left_out():
    rows = [
        {"name": "first", "x": 0, "y": 0},
        {"name": "upon it", "x": 1, "y": 1},
        {"name": "above it", "x": 1, "y": 50},
        {"name": "far", "x": 100, "y": 0},
    ]
    assert [row["name"] for row in apart(rows, "x", "y", (500, 300))] == [
        "first",
        "above it",
        "far",
    ]


def test_every_figure_has_a_contract():
    def all_of(kind):
        return {kind, *(each for sub in kind.__subclasses__() for each in all_of(sub))}

    tested = {getattr(each, "name", None) for each in all_of(FigureContract)}
    assert tested - {None} == set(FIGURES)


def contrast(one: str, two: str) -> float:
    """By WCAG 2, of #rrggbb."""

    def luminance(colour: str) -> float:
        parts = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
def test_contrasts(theme):
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    colours = {name: pair[theme] for name, pair in TOKENS.items()}
    for behind in ("surface", "raised"):
        for words in ("ink", "muted", "found", "single"):  # gains and losses are words, too
            assert contrast(colours[words], colours[behind]) >= 4.5, (words, behind)
        for marks in ("uniform", "test", "other", "extra"):
            assert contrast(colours[marks], colours[behind]) >= 3, (marks, behind)
