"""python -m fusion.evaluate: scores of an ensemble, or of label maps, against ground truth."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fusion import cli
from fusion.ensemble.plan import Plan
from fusion.ensemble.postprocessed import needed
from fusion.errors import InputError
from fusion.estimate import Estimate, checked_plans, estimate
from fusion.hierarchical import HierarchicalEnsemble
from fusion.labels import Labels, read_classes
from fusion.labels.census import Census, outside_values
from fusion.labels.matching import check_names, mismatch
from fusion.memory import Share
from fusion.metrics import CONVENTIONS, VARIANTS, Scores, video_consistency
from fusion.metrics.consistency import LENGTHS, VideoWindows
from fusion.metrics.evaluation import (
    Part,
    Predictions,
    VideoConfusion,
    objective_of,
    report_video,
)
from fusion.metrics.objectives import OBJECTIVES
from fusion.parallel import map_videos
from fusion.postprocess.priors import with_estimated
from fusion.text import or_none, percent, table

EPILOG = """examples:
  python -m fusion.evaluate --ensemble results/best.json --labels labels/val
  python -m fusion.evaluate --ensemble results/best.json --labels labels/val \\
      --postprocess window:radius=1,motion=maps vote:radius=1
  python -m fusion.evaluate --predictions out/ --classes names.txt --vspw VSPW_480p --json
