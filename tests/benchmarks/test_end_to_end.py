"""From files to mIoU: every way runs, tiny, and a wrong one gets no speed."""

from __future__ import annotations

import dataclasses
import json

import numpy as np

from benchmarks import end_to_end


def test_every_way_runs(capsys):
    assert end_to_end.main(["--quick", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["status"] for row in rows] == ["ok"] * len(end_to_end.WAYS)
    assert all(row["bytes"] > 0 and row["median_ms"] > 0 for row in rows)


def test_a_wrong_way_gets_no_speed(tmp_path):
    scene = end_to_end.simulated_scene(tmp_path, 2, quick=True)
    scene.write()
    sound, way = end_to_end.WAYS[0], end_to_end.WAYS[-1]
    assert end_to_end.wrong(sound, scene) is None
    assert end_to_end.wrong(way, scene) is None
    moved = dataclasses.replace(way, labels=lambda s: np.roll(way.labels(s), 1, axis=2))
    assert "labels" in (end_to_end.wrong(moved, scene) or "")
    high = dataclasses.replace(way, score=lambda s: way.score(s) + 0.01)
    assert "mIoU" in (end_to_end.wrong(high, scene) or "")
