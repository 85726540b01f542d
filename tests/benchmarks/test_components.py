"""The benchmark of components runs, tiny; other components get no speed."""

from __future__ import annotations

import json

import numpy as np

from benchmarks import components

CASES = {
    "frame": lambda: components.frame()[:, :30, :40],
    "volume": lambda: components.specks()[0, :24, :40].reshape(4, 6, 40),
}


def test_contenders_find_the_same(monkeypatch, capsys):
    monkeypatch.setattr(components, "CASES", CASES)
    assert components.main(["--rounds", "1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["status"] for row in rows] == ["ok"] * 6
    assert components.main(["--rounds", "1"]) == 0
    assert "operation" in capsys.readouterr().out


def test_other_components_get_no_speed(monkeypatch):
    monkeypatch.setattr(components, "CASES", {"frame": CASES["frame"]})
    monkeypatch.setattr(components, "by_scipy", lambda labels: np.zeros(1))
    assert [row.status for row in components.measured(1)] == ["other components"]
