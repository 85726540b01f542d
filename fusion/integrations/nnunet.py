"""nnU-Net: an output folder of `nnUNetv2_predict --save_probabilities`, watched while it fills."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusion.errors import InputError
from fusion.integrations.units import Units
from fusion.progress import bar
from fusion.stores.importers.nnunet import NnUnet
from fusion.stores.importers.protocol import Source
from fusion.text import natural_order

Look = dict[str, tuple[int, ...]]  # case: sizes and times of its files


def watch(
    folder: str | Path,
    path: str | Path,
    classes: Sequence[str],
    *,
    once: bool = False,
    cases: int | None = None,
    interval: float = 5.0,
    values: str = "probabilities",
    **store: Any,
) -> list[str]:
    """Commits every case whose <case>.npz and .pkl are there and no longer grow.

    Start it beside nnU-Net, or behind it with `once`. Run it again to go on. Ctrl-C loses nothing.

    Args:
        folder: nnU-Net's -o.
        path: the store.
        classes: C names in channel order, the background first (dataset.json's labels).
        once: what is complete now, then return.
        cases: return when the store has so many of the folder's; default: at Ctrl-C.
        interval: seconds between two looks at the folder, within which a file must not change.
        values: "sigmoid-probabilities" of a model with regions.
        store: more of `LogitWriter`: profile, model, provenance.

    Returns:
        The folder's cases that the store has.

    Raises:
        InputError: no such folder, or complete files that cannot be read; after all others of that
            look are committed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give nnUNetv2_predict's output folder")
    done: list[str] = []
    shown = bar(f"{Path(path).stem} from {folder.name}", cases, unit="case")
    with Units(path, classes, values=values, **store) as units, shown:
        before: Look = {}
        while cases is None or len(done) < cases:
            before = before or _look(folder)
            time.sleep(interval)
            now = _look(folder)
            still = [case for case in now if case not in done and before.get(case) == now[case]]
            wrong = []
            for case in sorted(still, key=natural_order):
                try:
                    _commit(units, folder, case, classes)
                    done.append(case)
                    shown.update()
                except InputError as error:
                    wrong.append(error)
            if wrong:
                raise wrong[0]
            if once:
                break
            before = now
    return done


def _look(folder: Path) -> Look:
    """Sizes and times of cases' files; the .pkl comes last, so what has none is not complete."""
    found = {}
    for file in folder.glob("*.npz"):
        try:
            states = [part.stat() for part in (file, file.with_suffix(".pkl"))]
        except FileNotFoundError:
            continue
        found[file.stem] = tuple(n for s in states for n in (s.st_size, s.st_mtime_ns))
    return found


def _commit(units: Units, folder: Path, case: str, classes: Sequence[str]) -> None:
    if units.committed(case):
        return
    found = NnUnet().frames(Source(case, (folder / f"{case}.npz",), named=False), classes)
    units.add_whole(case, found.ids, found.arrays, geometry=found.geometry)
