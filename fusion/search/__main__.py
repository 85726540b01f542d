"""python -m fusion.search: from cached logits to searched weights, and what they are worth."""

from __future__ import annotations

import argparse
import itertools
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fusion import cli, files, sealed
from fusion.ensemble.ensemble import MEANS, RESIZE, Ensemble
from fusion.errors import InputError
from fusion.estimate import Steps
from fusion.folds import Units
from fusion.hierarchical import HierarchicalEnsemble
from fusion.metrics import CONVENTIONS, Calibration
from fusion.metrics.evaluation import objective_of
from fusion.metrics.objectives import OBJECTIVES, Objective
from fusion.progress import progress
from fusion.report import check_report, write_report
from fusion.search.compare import compare
from fusion.search.estimated import check_all, estimated
from fusion.search.inputs import inputs_of, provenance
from fusion.search.method import OVER
from fusion.search.postprocessing.tune import TUNES, Tuning
from fusion.search.printed import result_text
from fusion.search.registry import METHODS
from fusion.search.report import Report
from fusion.search.run import FOLDS, Run
from fusion.search.selection import read_reach
from fusion.search.temperatures import fit_table
from fusion.stores import Store
from fusion.terminal import style_of, wrapped
from fusion.text import listed

EPILOG = """examples:
  python -m fusion.search --demo
  python -m fusion.search --stores cache/*.zarr --labels labels/val
  python -m fusion.search --ensemble ensemble.toml --labels labels/val --out results/
  python -m fusion.search --ensemble ensemble.toml --labels labels/val --method exact
  python -m fusion.search --ensemble ensemble.toml --labels labels/val --over models
  python -m fusion.search --ensemble ensemble.toml --labels labels/val --objective dice \\
      --units "patient[0-9]+"
  python -m fusion.search --ensemble ensemble.toml --labels labels/val --tune postprocess
  python -m fusion.search --ensemble ensemble.toml --vspw VSPW_480p --split val \\
      --method optuna --trials 500
  python -m fusion.search --auto-groups --basic cache/mf_*.zarr --other cache/swin_*.zarr \\
      --labels labels/val
  python -m fusion.search --ensemble ensemble.toml --labels labels/val \\
      --test-stores cache/test --test-labels labels/test

{methods}
results: OUT/best.json (what was found, an ensemble: fusion.HierarchicalEnsemble.load,
fusion.predict), OUT/recommended.json (the simplest ensemble that held-out scores do not rule out),
OUT/trials.csv (every weighting tried), OUT/search.json (the results printed, scores as fractions),
OUT/condensed (what the next search on the same data starts from).
"""

FLAG: dict[str, Any] = {"action": "store_true"}
FOLDER: dict[str, Any] = {"type": Path, "metavar": "DIR"}
STORES: dict[str, Any] = {"nargs": "+", "type": Path, "default": [], "metavar": "STORE"}


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    if options.demo:
        prepare_demo(options)
    share = cli.take_memory(options)
    out = options.out = options.out or Path("results")
    # bad options are refused before stores are opened, bad labels before the search begins
    method = METHODS[options.method].from_arguments(vars(options))
    if not options.compare and (others := unused(options)):
        cli.remark(f"{', '.join(others)}: not of --method {options.method}, so without effect")
    run, sizes = open_run(options), group_sizes(options)
    seen = run if sizes is None else run.foreseen(*sizes)
    reach = read_reach(type(method), seen.ensemble, said_multipliers(options.multipliers))
    run, seen = (replace(each, reach=reach) for each in (run, seen))
    methods = [kind() for kind in METHODS.values()] if options.compare else [method]
    plans = check_all(seen, methods, options.over, share)
    if options.plan:
        seen = seen if options.compare else seen.over(options.over or method.over)
        told = estimated(seen, method, plans, share)
        cli.show(replace(told, steps=(*told.steps, *asked_for(options))), options)
        return 0
    run = prepared(run, options)
    if sizes is not None:
        whole, run = run.ensemble.stores, run.grouped(*sizes)
        cli.remark(said_formation(whole, run.ensemble.groups))
    run = run if options.compare else run.over(options.over or method.over)
    tuning = read_tuning(options, run)
    if options.contributions:
        run.check_contributions()
    run.prepare(method)
    if options.report and options.compare:
        raise InputError("--report is of one method's results; leave out --compare")
    if options.report:
        check_report(out)
    splits, truths = [run], [cli.where_truth_is(options)]
    if cli.has_second_truth(options):
        truths.append(cli.where_truth_is(options, second=True))
        truth = cli.read_truth(options, second=True)
        splits.append(run.elsewhere(truth, options.test_stores))
    for split in splits:
        cli.remark(split.census().text())  # this condenses
    if options.compare:
        return compare_methods(options, run)
    found = run.search(method)
    found = found if tuning is None else tuning.tuned(found)
    lost = run.contributions(found) if options.contributions else {}
    said: dict[str, Calibration] = {}
    for split in splits if options.calibration else ():
        said |= split.calibrations(found)
    said_so = cli.called_as.get("fusion.search", "python -m fusion.search")
    command = [said_so, *(sys.argv[1:] if arguments is None else arguments)]
    inputs = inputs_of(options, splits, truths, command)
    report = Report(splits, found, lost, said, inputs, provenance())
    report.write(out)
    page = f", and the report to {write_page(options)}" if options.report else ""
    if options.json:
        cli.print_json(sealed.sealed(report.to_json()))
        return 0
    classes = f"\n\n{report.scores[run.name].class_table()}" if options.per_class else ""
    wrote = f"wrote best.json, recommended.json, trials.csv and search.json to {out}{page}"
    style = style_of(sys.stdout)
    print(f"{result_text(report, style)}{classes}\n\n{wrapped(wrote)}")
    if options.demo:
        from fusion.demo.ending import ending

        print(f"\n{ending(report, out, style)}")
    return 0


