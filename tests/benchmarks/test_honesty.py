"""The honesty benchmark runs, and its populations are what they say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import choices, honesty, planted
from fusion.search.folds import UNIFORM


def test_every_scene_is_searched(monkeypatch, capsys):
    monkeypatch.delenv("SEGFUSION_DATA", raising=False)
    monkeypatch.setattr(honesty, "SCENES", (honesty.SCENES[0], honesty.SCENES[-1]))
    assert honesty.main(["--quick", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["level, 8 videos, classes alike", honesty.SCENES[-1].name]
    plain, full = found.values()
    assert plain["searches"] == full["searches"] == sum(plain["chosen"].values()) == 2
    assert "kept" not in plain
    assert set(full) >= {*honesty.COLUMNS, "scores"}
    assert plain["scores"][UNIFORM] == pytest.approx(plain["scores"]["the recommended one"])
    assert "| claims | false |" in honesty.table(found)


def test_a_population_that_is_not_level_gets_no_figure(monkeypatch):
    monkeypatch.setitem(planted.KINDS, "level", planted.better)
    with pytest.raises(SystemExit, match="weightings differ in the population"):
        honesty.main(["--quick", "--scene", "0"])


@pytest.mark.parametrize("wrong", [["--halves", "-1"], ["--stride", "0"]])
def test_no_sense_no_figure(wrong):
    assert honesty.main(wrong) == 2
    assert choices.main([*wrong]) == 2


def test_groups_of_equal_videos_are_alike_and_best_together():
    pixels = planted.Scene("equal", 8).problem(base=20).condensed
    *alone, even = pixels.miou([*np.eye(3), [1, 1, 1]])
    assert np.ptp(alone) < 1e-3  # ties
    assert even > max(alone) + 0.02


def test_halves_are_split_both_ways():
    first, second = honesty.split(list("abcdefg"), 2)
    assert sorted(first[0] + first[1]) == list("abcdefg")
    assert first == second[::-1]


def test_real_data_is_optional(monkeypatch, capsys):
    monkeypatch.delenv("SEGFUSION_DATA", raising=False)
    assert choices.main(["--quick"]) == 0
    assert honesty.main(["--repetitions", "0"]) == 0
    assert "camvid22: left out" in capsys.readouterr().err
