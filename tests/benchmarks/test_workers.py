"""The benchmark of workers runs, tiny, and gives no speed to other matrices."""

from __future__ import annotations

import distributed
import numpy as np
import pytest

from benchmarks import workers


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Its clusters in this process: they start at once."""
    made = distributed.LocalCluster

    def cluster(**how):
        return made(**{**how, "processes": False, "protocol": "tcp://"})

    monkeypatch.setattr(distributed, "LocalCluster", cluster)
    monkeypatch.setattr(workers, "spin", len)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # put back afterwards


def test_two_workers_stand_beside_one(capsys):
    assert workers.main(["--quick"]) == 0
    said = capsys.readouterr().out
    assert "2 frames of 2 models" in said
    assert said.count("1 over 2") == 1
    assert [line.split(",")[0] for line in said.splitlines()[3:]] == [
        "| evaluate",
        "| two loops in Python",
        f"| {workers.WEIGHTINGS} weightings: this process",
    ]


def test_other_matrices_get_no_speed(tmp_path, monkeypatch):
    ensemble, truth = workers.made_up(tmp_path, 2, 1, 2)
    monkeypatch.setattr(workers.np, "array_equal", lambda *_: False)
    with pytest.raises(AssertionError):
        workers.measured(ensemble, truth, 1)
    assert np.isfinite(ensemble.evaluate(truth).miou)
