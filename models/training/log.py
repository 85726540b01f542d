"""What a run says of its steps: log.csv, and TensorBoard where it is asked for.

A row a step, and one for a validation that a signal put off. A run that goes on from a checkpoint
drops the rows behind it and writes them anew, with the same losses, rates and scores; seconds are
of training, however often it was stopped.
"""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusion.errors import InputError
from fusion.files import refusals, write_bytes
from fusion.text import csv_text

FILE = "log.csv"
COLUMNS = ("step", "loss", "learning_rate", "val_miou", "seconds", "images_per_second")


class Log:
    """The log of one process.

    Args:
        folder: of the run.
        kinds: names in `config.LOGS`.
        step: of the checkpoint that the run goes on from.

    Raises:
        InputError: TensorBoard is asked for and not installed.
        StoreError: the disk refuses.
    """

    def __init__(self, folder: Path, kinds: Sequence[str], step: int) -> None:
        self.path, self._file, self._board = folder / FILE, None, None
        self._before, self._begun = 0.0, time.monotonic()
        if "tensorboard" in kinds and importlib.util.find_spec("tensorboard") is None:
            do = "pip install tensorboard, or leave it out"
            raise InputError(f"train: log is {list(kinds)} and TensorBoard is not installed; {do}")
        if "csv" in kinds:
            lines = self._lines_until(step)
            self._before = float(lines[-1].split(",")[COLUMNS.index("seconds")]) if lines else 0.0
            text = "".join(f"{line}\r\n" for line in (",".join(COLUMNS), *lines))
            write_bytes(self.path, text.encode(), durable=False)
            with refusals(self.path):
                self._file = self.path.open("a", newline="", buffering=1, encoding="utf-8")
        if "tensorboard" in kinds:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._file, self._board):
            if each is not None:
                with contextlib.suppress(OSError):  # each row was flushed, or told of
                    each.close()

    def row(self, step: int, **numbers: float | None) -> None:
        """Says what is known of a step: `COLUMNS` without step and seconds, None for nothing."""
        seconds = round(self._before + time.monotonic() - self._begun, 3)
        known: dict[str, Any] = {"step": step, "seconds": seconds, **numbers}
        if self._file is not None:
            with refusals(self.path):
                self._file.write(csv_text([[known.get(name) for name in COLUMNS]]))
        if self._board is not None:
            for name, number in numbers.items():
                if number is not None:
                    self._board.add_scalar(name, number, step)

    def _lines_until(self, step: int) -> list[str]:
        """The lines of steps up to a number, but not the half one that a killed process left."""
        if not step or not self.path.is_file():
            return []
        with refusals(self.path, problem="cannot be read"):
            text = self.path.read_text(encoding="utf-8", errors="replace")
        whole = (line.split(",") for line in text[: text.rfind("\n") + 1].splitlines()[1:])
        rows = (cells for cells in whole if len(cells) == len(COLUMNS) and cells[0].isdecimal())
        return [",".join(cells) for cells in rows if int(cells[0]) <= step]