def write_page(options: argparse.Namespace) -> Path:
    """The report of what was just written."""
    how = {name: getattr(options, name) for name in ("memory", "device", "scheduler")}
    return write_report(options.out, **how, progress=True)


def read_tuning(options: argparse.Namespace, run: Run) -> Tuning | None:
    """What --tune says, if it says anything."""
    if options.tune is None:
        return None
    if options.compare:
        raise InputError("--tune: --compare tunes nothing; give one of them")
    return Tuning.parse(options.tune, run)


def unused(options: argparse.Namespace) -> list[str]:
    """Flags that were said and are of other methods than the one that runs."""
    mine = METHODS[options.method].flags()
    every = {flag for kind in METHODS.values() for flag in kind.flags()} - mine.keys()
    said = (flag.lstrip("-").replace("-", "_") for flag in every)
    return sorted(
        f"--{name.replace('_', '-')}" for name in said if getattr(options, name) is not None
    )


def compare_methods(options: argparse.Namespace, run: Run) -> int:
    """Every method on the same folds: a table, compare.json, and what is recommended."""
    methods = [kind.from_arguments(vars(options)) for kind in METHODS.values()]
    # nothing is resumed: seconds are to be those of a whole search
    comparison = compare(replace(run, folder=None), methods, options.over)
    files.write_json(options.out / "compare.json", comparison.to_json())
    chosen = comparison.recommended.result
    if chosen is not None and chosen.ensemble is not None:
        chosen.ensemble.save(options.out / "best.json")
    if options.json:
        cli.print_json(comparison.to_json())
        return 0
    wrote = "compare.json" if chosen is None else "compare.json and best.json (the recommended row)"
    print(f"{comparison.text()}\n\nwrote {wrote} to {options.out}")
    return 0


def open_run(options: argparse.Namespace) -> Run:
    """What the options name: an ensemble's file, stores, or families of which groups are formed."""
    if bool(options.ensemble) + bool(options.stores) + options.auto_groups != 1:
        do = "--stores STORE, --ensemble FILE, --auto-groups with --basic and --other, or --demo"
        raise InputError(f"give one of {do}")
    same = ("folds", "stride", "seed", "scheduler")
    how: dict[str, Any] = {name: getattr(options, name) for name in same}
    how |= {"units": Units.parse(options.units), "say": cli.remark}
    how |= {"truth": cli.read_truth(options), "folder": options.out, "progress": progress}
    how["name"] = "val" if options.labels else options.split or "val"
    how["cache"] = None if options.no_cache else options.out / "condensed"
    opened = {name: getattr(options, name) for name in ("memory", "align", "device", "images")}
    said = {name: getattr(options, name) for name in ("resize", "mean")}
    overrides = {name: value for name, value in said.items() if value}
    if not options.auto_groups:
        ensemble = read_groups(options, **opened)
        ensemble = ensemble.regrouped(ensemble.groups, ensemble.weights, **overrides)
        how["convention"] = read_objective(options, ensemble)
        return Run(ensemble, **how)
    if not options.basic:
        raise InputError("--auto-groups needs the stores of the basic family: --basic STORE ...")
    families = {"basic": options.basic} | ({"other": options.other} if options.other else {})
    both = HierarchicalEnsemble(families, **overrides, **opened)
    how["convention"] = read_objective(options, both)
    return Run(both, **how)


def read_groups(options: argparse.Namespace, **opened: Any) -> HierarchicalEnsemble:
    """The groups of an ensemble's file, or each store by itself."""
    if options.ensemble:
        loaded = HierarchicalEnsemble.load(options.ensemble, **opened)
        if loaded.postprocess:
            do = "search without it; --tune postprocess chooses anew"
            cli.remark(
                f"{options.ensemble}: postprocess {loaded.postprocess} plays no part in a {do}"
            )
        return loaded.plain()
    return HierarchicalEnsemble(options.stores, **opened)


