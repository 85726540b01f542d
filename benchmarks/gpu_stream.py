"""Stores to labels on a GPU, whole: what `python -m benchmarks.gpu` runs as its stage "stream".

Simulated stores of the compact profile in a folder for the time being. Frames a second of labels
through the prepared stream and frame by frame, of counts that stay on the device, of reading alone
and of the CPU; medians over rounds in turn. Labels of both GPU paths must be the same bits.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import fusion
from benchmarks import measure, simulated
from benchmarks.launch import Nothing
from fusion.ensemble import ring
from fusion.ensemble.device_stream import DeviceFusion
from fusion.ensemble.stream import Fusion
from fusion.labels import write_labels
from fusion.metrics.on_device import device_counts


class AtOnce(Nothing):
    """A driver that does everything at once, in host memory."""

    def copy(self, target: Tensor, source: Tensor, queue: Any) -> None:
        target.copy_(source)

    def graph(self, work: Callable[[], None], queue: Any) -> Callable[[], None]:
        return work


def stores(folder: Path, quick: bool) -> tuple[list[Path], list[str], tuple[int, int]]:
    """Paths, frames and label size of simulated stores."""
    models, classes, native, size, frames = 8, 124, (120, 214), (480, 853), 48
    if quick:
        models, classes, native, size, frames = 2, 3, (3, 5), (6, 9), 7
    logits = simulated.agreeing(models, classes, native)
    names, known = [f"{t:04d}" for t in range(frames)], [f"class {c}" for c in range(classes)]

    def write(m: int) -> Path:
        path = folder / f"model{m}.zarr"
        with (
            fusion.LogitWriter(path, known) as writer,
            writer.video("clip", frames=names, size=size) as out,
        ):
            for t in range(frames):
                out.append(logits[m].roll(7 * t, dims=2).numpy())
        return path

    with ThreadPoolExecutor() as pool:
        return list(pool.map(write, range(models))), names, size


def measured(device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    """Rows: what, whether it is right, frames a second."""
    with tempfile.TemporaryDirectory() as place:
        yield from _measured(Path(place), device, quick)


def _measured(folder: Path, device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    paths, names, size = stores(folder, quick)
    first = len(paths) // 2
    ensemble = fusion.HierarchicalEnsemble(
        {"a": paths[:first], "b": paths[first:]}, {"b": 0.7}, device=device.type
    )
    alone = {field.name: getattr(ensemble.recipe, field.name) for field in fields(Fusion)}
    made = DeviceFusion(**alone, **({"make_driver": _at_once} if device.type == "cpu" else {}))
    ensemble.__dict__["recipe"] = made
    plain = Fusion(**alone)
    plan = replace(ensemble.plan("clip"), aside=0)  # which is for a CPU's threads alone
    draw, classes = np.random.default_rng(0), len(ensemble.classes)
    for name in names:
        target = draw.integers(0, classes, size).astype(np.uint8)
        write_labels(folder / "truth" / "clip" / f"{name}.png", target)
    truth = fusion.Labels.folder(folder / "truth")

    def labels(recipe: Fusion, some: list[str] = names) -> list[Tensor]:
        bands = recipe.bands("clip", some, plan)
        return [fused.labels.cpu() for _, _, fused in bands if fused.labels is not None]

    by_stream, by_frame = labels(made), labels(plain)
    same = all(map(torch.equal, by_stream, by_frame)) and len(by_stream) == len(names)
    counts = device_counts(ensemble, truth, "clip", names)
    expected = np.zeros((classes, classes), np.int64)
    for name, map_ in zip(names, by_stream, strict=True):
        pair = ensemble.target(truth, "clip", name), map_.numpy()
        np.add.at(expected, tuple(each.reshape(-1) for each in pair), 1)
    counted = counts is not None and np.array_equal(counts, expected)
    runs: dict[str, Callable[[], object]] = {
        "labels, prepared batches": lambda: labels(made),
        "labels, frame by frame": lambda: labels(plain),
        "counts on the device": lambda: device_counts(ensemble, truth, "clip", names),
        "reading alone, one thread": lambda: [s.codes("clip") for s in ensemble.stores],
    }
    status = {"labels, prepared batches": "ok" if same else "wrong: other labels than by frame"}
    status["counts on the device"] = "ok" if counted else "wrong: other counts than of the labels"
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(1 if quick else 4):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if turn or quick:
                spent[name].append((time.perf_counter() - began) / len(names))
    for name, seconds in spent.items():
        low, median, high = measure.quantiles([1 / s for s in seconds])
        row = {"what": name, "status": status.get(name, "ok"), "ms_a_frame": 1000 / median}
        yield {**row, "frames_per_s": median, "p20": low, "p80": high}
    if not quick:
        yield _beside_cpu(alone, plan, names[:6], by_stream)
    ring.release()


def _beside_cpu(
    alone: dict[str, Any], plan: Any, some: list[str], found: list[Tensor]
) -> dict[str, Any]:
    """Labels of some frames on the CPU: how many differ (near ties may), how long it takes."""
    recipe = Fusion(**{**alone, "device": torch.device("cpu")})
    began, differ, pixels = time.perf_counter(), 0, 0
    for (_, rows, fused), theirs in zip(recipe.bands("clip", some, plan), found, strict=False):
        assert fused.labels is not None
        differ += int((fused.labels != theirs[rows[0] : rows[1]]).sum())
        pixels += fused.labels.numel()
    spent = (time.perf_counter() - began) / len(some)
    said = f"{differ} of {pixels} labels differ"
    row = {"what": "labels on the CPU", "status": said, "ms_a_frame": 1000 * spent}
    return {**row, "frames_per_s": 1 / spent}


def _at_once(_: torch.device) -> AtOnce:
    return AtOnce()
