"""The public doors of the library, each with arguments that are right, and what may be wrong there.

A door is a function, a class or a method that the reference names. `wrong(door)` are calls in which
one argument is of the wrong kind, shape, size or value, all others right: every parameter of the
signature takes part, so that a new one is tried without being listed.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fusion
from fusion import kernels, stores
from fusion.labels import colour_map, read_class_map, read_classes, write_colours, write_labels
from fusion.metrics import (
    Objective,
    bias_corrected,
    class_iou,
    confusion,
    map_videos,
    miou,
    miou_of_counts,
    objective,
    stable_windows,
    video_consistency,
)
from fusion.outputs import submit, write
from fusion.postprocess import operation_of, pipeline_of
from fusion.report import write_report
from fusion.search import condense_ensemble, data_digest, fit_temperatures, search
from fusion.stores.importers import import_folder

CLASSES, SIZE, NATIVE = ["sky", "road", "tree"], (8, 12), (4, 6)
VIDEOS = {"a": ["f1", "f2"], "b": ["f1", "f2"]}


class Alien:
    """What no function can take."""

    def __repr__(self) -> str:
        return "<alien>"


ALIEN = Alien()
WRONG: dict[str, Any] = {
    "alien": ALIEN,
    "class": Alien,
    "number": 7,
    "zero": 0,
    "negative": -1,
    "fraction": 1.5,
    "nan": math.nan,
    "inf": math.inf,
    "tiny": 1e-300,
    "huge": 10**30,
    "text": "no such thing",
    "nothing said": "",
    "nul": "a\0b",
    "long text": "x" * 5000,
    "surrogate": "\ud800",
    "bytes": b"bytes",
    "none": None,
    "true": True,
    "complex": 1j,
    "empty list": [],
    "empty dict": {},
    "empty tuple": (),
    "list of aliens": [ALIEN],
    "list of text": ["no such thing"],
    "list of numbers": [1, 2, 3, 4, 5],
    "list of nan": [math.nan] * 3,
    "negative pair": (-1, -1),
    "zero pair": (0, 0),
    "huge pair": (10**9, 10**9),
    "triple": (1, 2, 3),
    "dict of aliens": {ALIEN: ALIEN},
    "dict by text": {"no such thing": ALIEN},
    "dict by number": {1: 2},
    "dict of nan": {"sky": math.nan},
    "set": {1, 2},
    "function": lambda *given, **named: ALIEN,
    "array": np.zeros((2, 3)),
    "array of nan": np.full((2, 3), np.nan),
    "array of text": np.array(["a", "b"]),
    "array of objects": np.array([ALIEN, None], dtype=object),
    "array without items": np.zeros((0, 3)),
    "array of 5 axes": np.zeros((1, 1, 1, 1, 1)),
    "scalar array": np.array(3.0),
    "tensor": torch.zeros(2, 3),
    "complex tensor": torch.zeros(2, 3, dtype=torch.complex64),
    "sparse tensor": torch.zeros(2, 3).to_sparse(),
    "path to nowhere": Path("/no/such/place"),
    "path to a file": Path("a file"),
}
# to take one of these is wrong wherever the signature does not say that anything goes
NEVER = ("alien", "class", "bytes", "complex", "dict of aliens", "list of aliens")


@dataclass(frozen=True)
class Door:
    """A public function.

    Args:
        function: what is called.
        right: arguments that are.
        free: parameters that take whatever there is, and those that are the caller's functions,
            whose errors are his own.
        refuses: whether what is right here is refused after all, by something too large to be
            made here: a report's search, a server's 124 classes.
    """

    function: Callable[..., Any]
    right: Mapping[str, Any] = field(default_factory=dict)
    free: tuple[str, ...] = ()
    refuses: bool = False


@dataclass(frozen=True)
class Fresh:
    """What is made anew for every call."""

    make: Callable[[], Any]


class World:
    """Two models, their labels, an ensemble and a search: what right arguments are made of."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, itertools.count()
        draw = np.random.default_rng(0)
        self.paths = []
        for model in ("m0", "m1"):
            writer = fusion.LogitWriter(folder / f"{model}.zarr", CLASSES, model=model)
            for video, frames in VIDEOS.items():
                with writer.video(video, frames=frames, size=SIZE) as out:
                    for _ in frames:
                        out.append(draw.normal(0, 3, (3, *NATIVE)).astype(np.float32))
            self.paths.append(folder / f"{model}.zarr")
        for video, frames in VIDEOS.items():
            for frame in frames:
                values = draw.integers(0, 3, SIZE).astype(np.uint8)
                write_labels(folder / "labels" / video / f"{frame}.png", values)
        self.labels = fusion.Labels.folder(folder / "labels")
        self.store = fusion.LogitStore(self.paths[0])
        self.ensemble = fusion.HierarchicalEnsemble({"a": self.paths[:1], "b": self.paths[1:]})
        self.scores = self.ensemble.evaluate(self.labels)
        self.found = search(self.ensemble, self.labels, "grid", folds=2)
        self.ensemble.save(folder / "saved.json")
        np.save(folder / "array.npy", draw.normal(0, 3, (2, 3, *NATIVE)).astype(np.float32))
        (folder / "classes.txt").write_text("\n".join(CLASSES))
        (folder / "a file").write_text("nothing in particular")

    def fresh(self, ending: str = "") -> Fresh:
        """A path where nothing is."""
        return Fresh(lambda: self.folder / f"new{next(self.count)}{ending}")

    def writer(self) -> fusion.LogitWriter:
        return fusion.LogitWriter(self.fresh(".zarr").make(), CLASSES)

    def appended(self, frame: Any) -> None:
        with self.writer().video("v", frames=["f"]) as out:
            out.append(frame)

    def extended(self, batch: Any) -> None:
        with self.writer().video("v", frames=["f"]) as out:
            out.extend(batch)

    def tiled(self, tile: Any, at: Any) -> None:
        with self.writer().tiles("v", (4, 6)) as out:
            out.add(tile, at)

    def entered(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """A method of a fresh writer that gives a context manager, entered."""

        def call(**given: Any) -> None:
            with method(self.writer(), **given) as out:
                if hasattr(out, "append"):
                    out.append(np.zeros((3, *NATIVE), np.float32))
                else:
                    out.add(np.zeros((3, *NATIVE), np.float32), (0, 0))

        asked = inspect.signature(method)
        own = list(asked.parameters.values())[1:]
        call.__signature__ = asked.replace(parameters=own)  # type: ignore[attr-defined]
        return call


def rooms(w: World) -> dict[str, Door]:
    """Functions and classes that stand over files and stores."""
    ids, truth = np.zeros((4, 6), np.uint8), {"ensemble": w.ensemble, "truth": w.labels}
    arrays = [np.full((3, 4, 6), 1 / 3, np.float32) for _ in range(2)]
    loaded = {"net": lambda x: x, "loader": [{"image": torch.zeros(1, 3, 4, 6), "id": ["x"]}]}
    stacked = {"predictions": [np.stack([a] * 4) for a in arrays], "labels": np.stack([ids] * 4)}
    frame = np.zeros((3, 4, 6), np.float32)
    own = ("net", "unit", "frame", "size", "images", "output")  # functions, or names for them
    return {
        "HierarchicalEnsemble": Door(fusion.HierarchicalEnsemble, {"groups": {"a": w.paths}}),
        "fuse": Door(fusion.fuse, {"predictions": arrays}),
        "search_weights": Door(fusion.search_weights, stacked),
        "cache_predictions": Door(
            fusion.cache_predictions,
            {**loaded, "path": w.fresh(".zarr"), "classes": CLASSES, "unit": "id"},
            own,
        ),
        "LogitStore": Door(fusion.LogitStore, {"path": w.paths[0]}),
        "LogitWriter": Door(fusion.LogitWriter, {"path": w.fresh(".zarr"), "classes": CLASSES}),
        "LogitWriter.video": Door(
            w.entered(fusion.LogitWriter.video), {"video": "v", "frames": ["f"]}
        ),
        "LogitWriter.tiles": Door(
            w.entered(fusion.LogitWriter.tiles), {"video": "v", "size": NATIVE}
        ),
        "VideoWriter.append": Door(w.appended, {"frame": frame}),
        "VideoWriter.extend": Door(w.extended, {"batch": frame[None]}),
        "TileWriter.add": Door(w.tiled, {"tile": frame, "at": (0, 0)}),
        "MemoryStore": Door(fusion.MemoryStore, {"arrays": {"a": frame[None]}}),
        "import_folder": Door(
            import_folder,
            {"source": w.folder / "array.npy", "dest": w.fresh(".zarr"), "classes": CLASSES},
            ("progress",),
        ),
        "Labels.open": Door(fusion.Labels.open, {"layout": "folder", "root": w.folder / "labels"}),
        "Labels.folder": Door(fusion.Labels.folder, {"path": w.folder / "labels"}),
        "Labels.from_arrays": Door(fusion.Labels.from_arrays, {"units": {"a": ids[None]}}),
        "read_classes": Door(read_classes, {"path": w.folder / "classes.txt"}),
        "read_class_map": Door(read_class_map, {"given": "vspw"}),
        "write_labels": Door(write_labels, {"path": w.fresh(".png"), "labels": ids}),
        "write_colours": Door(
            write_colours, {"path": w.fresh(".png"), "colours": np.zeros((4, 6, 3), np.uint8)}
        ),
        "search": Door(search, {**truth, "folds": 0}),
        "fit_temperatures": Door(fit_temperatures, truth),
        "condense_ensemble": Door(condense_ensemble, truth),
        "data_digest": Door(data_digest, truth),
        "outputs.write": Door(
            write, {"ensemble": w.ensemble, "out": w.fresh()}, ("stored", "progress")
        ),
        "write_report": Door(
            write_report, {"results": w.folder / "results", "out": w.fresh()}, refuses=True
        ),
        "outputs.submit": Door(
            submit, {"ensemble": w.ensemble, "out": w.fresh(), "name": "vspw"}, refuses=True
        ),
    }


def numbers(w: World) -> dict[str, Door]:
    """Functions of arrays, names and numbers alone."""
    logits = [torch.zeros(3, 4, 6), torch.ones(3, 4, 6)]
    ids, counts = np.zeros((4, 6), np.uint8), np.eye(3, dtype=np.int64)
    whole, pair = np.stack([counts, counts]), {"targets": ids, "labels": ids, "classes": 3}
    chosen = {"counts": np.ones((2, 2, 2, 3), int), "rows": whole.sum(2), "samples": 10}
    windows = stable_windows([ids] * 8, [ids] * 8, (8,))
    average: dict[str, Any] = {"logits": logits, "weights": [1.0, 1.0]}
    mixing = {"mixing": np.ones((2, 3, 3), np.float32), "bias": np.zeros(3, np.float32)}
    return {
        "tile_positions": Door(stores.tile_positions, {"size": (64, 64), "tile": (32, 32)}),
        "GapCodec": Door(stores.GapCodec),
        "AngleCodec": Door(stores.AngleCodec),
        "kernels.confusion": Door(kernels.confusion, pair),
        "kernels.head": Door(kernels.head, {"maps": logits, **mixing}),
        "kernels.softmax_average": Door(kernels.softmax_average, average),
        "kernels.upsample_softmax_average": Door(
            kernels.upsample_softmax_average, average | {"size": (8, 12)}
        ),
        "colour_map": Door(colour_map),
        "metrics.confusion": Door(confusion, pair),
        "metrics.miou": Door(miou, {"confusion": counts}),
        "metrics.class_iou": Door(class_iou, {"confusion": counts}),
        "metrics.miou_of_counts": Door(
            miou_of_counts, dict.fromkeys(("intersections", "rows", "columns"), np.ones(3, int))
        ),
        "metrics.objective": Door(objective, {"name": "vspw"}),
        "metrics.Objective": Door(Objective, {"kind": "miou"}),
        "metrics.bias_corrected": Door(bias_corrected, chosen),
        "metrics.stable_windows": Door(
            stable_windows, {"targets": [ids] * 2, "predictions": [ids] * 2, "lengths": (2,)}
        ),
        "metrics.video_consistency": Door(video_consistency, {"videos": [windows]}),
        "metrics.map_videos": Door(
            map_videos, {"task": len, "videos": ["a"], "scheduler": "synchronous"}, ("task", "take")
        ),
        "postprocess.operation_of": Door(operation_of, {"given": "vote"}),
        "postprocess.pipeline_of": Door(pipeline_of, {"given": ["vote"]}),
        "Scores": Door(fusion.Scores, {"confusions": {"a": counts}, "classes": CLASSES}),
    }


def methods(w: World) -> dict[str, Door]:
    """Methods of what the others make."""
    video, truth = {"video": "a"}, {"truth": w.labels}
    frame, scores = {**video, "frame": "f1"}, {"other": w.scores}
    none: dict[str, Any] = {}
    right: list[tuple[Any, dict[str, dict[str, Any]]]] = [
        (w.store, dict.fromkeys(("codes", "read", "describe", "frames"), video) | {"digest": {}}),
        (
            w.ensemble,
            {
                **dict.fromkeys(
                    ("predict", "predict_proba", "label_maps", "probability_maps"), video
                ),
                **dict.fromkeys(("uncertainty", "frames", "size", "plan", "stream"), video),
                **dict.fromkeys(("evaluate", "calibration", "search"), truth),
                "predict_all": {},
                "save": {"path": w.fresh(".json")},
                "with_weights": {"weights": {"a": 1.0, "b": 2.0}},
                "with_multipliers": {"multipliers": [1.0, 2.0, 1.0]},
                "with_postprocess": {"postprocess": "vote"},
                "regrouped": {"groups": w.ensemble.groups},
                "load": {"path": w.folder / "saved.json"},
            },
        ),
        (
            w.labels,
            {
                **dict.fromkeys(("frames", "size", "geometry"), video),
                **dict.fromkeys(("read", "raw", "path", "strays"), frame),
                "digest": {},
            },
        ),
        (
            w.scores,
            {
                **dict.fromkeys(("interval", "prediction_interval", "to_pandas"), none),
                **dict.fromkeys(("gain", "difference_interval"), scores),
                "with_convention": {"convention": "vspw"},
            },
        ),
        (w.found, dict.fromkeys(("interval", "prediction_interval"), none)),
    ]
    return {
        f"{type(made).__name__}.{name}": Door(getattr(made, name), given)
        for made, methods in right
        for name, given in methods.items()
    }


def call(door: Door, **wrong: Any) -> Any:
    """The door with its right arguments and these; iterators are used up."""
    given = {n: v.make() if isinstance(v, Fresh) else v for n, v in door.right.items()}
    made = door.function(**given | wrong)
    if isinstance(made, Iterator):
        for _ in made:
            pass
    return made


def wrong(door: Door) -> Iterator[tuple[str, str, Any]]:
    """(parameter, what is wrong, value): every parameter with everything."""
    for name, parameter in inspect.signature(door.function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        for what, value in WRONG.items():
            yield name, what, value
