"""What waiting for the disk costs: small files and small videos, with and without.

python -m benchmarks.durability [FOLDER ...] [--writes N] [--rounds N]

Folders: of the disks to be asked, default the system's temporary one. Both ways take turns, round
after round; medians of writes per second, and what `durability="commit"` costs beside "none".
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import fusion
from fusion import files

CLASSES = [f"class {c}" for c in range(11)]
LOGITS = np.random.default_rng(0).normal(size=(1, 11, 60, 80)).astype(np.float32)


def small_files(folder: Path, writes: int, *, durable: bool) -> None:
    """A kilobyte each, replacing the last: what searches and training do."""
    for _ in range(writes):
        files.write_bytes(folder / "file", b"x" * 1024, durable=durable)


def small_videos(folder: Path, writes: int, *, durable: bool) -> None:
    """One frame each, committed by itself."""
    level = "commit" if durable else "none"
    writer = fusion.LogitWriter(folder / "s.zarr", CLASSES, durability=level)
    for number in range(writes):
        with writer.video(str(number), frames=["0"]) as out:
            out.extend(LOGITS)


def images(folder: Path, writes: int, *, durable: bool) -> None:
    """The same in packs."""
    level = "commit" if durable else "none"
    writer = fusion.LogitWriter(folder / "s.zarr", CLASSES, durability=level)
    with writer.pack() as pack:
        for number in range(writes):
            with pack.video(str(number), frames=["0"]) as out:
                out.extend(LOGITS)


WORKS: dict[str, Callable[..., None]] = {
    "small files": small_files,
    "videos of a frame": small_videos,
    "images in a pack": images,
}


def rates(work: Callable[..., None], place: Path, writes: int, rounds: int) -> dict[bool, float]:
    """Writes per second, durable and not."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for _, durable in itertools.product(range(rounds), found):
        with tempfile.TemporaryDirectory(dir=place) as folder:
            began = time.perf_counter()
            work(Path(folder), writes, durable=durable)
            found[durable].append(writes / (time.perf_counter() - began))
    return {durable: statistics.median(each) for durable, each in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, default=[Path(tempfile.gettempdir())])
    parser.add_argument("--writes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for place, (name, work) in itertools.product(options.folders, WORKS.items()):
        found = rates(work, place, options.writes, options.rounds)
        ratio = found[False] / found[True]
        each = f"commit {found[True]:7.0f}/s, none {found[False]:7.0f}/s, {ratio:.2f} times as many"
        print(f"{place} {name:18}: {each}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
