"""python -m fusion.search: from cached logits to searched weights, with the ladder of the paper's Table 3."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusion import cli
from fusion.text import parse_assignments
from fusion.errors import InputError
from fusion.labels import Labels, write_labels
from fusion.metrics import CONVENTIONS
from fusion.progress import progress
from fusion.search import METHODS, fold_options
from fusion.search.report import Report, Split
from fusion.search.run import contributions, measure, on_test_stores, open_ensemble, prepare_demo
from fusion.search.verdict import validated

FOLDS = 5

EPILOG = """examples:
  python -m fusion.search --demo
  python -m fusion.search --ensemble ensemble.toml --labels labels/val --out results/
  python -m fusion.search --ensemble ensemble.toml --labels labels/val --method exact
  python -m fusion.search --ensemble ensemble.toml --vspw VSPW_480p --split val --method optuna --trials 500
  python -m fusion.search --auto-groups --basic cache/mf_*.zarr --other cache/swin_*.zarr --labels labels/val
  python -m fusion.search --ensemble ensemble.toml --labels labels/val --test-stores cache/test --test-labels labels/test

methods: grid (alpha and beta as in the paper), optuna (any number of groups), greedy (over single models), exact (line searches that
see every weighting of a line at once; for up to three groups with a certificate of how far the best can be).
results: OUT/best.json (an ensemble: fusion.HierarchicalEnsemble.load, fusion.predict), OUT/trials.csv (every weighting tried),
OUT/search.json (everything printed, scores as fractions), OUT/condensed (what the next search on the same data starts from).
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    if options.demo:
        prepare_demo(options)
    options.out = options.out or Path("results")
    options.over = options.over or ("models" if options.method == "greedy" else "groups")
    truth = cli.read_truth(options)
    ensemble, singles = open_ensemble(options, truth)
    if options.over == "models":
        ensemble = ensemble.singles()
    splits = [
        measure("val" if options.labels else options.split, ensemble, truth, options, singles)
    ]
    if options.test_labels:
        test_truth = Labels.folder(options.test_labels, stray=options.stray)
        splits.append(measure("test", on_test_stores(ensemble, options), test_truth, options, None))
    found = search_split(splits[0], options)
    chosen = ensemble.with_weights(found.weights)
    added = contributions(chosen, truth, splits[0], options) if options.contributions else {}
    report = Report(chosen, splits, found, added, options.seed)
    report.write(options.out)
    if options.demo:
        demo_pictures(report, options.out)
    show(report, options)
    return 0


def search_split(split: Split, options: argparse.Namespace) -> Any:
    """Runs the method, then once more per fold of videos."""
    method, extra = METHODS[options.method], method_options(options, split)
    found = method(
        split.condensed,
        convention=options.convention,
        progress=progress,
        seed=options.seed,
        **extra,
    )
    folds = (
        (FOLDS if len(split.condensed.videos) > 1 else 0)
        if options.folds is None
        else options.folds
    )
    again = {**fold_options(options.method, extra), "progress": progress} if folds else {}
    return validated(
        split.condensed, found, method if folds else None, folds=folds, seed=options.seed, **again
    )


def show(report: Report, options: argparse.Namespace) -> None:
    if options.json:
        cli.print_json(report.to_json())
        return
    print(report.text())
    if options.per_class:
        scores = report.rungs[report.found_rung].scores[report.splits[0].name]
        print("\n" + scores.class_table())
    print(
        f"\nwrote best.json, trials.csv and search.json to {options.out}{', label maps to pictures/' if options.demo else ''}"
    )


def method_options(options: argparse.Namespace, split: Split) -> dict[str, Any]:
    """What the command line says for one method only."""
    if options.method == "grid":
        return {
            "ranges": {
                name: parse_range(text)
                for name, text in parse_assignments(options.range, "--range").items()
            }
        }
    if options.method == "greedy":
        return {"steps": options.steps}
    if options.method == "exact":
        return {
            "time_limit": options.time_limit,
            "gap": options.gap,
            "state": options.out / f"exact-{split.digest[:16]}.json",
        }
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--out: {options.out} cannot be made ({error.strerror}); give another folder"
        ) from error
    storage = options.storage or f"sqlite:///{options.out / 'study.db'}"
    return {
        "trials": options.trials,
        "sampler": options.sampler,
        "storage": storage,
        "digest": split.digest,
    }


def parse_range(text: str) -> tuple[float, float, float]:
    try:
        first, last, step = (float(number) for number in text.split(":"))
    except ValueError:
        raise InputError(f"--range: got {text!r}; give FIRST:LAST:STEP, such as 0:2:0.1") from None
    return first, last, step


def demo_pictures(report: Report, out: Path) -> None:
    """A few label maps to look at: the first frame of three val videos."""
    for video in report.ensemble.videos[:3]:
        frame, labels = next(iter(report.ensemble.label_maps(video)))
        write_labels(out / "pictures" / f"{video}_{frame}.png", labels, overwrite=True)