def said_formation(stores: Sequence[Store], groups: Mapping[str, Sequence[Store]]) -> str:
    """Which models form the groups, and which of the stores were left out."""
    used = set(itertools.chain(*groups.values()))
    dealt = {**groups, "left out": [store for store in stores if store not in used]}
    models = {name: listed((s.model for s in some), len(some)) for name, some in dealt.items()}
    said = (f"{len(some)} {name} ({models[name]})" for name, some in dealt.items() if some)
    return f"groups formed: {', '.join(said)}"


def read_objective(options: argparse.Namespace, ensemble: Ensemble) -> Objective:
    """What is maximised, over which classes."""
    # a class's name may hold "=" itself; what follows the last one is a weight if it is a number
    chosen: dict[str, float] = {}
    for said in options.classes or []:
        name, _, weight = said.rpartition("=")
        weighted = bool(name) and said not in ensemble.classes
        number = parse_number(weight, f"--classes {said}") if weighted else 1.0
        if (name := name if weighted else said) in chosen:
            raise InputError(f"--classes: {name!r} is there twice; give each class once")
        chosen[name] = number
    return objective_of(ensemble, options.objective or options.convention, chosen or None)


def parse_number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{where}: got {text!r}; give a number") from None


def said_multipliers(text: str | None) -> bool | float | None:
    """How far multipliers may go, as --multipliers says it; None where nothing is said."""
    if text in (None, "on", "off"):
        return None if text is None else text == "on"
    return parse_number(text, "--multipliers")


def prepared(run: Run, options: argparse.Namespace) -> Run:
    """The run, with temperatures fitted where that was asked for."""
    if not options.temperatures:
        return run
    cli.remark(fit_table(run.ensemble, run.fits))
    return run.fitted()


def asked_for(options: argparse.Namespace) -> Steps:
    """What --plan names and cannot foresee."""
    said = {
        "temperatures": "before all of it: fitting temperatures",
        "compare": "every other method, on the same folds",
        "tune": "choosing postprocessing on the same folds",
        "contributions": "what each model adds",
        "second": "the second split, read and scored",
        "calibration": "calibration, one more pass over all probabilities",
        "report": "the report, one more pass over the stores",
    }
    asked = {**vars(options), "second": cli.has_second_truth(options)}
    return tuple((what, None) for name, what in said.items() if asked[name])


def group_sizes(options: argparse.Namespace) -> list[int | None] | None:
    """Of the strong and the auxiliary group, where groups are to be formed."""
    if not options.auto_groups:
        return None
    return [parse_size(getattr(options, name), name) for name in ("strong", "auxiliary")]


def parse_size(text: str, name: str) -> int | None:
    """A group's size, None for "auto"."""
    if text != "auto" and not text.isdecimal():
        raise InputError(f"--{name}: got {text!r}; give a number of models, or auto")
    return None if text == "auto" else int(text)


def prepare_demo(options: argparse.Namespace) -> None:
    """Simulated stores under OUT, and the options that search them."""
    from fusion import demo

    out = options.out = options.out or Path("demo")
    cli.remark(wrapped(demo.OPENING, indent=""))
    for split in ("val", "test"):
        clips = demo.MODELS * demo.VIDEOS
        for _ in progress(demo.write(out, split), f"simulating {split}", clips, "clip"):
            pass
    options.folds = demo.FOLDS if options.folds is None else options.folds
    options.auto_groups, options.ensemble, options.stores = True, None, None
    families = (sorted((out / "val").glob(f"{name}_*.zarr")) for name in demo.FAMILIES)
    options.basic, options.other = families
    options.strong, options.auxiliary = map(str, demo.GROUPS.values())
    options.labels, options.test_labels = out / "labels" / "val", out / "labels" / "test"
    options.test_stores = out / "test"


