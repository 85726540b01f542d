"""Thousands of units: no growth of memory, handles, threads or temporary files on the way."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from fusion.hierarchical import HierarchicalEnsemble
from fusion.outputs import write
from fusion.stores import LogitStore, LogitWriter
from tests.faults.works import leftovers

CLASSES, SIZE = ("a", "b", "c"), (2, 2)


def held() -> tuple[int, int, int]:
    """Bytes in memory, open handles, threads of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd")), _threads()


def _threads() -> int:
    return threading.active_count()


def long_run(root: Path, units: int, first: int, bytes_a_unit: int) -> None:
    """Writes units one by one and predicts them; what is held after `first` is held at the end."""
    names = [f"u{number:05}" for number in range(units)]
    stores = [root / f"{name}.zarr" for name in ("one", "two")]
    logits = np.random.default_rng(0).normal(size=(len(CLASSES), *SIZE)).astype(np.float32)
    writers = [LogitWriter(path, CLASSES) for path in stores]
    begun: tuple[int, int, int] | None = None
    for number, name in enumerate(names):
        for writer in writers:
            with writer.video(name, frames=["0"]) as out:
                out.append(logits)
        begun = held() if number == first else begun
    check_growth(begun, bytes_a_unit * (units - first))
    ensemble = HierarchicalEnsemble({"one": [stores[0]], "two": [stores[1]]})
    seen: list[tuple[int, int, int]] = []
    done = iter(range(units))

    def watched(items, description, total):
        for item in items:
            if next(done, None) == first:
                seen.append(held())
            yield item

    write(ensemble, root / "labels", "png", progress=watched)
    check_growth(seen[0] if seen else held(), bytes_a_unit * (units - first))
    assert len(LogitStore(stores[0]).videos) == units
    assert len(list((root / "labels").glob("*/*.png"))) == units
    assert leftovers(root) == []


def check_growth(begun: tuple[int, int, int] | None, most: int) -> None:
    assert begun is not None
    (before, handles, threads), (after, more_handles, more_threads) = begun, held()
    assert more_handles <= handles + 2
    assert more_threads <= threads + 1
    assert after - before <= most + (16 << 20), (before, after)


def test_a_hundred_units(tmp_path):
    long_run(tmp_path, 100, 40, 8192)


@pytest.mark.slow
def test_ten_thousand_units(tmp_path):
    long_run(tmp_path, 10_000, 1000, 4096)
