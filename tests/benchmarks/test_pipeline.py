"""The benchmarks of whole commands, on clips of a few pixels."""

from __future__ import annotations

import re

import pytest

from benchmarks import memory, pipeline
from benchmarks.clips import write_clips

TINY = {"models": 3, "classes": 4, "native": (6, 8), "size": (12, 16)}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, clips=[5, 2], **TINY)
    return folder


def test_parts_and_wholes_give_the_same_labels_and_are_all_timed(clips, monkeypatch, capsys):
    words = ["--stores", str(clips), "--labels", str(clips / "labels"), "--rounds", "1"]
    monkeypatch.setattr("sys.argv", ["pipeline", *words])
    pipeline.main()
    said = capsys.readouterr().out
    assert "7 frames" in said
    for name in ("read", "fuse", "together", "png", "predict", "evaluate"):
        assert re.search(rf"^{name} +\d", said, re.MULTILINE)


def test_shares_by_hand():
    times = {"read": [(2.0, 2.0)], "fuse": [(3.0, 4.0)], "together": [(4.0, 8.0)]}
    row = pipeline.report(times, 1).splitlines()[-1].split()
    share = f"{6 / pipeline.threads() / 4:.2f}"
    assert row[-4:] == ["0.75", share, "0.75", "1.25x"]


def test_a_refused_command_runs_again_with_what_it_asks_for(clips, monkeypatch):
    asked = []

    def run(command):
        asked.append(command[-1])
        if command[-1] == "1MB":
            return memory.Peak(0, 0.0, 2, "error: memory: ...; give at least 300MB")
        return memory.Peak(297 * 10**6, 1.0, 0, "")

    monkeypatch.setattr(memory, "run", run)
    rows = list(memory.measured(clips, "evaluate", "1MB"))
    assert asked == ["1MB", "300MB"]
    assert rows[0][-1] == "refused: at least 300MB"
    assert rows[1][2:4] == ("297 MB", "0.99")
