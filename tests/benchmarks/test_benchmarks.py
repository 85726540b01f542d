"""Every benchmark case runs, tiny; a wrong contender gets no speed."""

from __future__ import annotations

import csv
import dataclasses
import json

import numpy as np
import pytest
import torch

from benchmarks import fusion, measure, multipliers, peers, search, simulated

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "name", sorted(set(fusion.CASES) - {"camvid22-codes", "camvid22-upsample"})
)
def test_every_case_runs(name):
    rows = fusion.run_case(fusion.CASES[name], CPU, quick=True, rounds=2, compiles=False)
    assert rows[0].contender == "fusion"
    assert len(rows) >= 2
    for row in rows:
        assert row.status == "ok", row
        assert row.median_ms > 0
        assert row.bytes_per_s > 0
    assert rows[0].times_fusion == 1


@pytest.mark.parametrize("name", ["camvid22-codes", "camvid22-upsample"])
def test_real_data_is_optional(name, tmp_path, monkeypatch):
    monkeypatch.delenv("SEGFUSION_DATA", raising=False)
    assert fusion.run_case(fusion.CASES[name], CPU, quick=True, rounds=1, compiles=False) == []
    for m in range(3):
        codes = simulated.gap_codes(
            torch.randn(5, 4, 6, 8, generator=torch.Generator().manual_seed(m))
        ).movedim(1, 0)
        np.savez(tmp_path / f"model{m}.npz", clip=codes.numpy())
    monkeypatch.setenv("SEGFUSION_DATA", str(tmp_path))
    rows = fusion.run_case(fusion.CASES[name], CPU, quick=True, rounds=1, compiles=False)
    assert [row.status for row in rows] == ["ok"] * len(rows) != []


def test_a_wrong_contender_has_no_speed(monkeypatch, capsys):
    case = dataclasses.replace(
        fusion.CASES["average-codes"], fused=lambda p: peers.torch_stack(p) * 0 + 1
    )
    monkeypatch.setitem(fusion.CASES, "average-codes", case)
    assert fusion.main(["--case", "average-codes", "--quick"]) == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if " fusion " in line)
    assert "wrong" in line
    assert "%" not in line


def test_json_and_csv(tmp_path, capsys):
    file = tmp_path / "deep" / "rows.csv"
    for _ in range(2):
        assert fusion.main(["--case", "confusion", "--quick", "--json", "--csv", str(file)]) == 0
    printed = json.loads(capsys.readouterr().out.split("\n}\n")[0] + "\n}")
    assert {row["contender"] for row in printed["rows"]} == {"fusion", "torch bincount"}
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert len(rows) == 4
    assert {"date", "device", "torch", "threads", "median_ms"} <= rows[0].keys()


def test_simulated_models_agree_as_asked():
    tops = torch.stack([z.argmax(0) for z in simulated.agreeing(9, 30, (60, 80))])
    assert 0.5 < (tops == tops[0]).all(dim=0).float().mean() < 0.95
    codes = simulated.gap_codes(torch.tensor([[0.0], [1.0], [1.0], [-30.0]]))
    assert codes.flatten().tolist() == [52, 0, 1, 255]


def test_quantiles_are_in_order():
    assert measure.quantiles([5.0, 1.0, 3.0, 2.0, 4.0]) == pytest.approx((1.8, 3.0, 4.2))


def test_multipliers_are_found_beside_samplers(monkeypatch, capsys):
    def small(frames):
        return search.simulated(frames, (12, 16), classes=4)

    monkeypatch.setitem(search.CASES, "simulated", (small, 1))
    quick = ["--case", "simulated", "--frames", "2", "--trials", "3", "--json"]
    assert multipliers.main(quick) == 0
    found = {row["way"]: row for row in json.loads(capsys.readouterr().out)}
    assert found["exact"]["score"] >= found["TPE"]["score"] > 0
    assert found["TPE"]["trials"] == 3
