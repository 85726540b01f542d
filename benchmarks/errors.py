"""How segmentation networks err, in a few numbers: together, apart, where, how sure, how steadily.

    SEGFUSION_DATA=FOLDER python -m benchmarks.errors            # of 22 real networks, camvid22
    python -m benchmarks.errors --demo                           # of the simulated ones, beside it

All of it at the resolution of the predictions, under the label in the middle of each cell. The
real numbers are kept in fusion/demo/measured.py, which the simulation is held to.
M models, T frames, C classes, h w cells.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.camvid import MISSING
from fusion import cli
from fusion.demo import GROUPS, networks, scenes_of
from fusion.demo.measured import CONFUSION, PROFILE
from fusion.demo.networks import ERRORS, Errors, evidence
from fusion.demo.scenes import CLASSES, Scene
from fusion.errors import InputError
from fusion.search.formation import auto_groups
from fusion.text import table

VOID = 255
USUAL = 0.005  # of a class: confusions that count as a habit
WHOLE = 0.01  # of a frame: errors in connected patches above it are whole regions
MERGED = {
    "road": "ground",
    "pavement": "ground",
    "pole": "post",
    "sign": "post",
    "pedestrian": "person",
    "bicyclist": "person",
}
Tops = NDArray[np.uint8]


@dataclass(frozen=True)
class Clip:
    """One clip's predictions and truth.

    Args:
        tops: [M, T, h, w], each model's top class. sure: [M, T, h, w], its probability.
        groups: [G, T, h, w], the top class of the mean of each group of models.
        fused: [T, h, w], the top class of the mean of all models.
        target: [T, h, w], void 255.
        dense: whether neighbouring frames are a fraction of a second apart.
    """

    tops: Tops
    sure: NDArray[np.float32]
    groups: Tops
    fused: Tops
    target: Tops
    dense: bool

    @classmethod
    def of(
        cls,
        probabilities: NDArray[np.float32],
        target: Tops,
        groups: Sequence[Sequence[int]],
        dense: bool,
    ) -> Clip:
        """Of probabilities [M, T, C, h, w], with the models of each group."""
        means = [probabilities[list(group)].mean(axis=0).argmax(axis=1) for group in groups]
        tops, sure = probabilities.argmax(axis=2).astype(np.uint8), probabilities.max(axis=2)
        fused = probabilities.mean(axis=0).argmax(axis=1).astype(np.uint8)
        return cls(tops, sure, np.stack(means).astype(np.uint8), fused, target, dense)


def profile(clips: Iterable[Clip], families: Sequence[int], classes: int) -> dict[str, float]:
    """The numbers: shares of labelled pixels unless a name says otherwise, means over models.

    Args:
        clips: of one ensemble.
        families: [M], 0 or 1: which models were made alike.
        classes: C.
    """
    total: dict[str, float] = defaultdict(float)
    counts = []  # of every clip and model, and of all models fused
    for clip in clips:
        known = clip.target != VOID
        each = (*clip.tops, clip.fused)
        counts.append([_confusion(clip.target[known], tops[known], classes) for tops in each])
        for part in (_together, _places, _sureness, _time):
            for name, value in part(clip, known, families).items():
                total[name] += value
    made = {
        name.removesuffix("/"): value / total[f"{name}of"]
        for name, value in total.items()
        if name.endswith("/") and total[f"{name}of"]
    }
    return {**_classes(np.array(counts), np.array(families)), **made}


def _confusion(target: Tops, tops: Tops, classes: int) -> NDArray[np.int64]:
    pairs = target.astype(np.int64) * classes + tops
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def _classes(counts: NDArray[np.int64], families: NDArray[np.int64]) -> dict[str, float]:
    """Of counts [V, M + 1, C, C]: how far models differ, and what becomes of rare classes."""
    clips, (all_of_it, fused) = counts, np.split(counts.sum(axis=0), [-1])
    right = np.diagonal(all_of_it, axis1=1, axis2=2)
    truth, said = all_of_it.sum(axis=2), all_of_it.sum(axis=1)
    miou, accuracy = _miou(all_of_it), right.sum(axis=1) / truth.sum(axis=1)
    frequency = truth[0] / truth[0].sum()
    order = np.argsort(-frequency)
    seen = order[frequency[order] > 0]
    half = len(seen) // 2
    recall = (right / np.maximum(truth, 1)).mean(axis=0)
    said_of = said.mean(axis=0) / np.maximum(truth[0], 1)
    singles = clips[:, :-1]
    right_of = np.trace(singles, axis1=2, axis2=3) / singles.sum(axis=(2, 3))
    return {
        "accuracy": accuracy.mean(),
        "accuracy: spread of models": accuracy.std(),
        "accuracy: spread of clips": right_of.mean(axis=1).std(),
        "mIoU": miou.mean(),
        "mIoU: spread of models": miou.std(),
        "mIoU: best model over the mean": miou.max() - miou.mean(),
        "mIoU: all fused over the mean": _miou(fused)[0] - miou.mean(),
        "classes: share of the most frequent": frequency.max(),
        "classes: share of the rarer half": frequency[seen[half:]].sum(),
        "recall: frequent half": recall[seen[:half]].mean(),
        "recall: rarer half": recall[seen[half:]].mean(),
        "predicted over true: spread of classes": np.log(said_of[seen]).std(),
        **_habits(all_of_it, families),
    }


def _miou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    right = np.diagonal(counts, axis1=1, axis2=2)
    union = counts.sum(axis=2) + counts.sum(axis=1) - right
    return np.asarray((right / np.maximum(union, 1)).mean(axis=1))


def _habits(counts: NDArray[np.int64], families: NDArray[np.int64]) -> dict[str, float]:
    """How far models differ in what they take a class for: spreads of log confusion rates."""
    rates = counts / np.maximum(counts.sum(axis=2, keepdims=True), 1)
    usual = (rates.mean(axis=0) > USUAL) & ~np.eye(counts.shape[1], dtype=bool)
    logs = np.log(rates + USUAL)[:, usual]
    means = np.stack([logs[families == family].mean(axis=0) for family in np.unique(families)])
    own = logs - means[np.searchsorted(np.unique(families), families)]
    return {
        "habits: spread of families": means.std(axis=0).mean(),
        "habits: spread within": own.std(),
    }


def _pairs(families: Sequence[int]) -> dict[str, list[tuple[int, int]]]:
    pairs = defaultdict(list)
    for a, b in itertools.combinations(range(len(families)), 2):
        pairs["within a family" if families[a] == families[b] else "between"].append((a, b))
    return pairs


def _together(clip: Clip, known: NDArray[np.bool_], families: Sequence[int]) -> dict[str, float]:
    """How often models say the same, and the same wrong thing."""
    tops, target = clip.tops[:, known], clip.target[known]
    wrong = tops != target
    found: dict[str, float] = {
        "one class in all groups/": float(
            (clip.groups[:, known] == clip.groups[0, known]).all(0).sum()
        ),
        "one class in all groups/of": target.size,
        "wrong by most models/": float((wrong.mean(axis=0) > 0.5).sum()),
        "wrong by most models/of": target.size,
    }
    for name, pairs in _pairs(families).items():
        for a, b in pairs:
            differ, either = tops[a] != tops[b], wrong[a] | wrong[b]
            for key, value in (
                (f"disagree, {name}/", differ.sum()),
                (f"disagree, {name}/of", target.size),
                (f"err alike, {name}/", (either & ~differ).sum()),
                (f"err alike, {name}/of", either.sum()),
            ):
                found[key] = found.get(key, 0.0) + float(value)
    return found


def _places(clip: Clip, known: NDArray[np.bool_], families: Sequence[int]) -> dict[str, float]:
    """Errors along borders of the truth, and in whole patches."""
    from scipy.ndimage import label

    edge = np.zeros_like(known)
    across = clip.target[:, :, 1:] != clip.target[:, :, :-1]
    down = clip.target[:, 1:] != clip.target[:, :-1]
    for at, where in (
        ((slice(None), slice(None), slice(1, None)), across),
        ((slice(None), slice(None), slice(None, -1)), across),
        ((slice(None), slice(1, None)), down),
        ((slice(None), slice(None, -1)), down),
    ):
        edge[at] |= where
    edge, inner = edge & known, ~edge & known
    wrong = (clip.tops != clip.target) & known
    models, big = len(wrong), 0
    for frame in wrong.reshape(-1, *wrong.shape[2:]):
        sizes = np.bincount(label(frame)[0].ravel())[1:]
        big += sizes[sizes >= WHOLE * frame.size].sum()
    return {
        "borders: share of pixels/": float(edge.sum()),
        "borders: share of pixels/of": float(known.sum()),
        "error at borders/": float(wrong[:, edge].sum()),
        "error at borders/of": float(models * edge.sum()),
        "error away from borders/": float(wrong[:, inner].sum()),
        "error away from borders/of": float(models * inner.sum()),
        "errors: share in whole patches/": float(big),
        "errors: share in whole patches/of": float(wrong.sum()),
    }


def _sureness(clip: Clip, known: NDArray[np.bool_], families: Sequence[int]) -> dict[str, float]:
    """Probability of the top class where it is right, and where it is not."""
    wrong, sure = (clip.tops != clip.target)[:, known], clip.sure[:, known]
    return {
        "confidence where right/": float(sure[~wrong].sum(dtype=np.float64)),
        "confidence where right/of": float((~wrong).sum()),
        "confidence where wrong/": float(sure[wrong].sum(dtype=np.float64)),
        "confidence where wrong/of": float(wrong.sum()),
    }


def _time(clip: Clip, known: NDArray[np.bool_], families: Sequence[int]) -> dict[str, float]:
    """From a frame to the next, where the truth stays: labels that flip, errors that stay."""
    if not clip.dense:
        return {}
    stays = (clip.target[1:] == clip.target[:-1]) & known[1:]
    before, after = clip.tops[:, :-1][:, stays], clip.tops[:, 1:][:, stays]
    wrong, wrong_after = before != clip.target[:-1][stays], after != clip.target[:-1][stays]
    return {
        "flicker/": float((before != after).sum()),
        "flicker/of": float(before.size),
        "errors that stay a frame later/": float((wrong & wrong_after).sum()),
        "errors that stay a frame later/of": float(wrong.sum()),
        "truth that stays a frame later/": float(stays.sum()),
        "truth that stays a frame later/of": float(known[1:].sum()),
    }


@dataclass(frozen=True)
class Real:
    """camvid22: networks and clips of the folder that SEGFUSION_DATA names, classes merged."""

    folder: Path

    @cached_property
    def meta(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads((self.folder / "meta.json").read_text())
        return read

    @property
    def families(self) -> list[int]:
        """Of every network: 0 ESPNet, 1 DiCENet."""
        return [int(not name.startswith("espnet")) for name in self.meta["models"]]

    @cached_property
    def index(self) -> NDArray[np.int64]:
        """Of each of its classes among the demo's."""
        return np.array([CLASSES.index(MERGED.get(name, name)) for name in self.meta["classes"]])

    def clips(self) -> list[Clip]:
        """All of them, with the three groups that the paper would form."""
        networks = [np.load(self.folder / f"{name}.npz") for name in self.meta["models"]]
        merge = np.zeros((len(CLASSES), len(self.index)), np.float32)
        merge[self.index, np.arange(len(self.index))] = 1
        probabilities, targets = {}, {}
        for clip, frames in self.meta["videos"].items():
            each = [np.exp(-24 * (network[clip] / np.float32(255)) ** 2) for network in networks]
            each = [np.einsum("tchw,kc->tkhw", z / z.sum(1, keepdims=True), merge) for z in each]
            probabilities[clip] = np.stack(each)
            targets[clip] = self._target(clip, frames, each[0].shape[2:])
        groups = self._groups(probabilities, targets)
        dense = {clip: clip.startswith("0016E5") for clip in targets}
        return [Clip.of(probabilities[c], targets[c], groups, dense[c]) for c in targets]

    def _target(self, clip: str, frames: Sequence[str], size: tuple[int, ...]) -> Tops:
        """[T, h, w], the label in the middle of each cell."""
        known = np.append(self.index, np.full(256 - len(self.index), VOID)).astype(np.uint8)
        made = []
        for frame in frames:
            with Image.open(self.folder / "labels" / clip / f"{frame}.png") as picture:
                labels = np.array(picture)
            step = labels.shape[0] // size[0]
            made.append(known[labels[step // 2 :: step, step // 2 :: step]])
        return np.stack(made)

    def _groups(self, probabilities: Any, targets: Any) -> list[list[int]]:
        counts = sum(
            np.stack(
                [
                    _confusion(targets[clip][known], tops[known], len(CLASSES))
                    for tops in each.argmax(axis=2).astype(np.uint8)
                ]
            )
            for clip, each in probabilities.items()
            for known in [targets[clip] != VOID]
        )
        names = self.meta["models"]
        miou = dict(zip(names, _miou(np.asarray(counts)), strict=True))
        dealt = ([n for n, f in zip(names, self.families, strict=True) if f == k] for k in (0, 1))
        formed = auto_groups(*dealt, miou)
        return [[names.index(name) for name in group] for group in formed.values()]


def simulated(scenes: Sequence[Scene], errors: Errors = ERRORS) -> tuple[list[Clip], list[int]]:
    """Clips of the demo's networks, and the family of each."""
    known = networks(errors)
    names = list(dict.fromkeys(network.family for network in known))
    families = [names.index(network.family) for network in known]
    ranked = sorted(range(len(known)), key=lambda k: known[k].lack)
    basic, other = ([k for k in ranked if families[k] == f] for f in (0, 1))
    strong = GROUPS["strong"]
    groups = [basic[:strong], basic[strong:], other[: GROUPS["auxiliary"]]]
    made = []
    for scene in scenes:
        seen = evidence(scene, errors=errors)
        logits = np.stack([np.stack([*network.logits(scene, seen)]) for network in known])
        logits = np.exp(logits - logits.max(axis=2, keepdims=True))
        target = scene.targets
        shares = logits / logits.sum(axis=2, keepdims=True)
        made.append(Clip.of(shares, target, groups, dense=True))
    return made, families


def confusion_rates(clips: Iterable[Clip]) -> NDArray[np.float64]:
    """[C, C]: of a class's pixels the share that a network gives each class; mean over networks."""
    counts = np.zeros((1, 1, 1))
    for clip in clips:
        known = clip.target != VOID
        each = [_confusion(clip.target[known], tops[known], len(CLASSES)) for tops in clip.tops]
        counts = counts + np.stack(each)
    return np.asarray((counts / counts.sum(axis=2, keepdims=True)).mean(axis=0))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = cli.parser("benchmarks.errors", "Measures how networks err.")
    parser.add_argument("--demo", action="store_true", help="the simulated ones, beside the real")
    options = parser.parse_args(arguments)
    folder = Path(os.environ.get("SEGFUSION_DATA", ""))
    shown: dict[str, dict[str, float]] = {"kept": PROFILE}
    if options.demo:
        shown["demo"] = profile(*simulated(scenes_of("val")), len(CLASSES))
    else:
        if not (folder / "meta.json").is_file():
            raise InputError(f"{MISSING}; set it, or give --demo")
        real = Real(folder)
        clips = real.clips()
        shown["real"] = profile(clips, real.families, len(CLASSES))
        rates = 100 * confusion_rates(clips)
        print("\n".join(", ".join(f"{rate:4.1f}" for rate in row) for row in rates))
        print(f"confusions differ from those kept by up to {np.abs(rates - CONFUSION).max():.2f}\n")
    names = next(reversed(shown.values()))
    rows = [(n, *(f"{each.get(n, np.nan):.3f}" for each in shown.values())) for n in names]
    print(table(rows, ("", *shown)))
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
