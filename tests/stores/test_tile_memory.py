"""Sums of tiles that are larger than the memory they may take."""

from __future__ import annotations

import itertools
import resource
from pathlib import Path

import numpy as np

from fusion.stores import LogitWriter
from tests.stores.common import in_child, nothing_but_the_group, staging

CLASSES = 3
NAMES = [f"class {c}" for c in range(CLASSES)]


def tile(*shape: int, value: float = 1.0) -> np.ndarray:
    return np.full((CLASSES, *shape), value, np.float32)


def fill_large(path: Path, answer: Path) -> None:
    """Child: sums of 134 MB in a file; `answer` gets the growth of its own memory in KB."""
    size, side = (16, 1024, 512), 128
    out = LogitWriter(path, NAMES).tiles("v", size, memory=8 << 20)
    out.add(tile(1, 64, 64), at=(0, 0, 0))
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for y, x in itertools.product(range(0, 1024, side), range(0, 512, side)):
        out.add(tile(16, side, side, value=y), at=(0, y, x))
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start
    sums = next(path.rglob("sums"))
    assert sums.stat().st_size == 4 * (CLASSES + 1) << 23
    frame = out._sums.read(15)
    assert np.array_equal(
        frame[0] / frame[-1], np.repeat(np.arange(0, 1024, side), side)[:, None] + np.zeros(512)
    )
    out.__exit__(KeyError)
    answer.write_text(str(growth))


def test_large_sums_live_in_a_file(tmp_path):
    path = tmp_path / "s.zarr"
    assert in_child(fill_large, path, tmp_path / "answer") == 0
    assert int((tmp_path / "answer").read_text()) < 40_000
    assert nothing_but_the_group(path)
    assert staging(path) == []
