"""python -m benchmarks.soft STORES...: what a store of the fused probabilities takes and keeps.

The stores, with equal weights, are fused into one store in every form and at both resolutions; each
is then read again as an ensemble of one. Bytes are those of all its files, labels those that differ
from the ensemble's own, and the largest probability that moved is of every label pixel and class.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

import fusion
from fusion.ensemble.native import AT
from fusion.outputs import write
from fusion.outputs.logit_store import SOFT
from fusion.text import table

HEAD = ("soft", "at", "MB", "seconds", "labels that differ, of a million", "largest move", "mean")


def row(ensemble: fusion.HierarchicalEnsemble, folder: Path, soft: str, at: str) -> list[str]:
    """One form: its bytes, time to write, and what is read again."""
    place, began = folder / f"{soft}-{at}.zarr", time.perf_counter()
    write(ensemble, place, "store", soft=soft, at=at)
    took = time.perf_counter() - began
    size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    again = fusion.HierarchicalEnsemble([place])
    differ, pixels, most, moved = 0, 0, 0.0, 0.0
    for video in ensemble.videos:
        own, read = ensemble.probability_maps(video), again.probability_maps(video)
        for (_, ours), (_, theirs) in zip(own, read, strict=True):
            gap = np.abs(ours - theirs)
            differ += int((ours.argmax(axis=0) != theirs.argmax(axis=0)).sum())
            pixels += ours[0].size
            most, moved = max(most, float(gap.max())), moved + float(gap.mean()) * ours[0].size
    figures = f"{size / 1e6:.1f}", f"{took:.0f}", f"{differ / pixels * 1e6:.1f}"
    return [soft, at, *figures, f"{most:.5f}", f"{moved / pixels:.6f}"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soft", description=__doc__)
    parser.add_argument("stores", nargs="+", help="paths of stores that fit together")
    ensemble = fusion.HierarchicalEnsemble(parser.parse_args().stores)
    with tempfile.TemporaryDirectory() as scratch:
        rows = [row(ensemble, Path(scratch), soft, at) for soft in SOFT for at in AT]
    print(f"{ensemble!r:.200}")
    print(table(rows, HEAD))


if __name__ == "__main__":
    main()
