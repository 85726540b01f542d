"""The paper in miniature runs, and its tables say what the stores say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import fusion
from benchmarks.paper import __main__ as paper
from benchmarks.paper import hours, seeds, tables
from benchmarks.paper.fused import families
from benchmarks.paper.produce import SPLITS, longest_first, stores_of
from benchmarks.paper.roster import before, configuration, roster
from benchmarks.paper.sizes import MASKFORMER, SIZES, SWIN
from fusion.models.training import config

pytest.importorskip("transformers")
pytest.importorskip("scipy")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Where the smallest size was run to its end."""
    out = tmp_path_factory.mktemp("paper")
    assert paper.main(["--size", "tiny", "--out", str(out), "--jobs", "1"]) == 0
    return out


def test_tables_of_the_smallest_size(ran):
    printed, found = (ran / "tables.md").read_text(), json.loads((ran / "tables.json").read_text())
    assert printed.startswith("`python -m benchmarks.paper --size tiny`")
    assert [f"Table {k}" in printed for k in range(1, 6)] == [True] * 5
    for split in SPLITS:
        truth = fusion.Labels.vspw(ran / "scenes", split)
        for name in ("swin_03_averaged", "maskformer_adjusted", "swin_student", "soup"):
            one = fusion.HierarchicalEnsemble({"one": [ran / split / f"{name}.zarr"]})
            scores = one.evaluate(truth, scheduler="synchronous")
            assert found["models"][split][name] == scores.miou
    rows = found["tables"]["Table 2, weight averaging"]
    for split in SPLITS:
        last, mean = rows["Swin, last weights of the phase"], rows["Swin with SWA"]
        gain = rows["Swin with SWA: gain over Swin, last weights of the phase"]
        assert gain[split] == pytest.approx(mean[split] - last[split])
    assert "+0.83" in printed  # the paper's own gain, over the row that it compares with
    assert fusion.LogitStore(ran / "val" / "maskformer_01.zarr").values == "probabilities"


def test_the_ladder_has_what_folds_held_out(ran):
    rows = json.loads((ran / "tables.json").read_text())["tables"]["Table 3, hierarchical ensemble"]
    held = rows["what was found, held out"]
    assert list(held) == ["val"]
    assert any(name.startswith("best single: ") for name in rows)
    assert {"uniform weights"} <= rows.keys()


def test_gains_over_seeds(ran):
    numbers = json.loads((ran / "tables.json").read_text())["tables"]
    text = seeds.printed([numbers, numbers])
    gain = numbers["Table 1, crop and OHEM"]
    name = "Swin, large crop: gain over Swin, small crop"
    val = f"{gain[name]['val']:+.2f}"
    assert f"| {name} | {val} | {val}, {val} |" in text


@pytest.mark.parametrize("size", ["cpu", "gpu"])
def test_the_roster_is_the_paper_s(size):
    size, members = SIZES[size], roster(SIZES[size])
    for network, prefix in ((SWIN, "swin"), (MASKFORMER, "maskformer")):
        family = [one for one in members if one.network == network and one.is_numbered]
        assert [one.name for one in family] == [f"{prefix}_{k:02d}" for k in range(1, 12)]
        documents = [configuration(one, size, Path("x")) for one in family]
        kinds = {json.dumps({**each, "out": ""}, sort_keys=True) for each in documents}
        assert len(kinds) == 11
    for one in members:
        config.parse(configuration(one, size, Path("x")))
    made = {""}
    for one in members:
        assert made.issuperset(before(one).values()), one.name
        made.add(one.name)
    assert sorted(longest_first(members, size), key=members.index) == members
    starts = [one.name for one in members if one.is_start]
    assert sorted(starts) == ["maskformer_start", "swin_start"]
    stores = stores_of(members)
    assert len(stores) == len(set(stores))
    lines = [line for table in tables.TABLES.values() for line in table]
    assert {line.store for line in lines} | {n for line in lines for n in line.over} <= {*stores}


def test_rows_that_are_compared_had_the_same_steps():
    """A gain that is only more training is none: of rows by their steps."""
    size = SIZES["cpu"]
    steps, phase = {}, size.cycles * size.swa_every
    for one in roster(size):
        own = round(one.steps * size.families[one.network].steps)
        taught = size.families[one.network].steps if one.teacher else 0  # it starts from that run
        for store, file in one.files.items():
            steps[store] = own + taught + (phase if file != "baseline" else 0)
        steps |= dict.fromkeys(one.post_hoc, own)
    for line in (line for table in tables.TABLES.values() for line in table):
        if line.over:  # the first is what it is judged by
            same = steps[line.store] == steps[line.over[0]]
            assert same != line.longer, line.label


def test_val_says_which_family_is_basic():
    class Of:
        def __init__(self, miou):
            self.miou = miou

    members = [one for one in roster(SIZES["tiny"]) if one.is_numbered]
    val = {one.name: Of(0.5 if one.network == SWIN else 0.1) for one in members}
    assert families(members, val, 1)[0][0].startswith("swin")
    val |= {"maskformer_02": Of(0.6)}
    assert families(members, val, 1)[0][0].startswith("maskformer")
    assert families(members, val, 2)[0][0].startswith("swin")  # .5 against (.6 + .1) / 2


def test_hours_are_steps_times_what_they_take(monkeypatch):
    monkeypatch.setattr(hours, "_measured", lambda *_: ({SWIN: 0.5, MASKFORMER: 2.0}, 0.25))
    text = hours.plan_of_hours(SIZES["tiny"], 2)
    # 3 Swins of 2 steps, one with two cycles of one step, as has the constant rate; adjusted ones,
    # students and their like of 2, the longer one of 4
    assert "| swin: what they start from | 1 | 1 | 500.0 | 0.00 |" in text
    assert "| swin: networks | 11 | 28 | 500.0 | 0.00 |" in text
    # 23 stores of 6 videos of 2 to 3 frames
    assert "| stores of val and test | 23 | 345 | 250.0 | 0.02 |" in text


def test_the_plan_measures_every_network(capsys):
    assert paper.main(["--size", "tiny", "--plan", "--jobs", "2"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(hours.TITLE)
    rows = [line.split(" | ") for line in text.splitlines() if ": " in line]
    assert [row[0] for row in rows] == [
        "| swin: what they start from",
        "| swin: networks",
        "| maskformer: what they start from",
        "| maskformer: networks",
    ]
    spent = [float(row[3]) for row in rows]
    assert spent[0] == spent[1] > 0
    assert spent[2] == spent[3] > 0
