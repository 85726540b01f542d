"""Peak memory of whole commands beside the --memory they were given, each in a process of its own.

    python -m benchmarks.memory [--memory 400MB 600MB 1GB] [--quick]

Simulated stores, 22 models x 124 classes x 120 x 214 with labels of 480 x 853, are written to a
temporary folder and removed. A command that cannot keep to its budget says what would do, and runs
again with that. Shares above 1.1 are more than is promised.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fusion
from benchmarks.clips import write_clips
from fusion.text import parse_bytes, table

LARGE: dict[str, Any] = {"models": 22, "classes": 124, "native": (120, 214), "size": (480, 853)}
SMALL: dict[str, Any] = {"models": 4, "classes": 19, "native": (30, 54), "size": (120, 214)}
COMMANDS = {
    "evaluate": "fusion.evaluate --ensemble {e} --labels {l}",
    "predict": "fusion.predict --ensemble {e} --out {o}",
    "predict, probabilities": "fusion.predict --ensemble {e} --out {o} --format npy",
    "search": "fusion.search --ensemble {e} --labels {l} --out {o} --method grid --folds 2",
}


# a child's peak begins at what its parent holds: so a small process starts it, and says its peak
LAUNCHER = """
import os, sys
child = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, *sys.argv[1:]])
_, status, usage = os.wait4(child, 0)
print(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


class Peak(NamedTuple):
    """What came of a command: bytes at its peak, seconds, exit code, the end of what it said."""

    bytes: int
    seconds: float
    code: int
    said: str


def run(arguments: Sequence[str]) -> Peak:
    """Runs Python with these arguments, and asks the system for its peak when it has ended."""
    began = time.perf_counter()
    command = [sys.executable, "-S", "-c", LAUNCHER, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    *said, peak = done.stderr.strip().split("\n")
    seconds = time.perf_counter() - began
    return Peak(int(peak), seconds, done.returncode, said[-1] if said else "")


def measured(
    folder: Path, name: str, memory: str, known: Container[tuple[str, str]] = ()
) -> Iterator[tuple[str, str, str, str, str]]:
    """Rows of a command: refused, and then with what it asks for; or its peak."""
    if (name, memory) in known:
        return
    with tempfile.TemporaryDirectory() as out:
        places = {"e": folder / "best.json", "l": folder / "labels", "o": Path(out) / "out"}
        words = COMMANDS[name].format(**places).split()
        found = run(["-m", *words, "--memory", memory])
    least = re.search(r"give at least (\d+MB)", found.said)
    if found.code == 2 and least:
        yield name, memory, "", "", f"refused: at least {least.group(1)}"
        if memory != least.group(1):
            yield from measured(folder, name, least.group(1), known)
        return
    assert found.code == 0, found.said
    share = f"{found.bytes / parse_bytes(memory):.2f}"
    yield name, memory, f"{found.bytes / 1e6:.0f} MB", share, f"{found.seconds:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", nargs="+", default=["256MB", "400MB", "600MB", "1GB"])
    parser.add_argument("--only", nargs="+", choices=tuple(COMMANDS), default=list(COMMANDS))
    parser.add_argument("--stores", type=Path, help="a folder that `write_clips` has filled")
    parser.add_argument("--quick", action="store_true", help="small stores")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.stores or Path(scratch)
        if options.stores is None:
            write_clips(folder, clips=[5, 5], **(SMALL if options.quick else LARGE))
        if not (folder / "best.json").exists():
            stores = sorted(folder.glob("*.zarr"))
            third = -(-len(stores) // 3)
            groups = {f"g{k}": stores[k * third : (k + 1) * third] for k in range(3)}
            groups = {name: some for name, some in groups.items() if some}
            fusion.HierarchicalEnsemble(groups).save(folder / "best.json")
        found: dict[tuple[str, str], tuple[str, ...]] = {}  # what is asked for twice is run once
        for memory in options.memory:
            for name in options.only:
                for row in measured(folder, name, memory, found):
                    found[row[:2]] = row
                    print(*row, file=sys.stderr, flush=True)
    rows = list(found.values())
    print(table(rows, ("command", "--memory", "peak", "of it", "")))


if __name__ == "__main__":
    main()
