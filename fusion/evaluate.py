"""python -m fusion.evaluate: scores of an ensemble, or of label maps on disk, against ground truth."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusion import cli
from fusion.errors import InputError
from fusion.kernels.arithmetic import ignore_label
from fusion.labels import Labels
from fusion.metrics import Scores, confusion
from fusion.metrics import CONVENTIONS
from fusion.metrics.consistency import VARIANTS, VideoWindows, stable_windows, video_consistency
from fusion.parallel import map_videos
from fusion.text import table

EPILOG = """examples:
  python -m fusion.evaluate --ensemble results/best.json --labels labels/val
  python -m fusion.evaluate --predictions out/ --classes classes.txt --vspw VSPW_480p --split val --json
"""


@dataclass(frozen=True)
class PredictedLabels:
    """Label maps on disk in the place of an ensemble."""

    folder: Labels
    classes: tuple[str, ...]

    def label_maps(self, video: str, frames: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
        for frame in frames:
            yield frame, self.folder.read(video, frame, classes=len(self.classes))

    def labelled_frames(self, truth: Labels, video: str) -> list[str]:
        frames = truth.frames(video)
        lacking = sorted(set(frames) - set(self.folder.frames(video)))
        if lacking:
            raise InputError(
                f"video {video!r}: no prediction for {len(lacking)} labelled frames, first {lacking[0]!r}; predict them"
            )
        return frames

    def scored_videos(self, truth: Labels) -> tuple[str, ...]:
        return truth.videos

    def target(self, truth: Labels, video: str, frame: str) -> np.ndarray:
        return truth.read(
            video, frame, classes=len(self.classes), size=self.folder.size(video, frame)
        )


@dataclass(frozen=True)
class VideoReport:
    """The task of one video: its confusion matrix and its stable windows, in one pass over the predictions."""

    source: PredictedLabels
    truth: Labels
    raw_targets: bool

    def __call__(self, video: str) -> tuple[np.ndarray, VideoWindows]:
        classes, void = len(self.source.classes), ignore_label(len(self.source.classes))
        total = np.zeros((classes, classes), np.int64)

        def predictions() -> Iterator[np.ndarray]:
            for frame, labels in self.source.label_maps(video, frames):
                np.add(
                    total,
                    confusion(
                        self.source.target(self.truth, video, frame), labels, classes, ignore=void
                    ),
                    out=total,
                )
                yield labels

        frames = self.source.labelled_frames(self.truth, video)
        read = self.truth.raw if self.raw_targets else self.truth.read
        targets = (read(video, frame, classes=classes) for frame in frames)
        return total, stable_windows(targets, predictions())


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    truth, source = cli.read_truth(options), read_source(options)
    videos = source.scored_videos(truth)
    task = VideoReport(source, truth, VARIANTS[options.variant].raw_targets)
    found = map_videos(task, videos, scheduler=options.scheduler, progress="evaluating")
    scores = Scores(
        {video: matrix for video, (matrix, _) in found.items()}, source.classes, options.convention
    )
    windows = [w for _, w in found.values()]
    consistency = {f"vc{n}": video_consistency(windows, n, options.variant) for n in (8, 16)}
    if options.json:
        plain = {name: None if math.isnan(value) else value for name, value in consistency.items()}
        cli.print_json(
            {
                **scores.to_json(),
                **plain,
                "vc_variant": options.variant,
                "interval": _interval(scores),
            }
        )
    else:
        print(report(scores, consistency, options))
    return 0


def report(scores: Scores, consistency: dict[str, float], options: argparse.Namespace) -> str:
    """The scores as people read them: percent, nan where a score does not exist."""
    low, high = scores.interval()
    rows = [
        (
            f"mIoU ({options.convention})",
            f"{100 * scores.miou:.2f}",
            f"95 % interval over videos {100 * low:.2f} to {100 * high:.2f}",
        ),
        ("fwIoU", f"{100 * scores.fwiou:.2f}", ""),
        ("pixel accuracy", f"{100 * scores.pixel_accuracy:.2f}", ""),
        ("mean accuracy", f"{100 * scores.mean_accuracy:.2f}", ""),
        ("video mIoU", f"{100 * scores.video_miou:.2f}", "plain mean over videos"),
        *(
            (name.upper(), f"{100 * value:.2f}", f"{options.variant} variant")
            for name, value in consistency.items()
        ),
    ]
    text = (
        table(rows, ("score", "%", ""))
        + f"\n{len(scores.confusions)} videos, {int(scores.confusion.sum())} pixels scored"
    )
    return f"{text}\n\n{class_table(scores)}" if options.per_class else text


def class_table(scores: Scores) -> str:
    cells = zip(
        scores.classes,
        scores.class_iou.tolist(),
        scores.class_accuracy.tolist(),
        scores.confusion.sum(axis=1).tolist(),
        strict=True,
    )
    rows = [
        (name, f"{100 * iou:.2f}", f"{100 * accuracy:.2f}", str(pixels))
        for name, iou, accuracy, pixels in cells
    ]
    return table(rows, ("class", "IoU %", "accuracy %", "pixels"))


def build_parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "fusion.evaluate",
        "mIoU, fwIoU, accuracies and video consistency against ground truth.",
        EPILOG,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--ensemble", type=Path, help="ensemble.toml or best.json")
    source.add_argument(
        "--predictions",
        type=Path,
        metavar="DIR",
        help="label maps <video>/<frame>.png; needs --classes",
    )
    parser.add_argument(
        "--stores",
        type=Path,
        metavar="DIR",
        help="take stores of the same names from here (another split)",
    )
    parser.add_argument(
        "--classes", type=Path, metavar="FILE", help="class names, one a line or a JSON list"
    )
    cli.add_truth(parser)
    parser.add_argument(
        "--convention",
        choices=tuple(CONVENTIONS),
        default="vspw",
        help="classes in the mean (default vspw)",
    )
    parser.add_argument(
        "--variant",
        choices=tuple(VARIANTS),
        default="official",
        help="of video consistency (default official)",
    )
    parser.add_argument("--per-class", action="store_true", help="IoU of every class")
    parser.add_argument(
        "--scheduler",
        default="threads",
        help="threads, processes, synchronous or tcp://host:port (default threads)",
    )
    parser.add_argument("--memory", default="4GB", help="most bytes for pixels (default 4GB)")
    parser.add_argument(
        "--json", action="store_true", help="machine-readable result on stdout, scores as fractions"
    )
    return parser


def read_source(options: argparse.Namespace) -> PredictedLabels:
    if options.ensemble:
        from fusion.hierarchical import HierarchicalEnsemble

        return HierarchicalEnsemble.load(
            options.ensemble, stores=options.stores, memory=options.memory
        )  # type: ignore[return-value]
    if options.classes is None:
        raise InputError(
            "--predictions needs --classes FILE, the names in the order of the label ids"
        )
    from fusion.stores.importers.arrays import read_classes

    classes = tuple(read_classes(options.classes))
    return PredictedLabels(Labels.folder(options.predictions, classes=len(classes)), classes)


def _interval(scores: Scores) -> list[float] | None:
    low, high = scores.interval()
    return None if math.isnan(low) else [low, high]


if __name__ == "__main__":
    sys.exit(cli.run(main))
