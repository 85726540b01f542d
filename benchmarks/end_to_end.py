"""From predictions on disk to label maps to mIoU: stores beside nnU-Net's and mmsegmentation's way.

python -m benchmarks.end_to_end [--frames T] [--rounds N] [--quick] [--json]

22 models of 11 classes, 60 x 80, labels of 360 x 480, equal weights: simulated, and camvid22 where
SEGFUSION_DATA is set. Every way has the same numbers in its own files, which the page cache holds
after the first round, and reads ground truth from the same PNGs:

    fusion           compact stores, `HierarchicalEnsemble.evaluate`
    nnU-Net          <model>/<frame>.npz of float32 probabilities, at the labels' size, as it writes
    ... store size   its average of smaller files, interpolated once: what it might do
    mmseg            <model>/<frame>.npy of float32 logits, its loop

nnU-Net and mmsegmentation are written from their sources (benchmarks/peers). nnU-Net's cases run in
as many threads as torch has; it takes processes. Before anything is timed labels have to be the
oracle's (peers may differ where the two best scores are within 1e-5), this library's counts those
of the oracle's labels, and every mIoU within 1e-6 of that of the way's own labels.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import fusion
from benchmarks import measure, simulated
from benchmarks.fusion import agrees
from benchmarks.peers import decoded, mmseg_loop, nnunet_average
from benchmarks.peers.torch_upsample import resized
from fusion.kernels.arithmetic import Fused
from fusion.kernels.call import check_upsampling
from fusion.kernels.upsample import naive
from fusion.labels import write_labels
from fusion.metrics.confusion import confusion, miou
from fusion.text import say_bytes, table

CPU = torch.device("cpu")
VIDEO = "clip"
ROOM = 1e-5  # between scores that another order of sums may exchange
SAME = 1e-6  # of an mIoU


@dataclass(frozen=True)
class Row(measure.Row):
    """With what lies on disk."""

    bytes: int | None = None
    ms_per_frame: float | None = None
    times_fusion: float | None = None


@dataclass(frozen=True, eq=False)
class Scene:
    """M models' gap codes [C, T, h, w] and targets [T, H, W], here and in `folder`."""

    folder: Path
    codes: list[torch.Tensor]
    targets: np.ndarray

    @property
    def classes(self) -> int:
        return len(self.codes[0])

    @property
    def size(self) -> tuple[int, int]:
        return self.targets.shape[1], self.targets.shape[2]

    @property
    def frames(self) -> list[str]:
        return [f"{t:05d}" for t in range(len(self.targets))]

    def files(self, kind: str, frame: str) -> list[Path]:
        """Every model's file of a frame."""
        return sorted(self.folder.glob(f"{kind}/*/{frame}.*"))

    def truth(self) -> np.ndarray:
        """As a peer reads it."""
        files = [self.folder / "labels" / VIDEO / f"{frame}.png" for frame in self.frames]
        return np.stack([np.array(Image.open(file)) for file in files])

    def write(self) -> None:
        """All ways' files."""
        names = [str(c) for c in range(self.classes)]
        for m, codes in enumerate(self.codes):
            model, logits = f"{m:02d}", decoded(codes)
            with (
                fusion.LogitWriter(self.folder / "stores" / f"{model}.zarr", names) as writer,
                writer.video(VIDEO, frames=self.frames, size=self.size) as video,
            ):
                for t in range(len(self.targets)):
                    video.append(logits[:, t].numpy())
            for kind in ("npz", "small", "npy"):
                (self.folder / kind / model).mkdir(parents=True)
            for t, frame in enumerate(self.frames):
                native, whole = logits[:, t], resized(logits[:, t], self.size)
                np.save(self.folder / "npy" / model / f"{frame}.npy", native.numpy())
                for kind, values in (("npz", whole), ("small", native)):
                    path, key = self.folder / kind / model / f"{frame}.npz", nnunet_average.KEY
                    np.savez_compressed(path, **{key: values.softmax(dim=0).numpy()})
        for frame, target in zip(self.frames, self.targets, strict=True):
            write_labels(self.folder / "labels" / VIDEO / f"{frame}.png", target)

    @cached_property
    def expected(self) -> dict[str, Fused]:
        """The oracle's labels [T, H, W] and margins by way of resizing."""
        outputs, made = ("labels", "margin"), {}
        for resize in ("probabilities", "logits"):
            how = {"groups": [list(range(len(self.codes)))], "resize": resize, "outputs": outputs}
            each = [
                naive.upsample(
                    check_upsampling([z[:, t] for z in self.codes], [1.0], self.size, **how)
                )
                for t in range(len(self.targets))
            ]
            stacks = [torch.stack([getattr(frame, name) for frame in each]) for name in outputs]
            made[resize] = Fused(labels=stacks[0], margin=stacks[1])
        return made


