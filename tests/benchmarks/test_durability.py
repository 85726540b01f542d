"""The benchmark of durability runs, and writes what it says."""

from __future__ import annotations

from benchmarks import durability


def test_it_runs(tmp_path, monkeypatch, capsys):
    said = [str(tmp_path), "--writes", "2", "--rounds", "1"]
    monkeypatch.setattr("sys.argv", ["durability", *said])
    assert durability.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(durability.WORKS)
    assert all("times as many" in line for line in lines)
    assert not list(tmp_path.iterdir())
