"""What a search was made of, as files keep it: enough to look at its data again without retyping.

Paths are relative to the folder of the results where they can be, so that results and data may move
together.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from fusion.ensemble import single_groups
from fusion.metrics.objectives import objective
from fusion.search.split import Split
from fusion.stores import Store
from fusion.version import __version__

Truth = tuple[Path, str, str | None]  # place, layout and split, of `cli.where_truth_is`
VERSIONS = ("numpy", "torch", "zarr")


def inputs_of(
    options: argparse.Namespace,
    splits: Sequence[Split],
    truths: Sequence[Truth],
    command: Sequence[str],
) -> dict[str, Any]:
    """Everything the command was told that a report needs.

    Args:
        options: of the search.
        splits: that it looked at, the searched one first.
        truths: where their labels are.
        command: as it was called, word by word.
    """
    first, out = splits[0], options.out
    given = every_store(first)
    named = {store.file_name: name for name, (store,) in single_groups(given).items()}
    known = dict(zip(first.ensemble.stores, first.ensemble.temperatures, strict=True))
    temperatures = {named[store.file_name]: known.get(store, 1.0) for store in given}
    wanted = objective(first.convention)
    chosen = zip(wanted.labels, (weight for _, weight in wanted.chosen), strict=True)
    pictures = options.images
    return {
        "command": list(command),
        "splits": {
            split.name: _split(split, named, truth, options)
            for split, truth in zip(splits, truths, strict=True)
        },
        "temperatures": temperatures,
        "images": None if pictures is None else relative(Path(pictures), out),
        "objective": {"kind": wanted.kind, "classes": dict(chosen)},
        "reach": first.reach,
        "align": first.ensemble.align,
    }


def every_store(split: Split) -> tuple[Store, ...]:
    """All stores that were given, also those that the formation of groups left out."""
    whole = split.ensemble if split.formation is None else split.formation.split.ensemble
    return whole.stores


def provenance() -> dict[str, str]:
    """When, and by which versions."""
    versions = {name: metadata.version(name) for name in VERSIONS}
    named = {"segfusion": __version__, "python": platform.python_version(), **versions}
    return {"date": datetime.now(UTC).isoformat(timespec="seconds"), **named}


def relative(path: Path, folder: Path) -> str:
    """A path as seen from a folder; absolute where there is no way, as between Windows' drives."""
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:
        return path.resolve().as_posix()


def _split(
    split: Split, named: Mapping[str, str], truth: Truth, options: argparse.Namespace
) -> dict[str, Any]:
    """Of a split; named: the model of every store, by the store's name."""
    out, videos, stores = options.out, split.ensemble.videos, {}
    for store in every_store(split):
        facts = {"path": store.seen_from(out), "digest": store.digest(videos)}
        stores[named[store.file_name]] = facts
    labels = _labels(options, truth, out)
    labels["digest"] = split.truth.digest(split.ensemble.scored_videos(split.truth))
    return {"labels": labels, "stores": stores, "videos": list(videos)}


def _labels(options: argparse.Namespace, truth: Truth, out: Path) -> dict[str, Any]:
    """Where the labels are, and what `cli.add_truth`'s options say of them."""
    place, layout, split = truth
    known = options.label_map
    if known is not None and Path(known).exists():
        known = {"file": relative(Path(known), out)}
    said = {"pattern": options.label_pattern, "column": options.label_column}
    said = {name: value for name, value in said.items() if value is not None}
    how = {"layout": layout, "split": split, "map": known, "stray": options.stray}
    return {"path": relative(place, out), **how, **said}