"""


@dataclass(frozen=True)
class PredictedLabels:
    """Label maps on disk in the place of an ensemble."""

    folder: Labels
    classes: tuple[str, ...]
    channels: tuple[str, ...] | None = None

    def predicted(self, video: str, frames: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
        for frame in frames:
            yield frame, self.folder.read(video, frame, classes=len(self.classes))

    def scored_videos(self, truth: Labels) -> tuple[str, ...]:
        check_names(truth, self.classes)
        if not set(truth.videos) & set(self.folder.videos):
            raise mismatch(truth.videos, self.folder.videos, "videos", intersect=False)
        return truth.videos

    def labelled_frames(self, truth: Labels, video: str) -> list[str]:
        frames = truth.frames(video)
        if lacking := sorted(set(frames) - set(self.folder.frames(video))):
            got = f"no prediction for {len(lacking)} labelled frames, first {lacking[0]!r}"
            raise InputError(f"video {video!r}: {got}; predict them")
        return frames

    def target(self, truth: Labels, video: str, frame: str) -> np.ndarray:
        size = self.folder.size(video, frame)
        return truth.read(video, frame, classes=len(self.classes), size=size)


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    share = cli.take_memory(options)
    truth, variant = cli.read_truth(options), options.variant
    source = read_source(options, truth.names)
    videos = source.scored_videos(truth)
    frames = {video: len(source.labelled_frames(truth, video)) for video in videos}
    if isinstance(source, HierarchicalEnsemble):
        plans = checked_plans(partial(plan_labels, source), videos, share)
        if options.estimate_priors:  # which looks at whole distributions
            checked_plans(partial(source.plan, outputs=("probabilities",)), videos, share)
        if options.plan:
            cli.show(planned(source, truth, plans, share, options), options)
            return 0
        if options.estimate_priors:
            source = with_estimated(source)
    else:
        share.check()
    if options.plan:
        raise InputError("--plan is of an ensemble, label maps are read one by one; leave it out")
    task = partial(report_video, VideoConfusion(source, truth), VARIANTS[variant].raw_targets)
    shown: dict[str, Any] = {"progress": "evaluating", "frames": frames}
    found = map_videos(task, videos, scheduler=options.scheduler, **shown)
    wanted = objective_of(source, options.objective or options.convention)
    scores = Scores({v: cm for v, (cm, _) in found.items()}, source.classes, wanted)
    windows = {video: windows for video, (_, windows) in found.items()}
    cli.remark(census(truth, windows, scores, source.channels).text())
    extra = None
    if options.calibration and isinstance(source, HierarchicalEnsemble):
        shown = {"scheduler": options.scheduler, "progress": "calibration"}
        extra = source.calibration(truth, **shown)
    named = {f"vc{n}": video_consistency(windows.values(), n, variant) for n in LENGTHS}
    if options.json:
        known = {"calibration": extra.to_json()} if extra else {}
        cli.print_json({**document(scores, named, variant), **known})
    else:
        print(report(scores, named, variant))
        if extra:
            print(f"calibration: {extra.text()}")
        if options.per_class:
            print(f"\n{scores.class_table()}")
    return 0


def plan_labels(ensemble: HierarchicalEnsemble, video: str) -> Plan:
    """Of label maps, and what is done to them."""
    return ensemble.plan(video, needed(ensemble.postprocess, ("labels",)))


def planned(
    ensemble: HierarchicalEnsemble,
    truth: Labels,
    plans: Sequence[Plan],
    share: Share,
    options: argparse.Namespace,
) -> Estimate:
    """What evaluating will take."""
    videos = ensemble.scored_videos(truth)
    frames = {video: ensemble.labelled_frames(truth, video) for video in videos}

    def work(video: str, some: Sequence[str]) -> int:
        VideoConfusion(ensemble, truth, parts={video: Part(video, tuple(some))})(video)
        return 0

    more = cli.priors_step(options)
    if options.calibration:
        more = (*more, ("calibration, one more pass over all probabilities", None))
    return estimate(ensemble, frames, plans, work, share, steps=more)


def census(
    truth: Labels,
    windows: Mapping[str, VideoWindows],
    scores: Scores,
    channels: Sequence[str] | None,
) -> Census:
    """What the labels hold, from what scoring them counted; all frames of a video are one size."""
    frames = {video: found.frames for video, found in windows.items()}
    pixels = sum(math.prod(truth.size(video)) * count for video, count in frames.items())
    pixels *= len(channels or [1])  # each channel of a pixel is scored
    outside = {} if channels else outside_values(truth, tuple(frames), len(scores.classes))
    rows = scores.confusion.sum(axis=1)
    return Census(len(frames), sum(frames.values()), pixels, rows, scores.classes, outside)


def document(scores: Scores, consistency: Mapping[str, float], variant: str) -> dict[str, Any]:
    """The scores as programs read them: fractions, null where a score does not exist."""
    interval = scores.interval()
    return {
        **scores.to_json(),
        **{name: or_none(value) for name, value in consistency.items()},
        "vc_variant": variant,
        "interval": None if math.isnan(interval[0]) else list(interval),
    }


def report(scores: Scores, consistency: Mapping[str, float], variant: str) -> str:
    """The scores as people read them: percent, nan where a score does not exist."""
    low, high = map(percent, scores.interval())
    wanted = scores.objective.name
    first = f"mIoU ({wanted})" if wanted in CONVENTIONS else wanted
    rows = [
        (first, scores.score, f"95 % interval over videos {low} to {high}"),
        ("fwIoU", scores.fwiou, ""),
        ("pixel accuracy", scores.pixel_accuracy, ""),
        ("mean accuracy", scores.mean_accuracy, ""),
        ("video mIoU", scores.video_miou, "plain mean over videos"),
        *((name.upper(), value, f"{variant} variant") for name, value in consistency.items()),
    ]
    shown = [(name, percent(value), note) for name, value, note in rows]
    counted = f"{len(scores.confusions)} videos, {int(scores.confusion.sum())} pixels scored"
    return f"{table(shown, ('score', '%', ''))}\n{counted}"


def build_parser() -> argparse.ArgumentParser:
    purpose = "mIoU, fwIoU, accuracies and video consistency against ground truth."
    parser = cli.parser("fusion.evaluate", purpose, EPILOG)
    source = parser.add_mutually_exclusive_group(required=True).add_argument
    source("--ensemble", type=Path, help="ensemble.toml or best.json")
    maps = "label maps <video>/<frame>.png, or in another layout that is recognised"
    source("--predictions", type=Path, metavar="DIR", help=maps)
    add = parser.add_argument
    stores = "take stores of the same names from here (another split)"
    add("--stores", type=Path, metavar="DIR", help=stores)
    names = "class names of --predictions, one a line, in a JSON list, or by number as VSPW's file "
    names += "has them (default: the labels' own)"
    add("--classes", type=Path, metavar="FILE", help=names)
    mapped = "what the values of --predictions mean, as --label-map (default: class ids)"
    add("--prediction-map", metavar="MAP", help=mapped)
    cli.add_truth(parser)
    mean = "classes in the mean (default vspw)"
    add("--convention", choices=CONVENTIONS, default="vspw", help=mean)
    most = f"another objective: {', '.join(OBJECTIVES)}"
    add("--objective", choices=tuple(OBJECTIVES), metavar="NAME", help=most)
    windows = "of video consistency (default official)"
    add("--variant", choices=tuple(VARIANTS), default="official", help=windows)
    add("--per-class", action="store_true", help="IoU and Dice of every class")
    cli.add_postprocess(parser)
    cli.add_calibration(parser)
    running = (cli.add_scheduler, cli.add_memory, cli.add_plan, cli.add_device, cli.add_json)
    for add_shared in running:
        add_shared(parser)
    return parser


def read_source(options: argparse.Namespace, names: Sequence[str] | None = None) -> Predictions:
    """The ensemble, or the label maps, that the options name.

    Args:
        options: of the command.
        names: of the classes, if the labels know them.
    """
    if options.ensemble:
        opened = {"stores": options.stores, "memory": options.memory, "device": options.device}
        changed = cli.read_postprocess(options)
        ensemble = HierarchicalEnsemble.load(options.ensemble, **opened, **changed)
        return ensemble.sharing(options.scheduler)
    if options.calibration:
        raise InputError("--calibration needs probabilities, label maps have none; give --ensemble")
    changed = cli.read_postprocess(options)
    if changed or options.estimate_priors:
        given = f"--{next(iter(changed), 'estimate-priors')}"
        raise InputError(f"{given} is of an ensemble, label maps are as they are; give --ensemble")
    if options.classes is not None:
        names = read_classes(options.classes)
    if names is None:
        raise InputError("--predictions needs --classes FILE, the names in order of the label ids")
    meaning = options.prediction_map or "none"
    folder = Labels.open("auto", options.predictions, class_map=meaning)
    return PredictedLabels(folder, tuple(names))


if __name__ == "__main__":
    cli.command(main)
