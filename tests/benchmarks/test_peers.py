"""Peers: absent ones leave a line, wrong ones get no speed, and each answers the question."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from benchmarks import fusion, metrics, peers, simulated
from benchmarks.peers import mmseg_loop, monai_ensembles, nnunet_average
from benchmarks.peers.peer import Peer

# rows: targets; columns: labels; 255 is void
TARGETS = np.array([[[0, 0, 1, 255], [1, 1, 3, 255]]], np.uint8)
LABELS = np.array([[[0, 1, 1, 2], [1, 0, 3, 0]]], np.uint8)
COUNTS = [[1, 1, 0, 0], [1, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
MIOU = (1 / 3 + 2 / 4 + 1) / 3  # class 2 is nowhere that counts


@pytest.mark.parametrize("name", sorted(peers.COUNTS))
def test_counts_by_hand(name):
    assert np.asarray(peers.COUNTS[name](TARGETS, LABELS, 4)).tolist() == COUNTS


@pytest.mark.parametrize("name", sorted(peers.MIOU))
def test_miou_by_hand(name):
    assert peers.MIOU[name](TARGETS, LABELS, 4) == pytest.approx(MIOU, abs=1e-6)
    assert metrics.scored(TARGETS, LABELS, 4) == pytest.approx(MIOU)


def test_a_vote_is_held_to_its_definition():
    # two models are nearly undecided for class 1, one is sure of class 0
    logits = [torch.tensor([[0.0], [0.1]]), torch.tensor([[0.0], [0.1]])]
    logits.append(torch.tensor([[9.0], [0.0]]))
    problem = peers.Problem.of(logits, (1, 1), 1)
    assert monai_ensembles.vote_ensemble(problem).tolist() == [1]
    assert monai_ensembles.votes(problem).tolist() == [1]
    assert monai_ensembles.mean_ensemble(problem).tolist() == [0]
    maps = peers.Problem.of(simulated.agreeing(5, 6, (9, 11)), (9, 11), 1)
    assert torch.equal(monai_ensembles.vote_ensemble(maps), monai_ensembles.votes(maps))


def test_votes_that_are_counted_wrongly_get_no_speed(monkeypatch):
    wrong = Peer("vote", lambda p: monai_ensembles.votes(p) * 0, answers=monai_ensembles.votes)
    case = fusion.CASES["average-codes"]
    monkeypatch.setitem(case.peers, "vote", wrong)
    rows = fusion.run_case(case, torch.device("cpu"), quick=True, rounds=1, compiles=False)
    assert {row.contender: row.status == "ok" for row in rows}["vote"] is False


def test_an_absent_package_leaves_a_line_and_no_row(capsys):
    absent = Peer("far away", lambda: 0, ("no_such_package",), "such-a-package")
    assert peers.present({"far away": absent, "here": len}) == {"here": len}
    assert capsys.readouterr().err == (
        "far away: left out, there is no no_such_package; pip install such-a-package\n"
    )
    assert peers.present({"far away": absent}) == {}
    assert capsys.readouterr().err == ""  # once is enough


def test_nnunets_average_is_the_mean_of_files(tmp_path):
    arrays = np.random.default_rng(0).random((3, 4, 2, 5)).astype(np.float16)
    for number, array in enumerate(arrays):
        np.savez_compressed(tmp_path / f"{number}.npz", probabilities=array)
    made = nnunet_average.average_probabilities(sorted(tmp_path.iterdir()))
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, arrays.astype(np.float64).mean(axis=0), rtol=1e-6)


def test_mmsegs_loop_adds_what_was_interpolated():
    logits = simulated.agreeing(3, 4, (5, 6))
    total = sum(
        torch.nn.functional.interpolate(z[None], size=(9, 13), mode="bilinear").softmax(1)[0]
        for z in logits
    )
    assert torch.equal(mmseg_loop.summed(logits, (9, 13), [1, 1, 1]), total.argmax(0))


def test_the_benchmark_of_metrics_runs(capsys):
    assert metrics.main(["--quick", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    found = {(row["case"], row["contender"]) for row in rows}
    assert {name for case, name in found if case == "counts"} == {"fusion", *peers.COUNTS}
    assert {name for case, name in found if case == "miou"} == {"fusion", *peers.MIOU}
    assert metrics.main(["--quick"]) == 0
    assert "Mpx/s" in capsys.readouterr().out


def test_other_counts_get_no_speed(monkeypatch, capsys):
    monkeypatch.setitem(peers.COUNTS, "numpy bincount", lambda t, x, c: np.ones((c, c), np.int64))
    assert metrics.main(["--quick", "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)["rows"]
    (row,) = (row for row in rows if row["contender"] == "numpy bincount")
    assert row["status"].startswith("wrong")
    assert row["median_ms"] is None