def build_parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "fusion.search",
        "Find the weights that maximise mIoU on cached logits, and say what they are worth.",
        EPILOG,
    )
    source = parser.add_argument_group("what is fused (one of these)")
    source.add_argument("--ensemble", type=Path, help="ensemble.toml or a saved best.json")
    source.add_argument(
        "--auto-groups",
        action="store_true",
        help="form groups as the paper does, from --basic and --other",
    )
    source.add_argument(
        "--demo",
        action="store_true",
        help="make small simulated stores under OUT first, and search on those",
    )
    groups = parser.add_argument_group(
        "automatic groups: the basic family's best strong, its rest weak, the other's best auxiliary"
    )
    groups.add_argument(
        "--basic",
        nargs="+",
        type=Path,
        default=[],
        metavar="STORE",
        help="stores of the basic family",
    )
    groups.add_argument(
        "--other",
        nargs="+",
        type=Path,
        default=[],
        metavar="STORE",
        help="stores of the other family",
    )
    groups.add_argument(
        "--strong",
        default="3",
        metavar="N",
        help="size of the strong group, or auto to search it (default 3)",
    )
    groups.add_argument(
        "--auxiliary",
        default="6",
        metavar="N",
        help="size of the auxiliary group, or auto to search it (default 6)",
    )
    cli.add_truth(parser.add_argument_group("ground truth"))
    test = parser.add_argument_group("a second split, to see what the weights are worth elsewhere")
    test.add_argument("--test-labels", type=Path, metavar="DIR", help="its ground truth")
    test.add_argument(
        "--test-stores",
        type=Path,
        metavar="DIR",
        help="folder with stores of the same names (default: the same stores)",
    )
    add_search(parser.add_argument_group("search"))
    run = parser.add_argument_group("running")
    run.add_argument(
        "--resize", choices=("probabilities", "logits"), help="overrides the ensemble's"
    )
    run.add_argument(
        "--align",
        choices=("strict", "intersect"),
        default="strict",
        help="what to do where stores lack videos or frames",
    )
    run.add_argument(
        "--scheduler",
        default="threads",
        help="threads, processes, synchronous or tcp://host:port (default threads)",
    )
    run.add_argument("--memory", default="4GB", help="most bytes for pixels (default 4GB)")
    run.add_argument("--device", default="auto", help="auto, cpu or cuda")
    run.add_argument("--out", type=Path, help="where results go (default results, demo for --demo)")
    run.add_argument(
        "--no-cache",
        action="store_true",
        help="keep no condensed pixels under OUT; all of them must fit into memory",
    )
    run.add_argument("--per-class", action="store_true", help="also print the IoU of every class")
    run.add_argument(
        "--json", action="store_true", help="machine-readable result on stdout, scores as fractions"
    )
    return parser


def add_search(how: argparse._ArgumentGroup) -> None:
    how.add_argument("--method", choices=tuple(METHODS), default="grid", help="default grid")
    how.add_argument(
        "--over",
        choices=("groups", "models"),
        help="what gets a weight (default groups; greedy: models)",
    )
    how.add_argument(
        "--folds",
        type=int,
        help=f"folds of videos for the held-out score, 0 for none (default {FOLDS})",
    )
    how.add_argument(
        "--stride",
        type=int,
        default=1,
        metavar="S",
        help="score every S-th row and column only (default 1: all pixels)",
    )
    how.add_argument(
        "--contributions", action="store_true", help="also say what each model adds (leave one out)"
    )
    how.add_argument(
        "--range",
        action="append",
        default=[],
        metavar="GROUP=FIRST:LAST:STEP",
        help="grid axis (default 0:2:0.1)",
    )
    how.add_argument("--trials", type=int, default=200, help="optuna: trials in all (default 200)")
    how.add_argument(
        "--sampler", default="tpe", help="optuna: tpe, cmaes, gp or random (default tpe)"
    )
    how.add_argument(
        "--storage",
        help="optuna: storage URL (default sqlite:///OUT/study.db); several processes may share one",
    )
    how.add_argument(
        "--steps", type=int, default=50, help="greedy: models chosen at most (default 50)"
    )
    how.add_argument(
        "--time-limit",
        type=float,
        metavar="SECONDS",
        help="exact: stop then, with the certificate there is (default none)",
    )
    how.add_argument(
        "--gap",
        type=float,
        default=1e-4,
        help="exact: aim of the certificate, as a fraction of mIoU (default 1e-4)",
    )
    how.add_argument("--seed", type=int, default=0)
    how.add_argument(
        "--convention",
        choices=tuple(CONVENTIONS),
        default="vspw",
        help="classes in the mean (default vspw)",
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
