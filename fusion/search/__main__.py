"""python -m fusion.search: from cached logits to searched weights, with the ladder of the paper's Table 3."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusion import cli
from fusion.config import parse_assignments
from fusion.ensemble import HierarchicalEnsemble, single_groups
from fusion.errors import InputError
from fusion.evaluate import add_truth, class_table, read_truth
from fusion.labels import Labels, write_labels
from fusion.metrics import CONVENTIONS, Scores
from fusion.search import METHODS, condense_ensemble, data_digest
from fusion.search.models import auto_groups, score_models
from fusion.search.report import Report, Split
from fusion.stores import LogitStore

EPILOG = """examples:
  python -m fusion.search --demo
  python -m fusion.search --ensemble ensemble.toml --labels labels/val --out results/
  python -m fusion.search --ensemble ensemble.toml --vspw VSPW_480p --split val --method optuna --trials 500
  python -m fusion.search --auto-groups --basic cache/mf_*.zarr --other cache/swin_*.zarr --labels labels/val
  python -m fusion.search --ensemble ensemble.toml --labels labels/val --test-stores cache/test --test-labels labels/test

results: OUT/best.json (an ensemble: fusion.HierarchicalEnsemble.load, fusion.predict), OUT/trials.csv (every weighting tried),
OUT/search.json (everything printed, scores as fractions).
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    if options.demo:
        prepare_demo(options)
    options.out = options.out or Path("results")
    truth = read_truth(options)
    ensemble, singles = open_ensemble(options, truth)
    splits = [measure("val" if options.labels else options.split, ensemble, truth, options, singles)]
    if options.test_labels:
        splits.append(measure("test", test_ensemble(ensemble, options), read_test_truth(options), options, None))
    extra = method_options(options, splits[0])
    found = METHODS[options.method](splits[0].condensed, convention=options.convention, progress=cli.progress, seed=options.seed, **extra)
    report = Report(ensemble.with_weights(found.weights), splits, found)
    report.write(options.out)
    if options.demo:
        demo_pictures(report, options.out)
    if options.json:
        cli.print_json(report.to_json())
        return 0
    print(report.text())
    if options.per_class:
        print("\n" + class_table(report.rungs[report.found_rung].scores[splits[0].name]))
    print(f"\nwrote best.json, trials.csv and search.json to {options.out}{', label maps to pictures/' if options.demo else ''}")
    return 0


def build_parser() -> argparse.ArgumentParser:
    parser = cli.parser("fusion.search", "Find the group weights that maximise mIoU on cached logits.", EPILOG)
    source = parser.add_argument_group("what is fused (one of these)")
    source.add_argument("--ensemble", type=Path, help="ensemble.toml or a saved best.json")
    source.add_argument("--auto-groups", action="store_true", help="form groups as the paper does, from --basic and --other")
    source.add_argument("--demo", action="store_true", help="make small simulated stores under OUT first, and search on those")
    groups = parser.add_argument_group("automatic groups: the basic family's best strong, its rest weak, the other's best auxiliary")
    groups.add_argument("--basic", nargs="+", type=Path, default=[], metavar="STORE", help="stores of the basic family")
    groups.add_argument("--other", nargs="+", type=Path, default=[], metavar="STORE", help="stores of the other family")
    groups.add_argument("--strong", type=int, default=3, help="size of the strong group (default 3)")
    groups.add_argument("--auxiliary", type=int, default=6, help="size of the auxiliary group (default 6)")
    add_truth(parser.add_argument_group("ground truth"))
    test = parser.add_argument_group("a second split, to see what the weights are worth elsewhere")
    test.add_argument("--test-labels", type=Path, metavar="DIR", help="its ground truth")
    test.add_argument("--test-stores", type=Path, metavar="DIR", help="folder with stores of the same names (default: the same stores)")
    how = parser.add_argument_group("search")
    how.add_argument("--method", choices=tuple(METHODS), default="grid", help="default grid")
    how.add_argument("--range", action="append", default=[], metavar="GROUP=FIRST:LAST:STEP", help="grid axis (default 0:2:0.1)")
    how.add_argument("--trials", type=int, default=200, help="optuna: trials in all (default 200)")
    how.add_argument("--sampler", default="tpe", help="optuna: tpe, cmaes, gp or random (default tpe)")
    how.add_argument("--storage", help="optuna: storage URL (default sqlite:///OUT/study.db); several processes may share one")
    how.add_argument("--seed", type=int, default=0)
    how.add_argument("--convention", choices=tuple(CONVENTIONS), default="vspw", help="classes in the mean (default vspw)")
    run = parser.add_argument_group("running")
    run.add_argument("--resize", choices=("probabilities", "logits"), help="overrides the ensemble's")
    run.add_argument("--align", choices=("strict", "intersect"), default="strict", help="what to do where stores lack videos or frames")
    run.add_argument("--scheduler", default="threads", help="threads, processes, synchronous or tcp://host:port (default threads)")
    run.add_argument("--memory", default="4GB", help="most bytes for pixels (default 4GB)")
    run.add_argument("--device", default="auto", help="auto, cpu or cuda")
    run.add_argument("--out", type=Path, help="where results go (default results, demo for --demo)")
    run.add_argument("--per-class", action="store_true", help="also print the IoU of every class")
    run.add_argument("--json", action="store_true", help="machine-readable result on stdout, scores as fractions")
    return parser