@dataclass(frozen=True)
class Way:
    """How labels are made of files, and scored; `kind` is the folder of its files."""

    case: str
    name: str
    kind: str
    labels: Callable[[Scene], np.ndarray]
    score: Callable[[Scene], float]


def ensemble(scene: Scene, resize: str) -> fusion.HierarchicalEnsemble:
    return fusion.HierarchicalEnsemble(
        {"all": str(scene.folder / "stores" / "*.zarr")}, resize=resize, device="cpu"
    )


def scores(scene: Scene, resize: str) -> fusion.Scores:
    truth = fusion.Labels.folder(scene.folder / "labels", classes=scene.classes)
    return ensemble(scene, resize).evaluate(truth)


def by_case(scene: Scene, one: Callable[[str], np.ndarray]) -> np.ndarray:
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return np.stack(list(pool.map(one, scene.frames)))


def nnunet(scene: Scene) -> np.ndarray:
    average = nnunet_average.average_probabilities
    return by_case(scene, lambda frame: average(scene.files("npz", frame)).argmax(axis=0))


def nnunet_small(scene: Scene) -> np.ndarray:
    def one(frame: str) -> np.ndarray:
        average = nnunet_average.average_probabilities(scene.files("small", frame))
        return resized(torch.from_numpy(average), scene.size).argmax(dim=0).numpy()

    return by_case(scene, one)


def nnunet_score(scene: Scene, labels: Callable[[Scene], np.ndarray]) -> float:
    return nnunet_average.miou(scene.truth(), labels(scene), scene.classes)


def mmseg(scene: Scene) -> np.ndarray:
    made = []
    for frame in scene.frames:
        maps = [torch.from_numpy(np.load(file)) for file in scene.files("npy", frame)]
        made.append(mmseg_loop.summed(maps, scene.size, [1] * len(maps)).numpy())
    return np.stack(made)


def mmseg_score(scene: Scene) -> float:
    return mmseg_loop.miou(scene.truth(), mmseg(scene), scene.classes)


def own(resize: str) -> Way:
    def labels(scene: Scene) -> np.ndarray:
        return ensemble(scene, resize).predict(VIDEO)

    return Way(resize, "fusion", "stores", labels, lambda scene: scores(scene, resize).miou)


def of_nnunet(case: str, name: str, kind: str, labels: Callable[[Scene], np.ndarray]) -> Way:
    return Way(case, name, kind, labels, partial(nnunet_score, labels=labels))


WAYS = (
    own("probabilities"),
    of_nnunet("probabilities", "nnU-Net, store size", "small", nnunet_small),
    own("logits"),
    of_nnunet("logits", "nnU-Net, as it writes", "npz", nnunet),
    Way("logits", "mmseg loop", "npy", mmseg, mmseg_score),
)


def simulated_scene(folder: Path, frames: int, quick: bool) -> Scene:
    """Targets are what one of the models says, a tenth of them void."""
    models, classes, native, size = 22, 11, (60, 80), (360, 480)
    if quick:
        models, classes, native, size = 3, 5, (6, 8), (15, 20)
    every = [simulated.agreeing(models, classes, native, seed=t) for t in range(frames)]
    maps = [torch.stack([frame[m] for frame in every], dim=1) for m in range(models)]
    known = torch.stack([resized(maps[-1][:, t], size).argmax(dim=0) for t in range(frames)])
    void = np.random.default_rng(0).random(known.shape) < 0.1
    targets = np.where(void, 255, known.numpy()).astype(np.uint8)
    return Scene(folder, [simulated.gap_codes(z) for z in maps], targets)


