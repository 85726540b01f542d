"""The script for when a GPU can be had: runs tiny by the interpreter, loses nothing it found."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from benchmarks import cases, gpu, launch
from benchmarks.gpu import ROOT, Run, Stage


def test_everything_runs_interpreted(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", "--interpret", "--out", str(tmp_path)]
    command += ["--few", "5", "--minutes", "4", "--only", "correctness", "stream", "launch"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=ROOT, timeout=280
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    page = (tmp_path / "gpu.md").read_text()
    assert done.stdout.endswith(page + "\n")
    assert "interpreter: no speed in it\n\ndate 20" in page
    for stage in ("correctness", "stream", "launch"):
        assert f"## {stage}: whole\n" in page
    for operation in cases.OPERATIONS:  # in turn, so that a few cases are of all
        assert f"| {operation} | 1 | 0 | 0 |" in page
    rows = [json.loads(line) for line in (tmp_path / "gpu-stream.jsonl").read_text().splitlines()]
    assert {row["status"] for row in rows} == {"ok"}
    assert {"labels, prepared batches", "counts on the device"} < {row["what"] for row in rows}
    assert not (tmp_path / "gpu-failures.txt").exists()


def case(function, **parameters) -> cases.Case:
    return cases.Case("average", function.__name__, None, function, parameters)


def passes(number):
    assert number == 3


def fails(number, monkeypatch):
    monkeypatch.setattr(gpu, "MOST_WORKERS", number)
    raise AssertionError("4 of 9 labels differ")


def skips():
    raise cases.Skipped("no such GPU")


def test_a_case_that_fails_is_written_at_once_and_the_others_run(tmp_path, monkeypatch):
    made = [case(passes, number=3), case(fails, number=1), case(skips), case(passes, number=4)]
    monkeypatch.setattr(cases, "collect", lambda: made)
    monkeypatch.setattr(cases, "covering", lambda every: every)
    monkeypatch.setattr(cases, "untuned", lambda: None)
    run, told = Run(tmp_path, interpret=True), tmp_path / "gpu-failures.txt"
    workers = gpu.MOST_WORKERS
    for number, row in enumerate(gpu.correctness(run)):
        run.tell("correctness", row)
        assert told.exists() == (number >= 1)
    assert workers == gpu.MOST_WORKERS
    assert "average: fails(number=1)" in told.read_text()
    assert "4 of 9 labels differ" in told.read_text()
    page = gpu.write(run, {"device": "none"}, {"correctness": "whole"}).read_text()
    assert "| average | 1 | 2 | 1 |" in page
    assert "| average: fails(number=1) | AssertionError: 4 of 9 labels differ |" in page
    shares = [list(gpu.correctness(dataclasses.replace(run, share=(k, 2)))) for k in range(2)]
    assert [len(share) for share in shares] == [2, 2]
    assert len(list(gpu.correctness(dataclasses.replace(run, few=1)))) == 1


def test_a_stage_that_takes_too_long_is_cut_off_and_keeps_its_rows(tmp_path):
    run = Run(tmp_path, interpret=True)
    run.tell("benchmark", {"case": "one", "contender": "fusion", "status": "ok", "median_ms": 1.5})
    assert gpu.spawn(Stage("benchmark", 1.0), run, 0.3) == "cut off"
    with run.file("benchmark").open("a") as file:
        file.write('{"case": "two", "med')
    page = gpu.write(run, {}, {"benchmark": "cut off"}).read_text()
    assert "| one | fusion | ok | 1.5 |" in page
    assert "two" not in page


def test_shares_of_the_minutes_are_all_of_them():
    assert sum(stage.share for stage in gpu.STAGES) == pytest.approx(1)
    assert set(gpu.WORK) == {stage.name for stage in gpu.STAGES}


def test_host_time_is_measured_with_launches_stubbed_out(capsys):
    pytest.importorskip("triton")
    assert launch.main(["--rounds", "1", "--frames", "2", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["way"] for row in rows] == ["tables anew", "tables kept", "prepared"] * 2
    assert [row["launches_a_batch"] for row in rows] == [4, 4, 0] * 2
    assert all(row["us_a_frame"] > 0 for row in rows)