def prepare_demo(options: argparse.Namespace) -> None:
    """Simulated stores under OUT, and the options that search them."""
    from fusion import demo

    options.out = options.out or Path("demo")
    print("simulated data: 22 models, 124 classes, made up by fusion/demo.py; the figures say nothing about real networks", file=sys.stderr)
    for split in ("val", "test"):
        for _ in cli.progress(demo.write(options.out, split), f"simulating {split}", sum(demo.FAMILIES.values()), "model"):
            pass
    options.auto_groups, options.ensemble = True, None
    options.basic, options.other = (sorted((options.out / "val").glob(f"{family}_*.zarr")) for family in ("maskformer", "swin"))
    options.labels, options.test_labels = options.out / "labels" / "val", options.out / "labels" / "test"
    options.test_stores = options.out / "test"


def open_ensemble(options: argparse.Namespace, truth: Labels) -> tuple[HierarchicalEnsemble, dict[str, Scores]]:
    """The ensemble to search, and the scores of every model alone, best first."""
    common = {"memory": options.memory, "align": options.align, "device": options.device}
    if bool(options.ensemble) == options.auto_groups:
        raise InputError("give one of --ensemble FILE, --auto-groups with --basic and --other, or --demo")
    if options.ensemble:
        ensemble = HierarchicalEnsemble.load(options.ensemble, **common)
        if options.resize:
            ensemble = ensemble.regrouped(ensemble.groups, ensemble.weights, resize=options.resize)
        return ensemble, models_alone(ensemble, truth, options)
    families = {name: paths for name, paths in (("basic", options.basic), ("other", options.other)) if paths}
    if "basic" not in families:
        raise InputError("--auto-groups needs the stores of the basic family: --basic STORE ...")
    both = HierarchicalEnsemble(families, resize=options.resize or "probabilities", **common)
    singles = models_alone(both, truth, options)
    store_of = {name: store for name, (store,) in single_groups(both.stores).items()}
    family = {key: [name for name, store in store_of.items() if store in both.groups.get(key, ())] for key in ("basic", "other")}
    miou = {name: scores.miou for name, scores in singles.items()}
    auxiliary = min(options.auxiliary, len(family["other"]))
    groups = auto_groups(family["basic"], family["other"], miou, strong=options.strong, auxiliary=auxiliary)
    return both.regrouped({group: [store_of[name] for name in members] for group, members in groups.items()}), singles


def models_alone(ensemble: HierarchicalEnsemble, truth: Labels, options: argparse.Namespace) -> dict[str, Scores]:
    return score_models(ensemble, truth, convention=options.convention, scheduler=options.scheduler, progress="scoring single models")


def measure(
    name: str, ensemble: HierarchicalEnsemble, truth: Labels, options: argparse.Namespace, singles: dict[str, Scores] | None
) -> Split:
    """One split, condensed."""
    condensed = condense_ensemble(ensemble, truth, scheduler=options.scheduler, progress=f"condensing {name}")
    return Split(name, condensed, data_digest(ensemble, truth), singles or models_alone(ensemble, truth, options))


def test_ensemble(ensemble: HierarchicalEnsemble, options: argparse.Namespace) -> HierarchicalEnsemble:
    """The same groups on the stores of the second split."""
    if options.test_stores is None:
        return ensemble
    groups = {name: [LogitStore(options.test_stores / store.path.name) for store in stores] for name, stores in ensemble.groups.items()}
    temperatures = {store.path.name: value for store, value in zip(ensemble.stores, ensemble.temperatures, strict=True)}
    return ensemble.regrouped(groups, ensemble.weights, temperatures=temperatures)


def read_test_truth(options: argparse.Namespace) -> Labels:
    return Labels.folder(options.test_labels, stray=options.stray)


def method_options(options: argparse.Namespace, split: Split) -> dict[str, Any]:
    """What the command line says for one method only."""
    if options.method == "grid":
        return {"ranges": {name: parse_range(text) for name, text in parse_assignments(options.range, "--range").items()}}
    if options.method == "optuna":
        options.out.mkdir(parents=True, exist_ok=True)
        storage = options.storage or f"sqlite:///{options.out / 'study.db'}"
        return {"trials": options.trials, "sampler": options.sampler, "storage": storage, "digest": split.digest}
    return {}


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


if __name__ == "__main__":
    sys.exit(cli.run(main))