def real_scene(folder: Path, frames: int) -> Scene | None:
    """The first frames of camvid22's first clip."""
    codes, source = simulated.real_codes(frames), Path(os.environ.get("SEGFUSION_DATA", ""))
    if codes is None or not (source / "meta.json").is_file():
        return None
    videos = json.loads((source / "meta.json").read_text())["videos"]
    names = [source / "labels" / v / f"{f}.png" for v in sorted(videos) for f in videos[v]]
    targets = np.stack([np.array(Image.open(file)) for file in names[: codes[0].shape[1]]])
    return Scene(folder, codes, targets)


def wrong(way: Way, scene: Scene) -> str | None:
    """What is wrong with a way's labels or score, if anything."""
    expected, labels, exact = scene.expected[way.case], way.labels(scene), way.name == "fusion"
    assert expected.labels is not None
    if not agrees(torch.from_numpy(labels), expected, exact, ROOM):
        return "wrong: labels differ from the reference's"
    counts = confusion(scene.targets, labels.astype(np.uint8), scene.classes)
    if exact and not np.array_equal(scores(scene, way.case).confusion, counts):
        return "wrong: other counts than the reference's"
    if abs(way.score(scene) - float(miou(counts))) > SAME:
        return "wrong: another mIoU than that of its labels"
    return None


def measured(name: str, scene: Scene, rounds: int) -> Iterator[Row]:
    """All ways of both cases."""
    sound: list[Way] = []
    for way in WAYS:
        problem = wrong(way, scene)
        if problem is None:
            sound.append(way)
        else:
            yield Row(f"{name}, {way.case}", way.name, problem)
    runs = {f"{way.case} {way.name}": partial(way.score, scene) for way in sound}
    times = measure.interleaved(runs, rounds, CPU)
    for way in sound:
        low, median, high = measure.quantiles(times[f"{way.case} {way.name}"])
        paths = (scene.folder / way.kind).rglob("*")
        size = sum(path.stat().st_size for path in paths if path.is_file())
        fused = times.get(f"{way.case} fusion")
        ratio = measure.quantiles(fused)[1] / median if fused else None
        numbers = (size, median / len(scene.targets), ratio)
        yield Row(f"{name}, {way.case}", way.name, "ok", median, low, high, *numbers)


def cells(row: Row) -> list[str]:
    if row.median_ms is None or row.bytes is None or row.ms_per_frame is None:
        return [row.case, row.contender, row.status, "", "", "", "", ""]
    times = [f"{ms:.0f}" for ms in (row.median_ms, row.p20_ms, row.p80_ms) if ms is not None]
    slower = f"{1 / row.times_fusion:.1f}x" if row.times_fusion else ""
    each = f"{row.ms_per_frame:.1f}"
    return [row.case, row.contender, say_bytes(row.bytes), *times, each, slower]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.end_to_end", description="From files to mIoU beside other ways."
    )
    parser.add_argument("--frames", type=int, default=2, help="of each scene (default 2)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny maps: everything runs")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    frames, rows = 2 if given.quick else given.frames, list[Row]()
    with tempfile.TemporaryDirectory() as place:
        scenes = {
            "simulated": simulated_scene(Path(place) / "simulated", frames, given.quick),
            "camvid22": None if given.quick else real_scene(Path(place) / "camvid22", frames),
        }
        for name, scene in scenes.items():
            if scene is not None:
                scene.write()
                rows += measured(name, scene, 1 if given.quick else given.rounds)
    if given.json:
        print(json.dumps({**measure.environment(CPU), "rows": [vars(r) for r in rows]}, indent=1))
    else:
        heads = ["case", "contender", "on disk", "median ms", "p20", "p80", "ms/frame", "slower"]
        print(table(list(map(cells, rows)), heads))
    return int(any(row.status != "ok" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
