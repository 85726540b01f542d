"""What a search prints: the answer first, within 80 columns, the same words as its numbers."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

import fusion
from fusion.search.exact.climb import Exact
from fusion.search.greedy import Greedy
from fusion.search.held import FOUND, UNIFORM
from fusion.search.learned import fit
from fusion.search.learned.method import Learned
from fusion.search.printed import contenders, result_text
from fusion.search.report import Report
from fusion.search.run import Run
from fusion.stores import MemoryStore
from fusion.terminal import Style

LONG = "a_network_with_a_name_that_nobody_would_like_to_read_twice_" * 2
NAMES = (LONG, LONG + "1")  # wider than a terminal themselves, and never broken
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def data_of(classes: int, models: list[str], videos: int = 6, *, channels: bool = False):
    """Stores in memory and labels of small random videos; models the better the later."""
    rng, shape = np.random.default_rng(0), (2, classes, 6, 8)
    arrays = {name: {} for name in models}
    labels = {}
    for v in range(videos):
        drawn = rng.integers(0, 2 if channels else classes, (2, *((classes,) * channels), 6, 8))
        labels[f"video_{v}"] = drawn.astype(np.uint8)
        onehot = drawn if channels else np.moveaxis(np.eye(classes)[drawn], -1, 1)
        for m, name in enumerate(models):
            noise = rng.normal(0, 1.5, shape)
            arrays[name][f"video_{v}"] = 1.5 * (1 + m) * (onehot - channels / 2) + noise
    names = [f"class {'with a long name ' * (c % 5)}{c}" for c in range(classes)]
    values = "sigmoid" if channels else "logits"
    stores = [MemoryStore(a, names, values=values, model=n) for n, a in arrays.items()]
    truth = fusion.Labels.from_arrays(labels)
    return fusion.HierarchicalEnsemble(stores), truth


def report_of(method, classes, models, *, reach=None, splits=1, lost=False, **how) -> Report:
    folds = None if how.get("videos") == 1 else 3
    run = Run(*data_of(classes, models, **how), folds=folds, name="val", reach=reach)
    found = run.search(method)
    others = [replace(run, name=f"split {k}") for k in range(1, splits)]
    added = dict.fromkeys(models, 1e-5) if lost else {}
    return Report([run, *others], found, added, run.calibrations(found))


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """What is asked here does not depend on how far training goes."""
    monkeypatch.setattr(fit, "STEPS", 3)


CASES = {
    "plain": lambda: report_of(Exact(climbs=1), 4, ["a", "b", "c"], lost=True),
    "124 classes": lambda: report_of(Greedy(steps=3), 124, ["a", "b"], reach=4.0),
    "long names": lambda: report_of(Exact(climbs=1), 5, [LONG + "1", LONG + "2"], splits=3),
    "many models": lambda: report_of(Greedy(steps=9), 3, [f"net_{k:02d}" for k in range(14)]),
    "heads": lambda: report_of(Learned(head="mix"), 4, ["net_1", LONG, "net_3"], splits=2),
    "channels": lambda: report_of(Exact(climbs=1), 2, ["a", "b"], reach=16.0, channels=True),
    "one video": lambda: report_of(Exact(climbs=1), 3, ["a", "b"], videos=1),
}


@pytest.fixture(scope="module")
def reports():
    """Each is searched once."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = CASES[name]()
        return made[name]

    return get


@pytest.mark.parametrize("name", CASES)
def test_no_line_is_wider_than_a_terminal(reports, name):
    lines = result_text(reports(name)).split("\n")
    for line in lines:
        assert len(line) <= 80 or any(word in line and len(line.split()) < 4 for word in NAMES), (
            line
        )


@pytest.mark.parametrize("name", CASES)
def test_colours_change_nothing_but_colours(reports, name):
    plain, coloured = (result_text(reports(name), Style(colour)) for colour in (False, True))
    assert "\x1b" not in plain
    assert "\x1b" in coloured
    assert ESCAPE.sub("", coloured) == plain


@pytest.mark.parametrize("name", CASES)
def test_the_answer_comes_first_and_all_sentences_are_there(reports, name):
    report = reports(name)
    text = result_text(report)
    said = " ".join(text.split())
    assert text.index("best single: ") < text.index("uniform weights") < text.index("searched: ")
    assert text.index("searched: ") < text.index("How that was found")
    for sentence in report.verdict:
        assert " ".join(sentence.split()) in said
    if report.found.verdict is not None:
        assert text.index("verdict: ") < text.index("How that was found")
        recommended = report.found.verdict.recommended
        marked = [line for line in text.split("\n") if line.endswith("use this")]
        assert len(marked) == 1
        rows = {contender: title for contender, title, _ in contenders(report)}
        assert recommended in rows


def test_the_table_has_held_out_scores_with_their_intervals(reports):
    report = reports("plain")
    found = report.found
    rows = {
        line.split("  ")[0].strip(): line
        for line in result_text(report).split("How that")[0].split("\n")
        if "  " in line
    }
    for contender, title in ((UNIFORM, UNIFORM), (FOUND, "searched: the weights")):
        scores = found.held_out.contenders[contender]
        low, high = scores.interval(units=found.units)
        ends = f"{100 * low:.2f} to {100 * high:.2f}"
        assert f"{100 * scores.score:.2f}  {ends}" in rows[title]
    assert f"{100 * found.miou:.2f}" in rows["searched: the weights"].split()
