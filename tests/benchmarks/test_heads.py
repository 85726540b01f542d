"""Every case of the heads' benchmark runs, tiny; a wrong contender gets no speed."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import heads

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", heads.CASES)
def test_every_case_runs(name):
    rows = heads.run_case(name, CPU, quick=True, rounds=2, compiles=False)
    assert all(row.status == "ok" and row.median_ms > 0 for row in rows), rows
    names = [row.contender for row in rows]
    assert names[0] == "fusion"
    assert {"torch whole", "torch blocked", "(softmax_average)"} < set(names)
    assert ("(float32 matmul)" in names) == name.startswith("mix")


def test_peers_and_the_oracle_agree_on_more_than_the_labels_of_one_class():
    p = heads.Head.of("mix-groups", quick=True)
    right = heads.expected(p)
    assert len(right.labels.unique()) > 1
    assert (right.margin > heads.ROOM).float().mean() > 0.9
    assert torch.equal(heads.fused(p), right.labels)


def test_a_wrong_contender_has_no_speed(monkeypatch, capsys):
    monkeypatch.setattr(heads, "fused", lambda p: heads.whole(p) * 0 + 1)
    assert heads.main(["--case", "log-codes", "--quick", "--rounds", "1", "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)["rows"]
    (wrong,) = [row for row in rows if row["contender"] == "fusion"]
    assert "wrong" in wrong["status"]
    assert wrong["median_ms"] is None