def build_parser() -> argparse.ArgumentParser:
    does = "Find the weights that maximise mIoU on cached logits, and say what they are worth."
    methods = ", ".join(f"{kind.name} ({kind.about})" for kind in METHODS.values())
    epilog = EPILOG.format(methods=textwrap.fill(f"methods: {methods}.", 100))
    parser = cli.parser("fusion.search", does, epilog)
    add = parser.add_argument_group("what is fused (one of these)").add_argument
    add("--stores", **STORES, help="stores, each a group of its own")
    add("--ensemble", type=Path, help="ensemble.toml or a saved best.json")
    add("--auto-groups", **FLAG, help="form groups as the paper does, from --basic and --other")
    add("--demo", **FLAG, help="make small simulated stores under OUT first, and search on those")
    dealt = "the basic family's best strong, its rest weak, the other's best auxiliary"
    add = parser.add_argument_group(f"automatic groups: {dealt}").add_argument
    add("--basic", **STORES, help="stores of the basic family")
    add("--other", **STORES, help="stores of the other family")
    size = "size of the {} group, or auto to search it (default %(default)s)"
    add("--strong", default="3", metavar="N", help=size.format("strong"))
    add("--auxiliary", default="6", metavar="N", help=size.format("auxiliary"))
    cli.add_truth(parser.add_argument_group("ground truth"))
    elsewhere = "a second split, to see what the weights are worth elsewhere"
    add = parser.add_argument_group(elsewhere).add_argument
    add("--test-labels", **FOLDER, help="its ground truth (default: that of the first split)")
    part = "part of that data set, as --split, such as test with --vspw"
    add("--test-split", metavar="NAME", help=part)
    same = "folder with stores of the same names (default: the same stores)"
    add("--test-stores", **FOLDER, help=same)
    add_search(parser.add_argument_group("search"))
    group = parser.add_argument_group("running")
    add = group.add_argument
    add("--resize", choices=RESIZE, help="overrides the ensemble's")
    add("--mean", choices=MEANS, help="over groups; overrides the ensemble's (default arithmetic)")
    lacking = "what to do where stores lack videos or frames"
    add("--align", choices=("strict", "intersect"), default="strict", help=lacking)
    fit = "fit: one per model, to the labels, before the search (default: the ensemble's)"
    add("--temperatures", choices=("fit",), help=fit)
    cli.add_scheduler(group)
    cli.add_memory(group)
    cli.add_plan(group)
    cli.add_device(group)
    add("--out", type=Path, help="where results go (default results, demo for --demo)")
    kept = "keep no condensed pixels under OUT; all of them must fit into memory"
    add("--no-cache", **FLAG, help=kept)
    add("--per-class", **FLAG, help="also print the IoU of every class")
    add("--report", **FLAG, help="also write OUT/report.html, as segfusion report does")
    cli.add_json(group)
    return parser


def add_search(group: cli.Options) -> None:
    """What every method takes, then each method's own options as its fields declare them."""
    add = group.add_argument
    add("--method", choices=tuple(METHODS), default="auto", help="default auto")
    models = ", ".join(kind.name for kind in METHODS.values() if kind.over == "models")
    add("--compare", **FLAG, help="run every method on the same folds and print a table of them")
    add("--over", choices=OVER, help=f"what gets a weight (default groups; {models}: models)")
    held = f"folds in which everything is chosen again and scored, 0 for none (default {FOLDS})"
    add("--folds", type=int, help=held)
    together = "videos, frames, cases, blocks:N (N consecutive frames), or a regular expression"
    same = "whose match in a video's name says what belongs together"
    add("--units", default="videos", help=f"what is held out together: {together} {same}")
    boost = "a multiplier for each class, within [1/R, R] (R: 4), if held-out scores gain from it"
    bare: dict[str, Any] = {"nargs": "?", "const": "on", "metavar": "R|on|off"}
    add("--multipliers", **bare, help=f"{boost}; default with auto, off with other methods")
    most = ", ".join(OBJECTIVES)
    add("--objective", choices=tuple(OBJECTIVES), metavar="NAME", help=f"what is maximised: {most}")
    over = "classes that the objective is over, each with a weight if it has one"
    add("--classes", nargs="+", metavar="NAME[=WEIGHT]", help=over)
    every = "score every S-th row and column only (default 1: all pixels)"
    add("--stride", type=int, default=1, metavar="S", help=every)
    steps = f"also choose what is done after fusion, on the same folds: {', '.join(TUNES)}"
    add("--tune", metavar="WHAT", help=f"{steps} (by consistency, without loss of score)")
    cli.add_images(group)
    add("--contributions", **FLAG, help="also say what each model adds (leave one out)")
    cli.add_calibration(group)
    add("--seed", type=int, default=0)
    mean = "classes in the mean (default vspw)"
    add("--convention", choices=CONVENTIONS, default="vspw", help=mean)
    # a flag that several methods have is one option, which says what it is to each
    flags = {kind: kind.flags() for kind in METHODS.values()}
    for flag in dict.fromkeys(itertools.chain(*flags.values())):
        forms = {k.name: own[flag].metadata["form"] for k, own in flags.items() if flag in own}
        texts = dict.fromkeys(form["help"] for form in forms.values())
        named = {text: [name for name in forms if forms[name]["help"] == text] for text in texts}
        told = "; ".join(f"{', '.join(names)}: {text}" for text, names in named.items())
        add(flag, **{**next(iter(forms.values())), "help": told})


if __name__ == "__main__":
    cli.command(main)
