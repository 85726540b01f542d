"""log.csv: what it says of a run, and of one that was stopped."""

from __future__ import annotations

import csv
import importlib.util
import sys
import types
from typing import ClassVar

import pytest

from fusion.errors import InputError, StoreError
from fusion.models.training.log import COLUMNS, FILE, Log
from fusion.models.training.run import train
from fusion.models.training.schedule import learning_rate


def rows_of(folder):
    with (folder / FILE).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_a_step(configure, tmp_path):
    options = configure(val={"every": 2})
    train(options, "cpu")
    rows = rows_of(tmp_path / "run")
    assert tuple(rows[0]) == COLUMNS
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4]
    assert [bool(row["val_miou"]) for row in rows] == [False, True, False, True]
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates == [learning_rate(options, step) for step in range(4)]
    assert all(float(row["loss"]) > 0 < float(row["images_per_second"]) for row in rows)
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)


def test_rows_behind_the_checkpoint_go(tmp_path):
    with Log(tmp_path, ["csv"], 0) as log:
        for step in range(1, 5):
            log.row(step, loss=-step / 2)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes() + b"5,0.1,half a li")
    before = rows_of(tmp_path)[:2]
    with Log(tmp_path, ["csv"], 2) as log:
        log.row(3, loss=7.0)
    rows = rows_of(tmp_path)
    assert rows[:2] == before
    assert [row["loss"] for row in rows] == ["-0.5", "-1.0", "7.0"]
    assert float(rows[2]["seconds"]) >= float(before[1]["seconds"])
    with Log(tmp_path, ["csv"], 0):
        pass
    assert rows_of(tmp_path) == []


def test_none_is_written_where_none_is_asked_for(configure, tmp_path):
    train(configure(train={"log": []}), "cpu")
    assert not (tmp_path / "run" / FILE).exists()
    with pytest.raises(InputError, match=r"log is \('json',\); give a list of csv, tensorboard"):
        configure(train={"log": ["json"]})
    with pytest.raises(InputError, match=r"train\.log is 'csv'; give a list"):
        configure(train={"log": "csv"})


def test_the_disk_is_full(tmp_path):
    with Log(tmp_path, ["csv"], 0) as log:
        log._file.close()
        log._file = open("/dev/full", "a", buffering=1)  # noqa: SIM115  # closed by the log
        with pytest.raises(StoreError, match=r"log\.csv: cannot be written \(No space left"):
            log.row(1, loss=1.0)


MISSING = "tensorboard"


class Board:
    """What torch's writer is asked for."""

    made: ClassVar = []

    def __init__(self, folder, purge_step) -> None:
        self.folder, self.purge, self.said = folder, purge_step, []
        self.made.append(self)

    def add_scalar(self, *said) -> None:
        self.said.append(said)

    def close(self) -> None:
        self.said.append("closed")


def test_tensorboard(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == MISSING else find(n))
    with pytest.raises(InputError, match="TensorBoard is not installed; pip install tensorboard"):
        Log(tmp_path, ["tensorboard"], 0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: True)
    writer = types.ModuleType("torch.utils.tensorboard")
    writer.SummaryWriter = Board
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", writer)
    with Log(tmp_path, ["csv", "tensorboard"], 5) as log:
        log.row(6, loss=0.5, val_miou=None)
    (board,) = Board.made
    assert board.folder == str(tmp_path / "tensorboard")
    assert (board.purge, board.said) == (6, [("loss", 0.5, 6), "closed"])
