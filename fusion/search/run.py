"""What a search is about: opens the ensembles and labels that the command line names, forms groups, condenses splits."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from fusion.contested.build import condense_ensemble, data_digest
from fusion.ensemble import single_groups
from fusion.errors import InputError
from fusion.hierarchical import HierarchicalEnsemble
from fusion.labels import Labels
from fusion.metrics import Scores
from fusion.progress import progress
from fusion.search.formation import choose_formation, model_contributions
from fusion.search.models import auto_groups, score_models
from fusion.search.report import Split
from fusion.stores import LogitStore


def prepare_demo(options: argparse.Namespace) -> None:
    """Simulated stores under OUT, and the options that search them."""
    from fusion import demo

    options.out = options.out or Path("demo")
    print(
        "simulated data: 22 models, 124 classes, made up by fusion/demo.py; the figures say nothing about real networks",
        file=sys.stderr,
    )
    for split in ("val", "test"):
        for _ in progress(
            demo.write(options.out, split),
            f"simulating {split}",
            sum(demo.FAMILIES.values()),
            "model",
        ):
            pass
    options.auto_groups, options.ensemble = True, None
    options.basic, options.other = (
        sorted((options.out / "val").glob(f"{family}_*.zarr")) for family in ("maskformer", "swin")
    )
    options.labels, options.test_labels = (
        options.out / "labels" / "val",
        options.out / "labels" / "test",
    )
    options.test_stores = options.out / "test"


def open_ensemble(
    options: argparse.Namespace, truth: Labels
) -> tuple[HierarchicalEnsemble, dict[str, Scores]]:
    """The ensemble to search, and the scores of every model alone, best first."""
    common = {"memory": options.memory, "align": options.align, "device": options.device}
    if bool(options.ensemble) == options.auto_groups:
        raise InputError(
            "give one of --ensemble FILE, --auto-groups with --basic and --other, or --demo"
        )
    if options.ensemble:
        ensemble = HierarchicalEnsemble.load(options.ensemble, **common)
        if options.resize:
            ensemble = ensemble.regrouped(ensemble.groups, ensemble.weights, resize=options.resize)
        return ensemble, models_alone(ensemble, truth, options)
    families = {
        name: paths for name, paths in (("basic", options.basic), ("other", options.other)) if paths
    }
    if "basic" not in families:
        raise InputError("--auto-groups needs the stores of the basic family: --basic STORE ...")
    both = HierarchicalEnsemble(families, resize=options.resize or "probabilities", **common)
    singles = models_alone(both, truth, options)
    return form_groups(both, truth, singles, options), singles


def form_groups(
    both: HierarchicalEnsemble,
    truth: Labels,
    singles: dict[str, Scores],
    options: argparse.Namespace,
) -> HierarchicalEnsemble:
    """The paper's groups from two families; sizes given, or searched where they are "auto"."""
    store_of = {name: store for name, (store,) in single_groups(both.stores).items()}
    family = {
        key: [name for name in singles if store_of[name] in both.groups.get(key, ())]
        for key in ("basic", "other")
    }
    strong, auxiliary = (
        parse_size(getattr(options, name), f"--{name}") for name in ("strong", "auxiliary")
    )
    if strong is None or auxiliary is None:
        condensed = condense(both.singles(), truth, options, "condensing single models")
        best, _ = choose_formation(
            condensed,
            family["basic"],
            family["other"],
            convention=options.convention,
            progress=progress,
        )
        strong, auxiliary = (
            strong or best.strong,
            best.auxiliary if auxiliary is None else auxiliary,
        )
        print(f"groups formed: {strong} strong, {auxiliary} auxiliary", file=sys.stderr)
    miou = {name: scores.miou for name, scores in singles.items()}
    groups = auto_groups(
        family["basic"],
        family["other"],
        miou,
        strong=strong,
        auxiliary=min(auxiliary, len(family["other"])),
    )
    return both.regrouped(
        {group: [store_of[name] for name in members] for group, members in groups.items()}
    )


def parse_size(text: str, option: str) -> int | None:
    """A group's size, None for "auto"."""
    if text == "auto":
        return None
    if not text.isdecimal():
        raise InputError(f"{option}: got {text!r}; give a number of models, or auto")
    return int(text)


def models_alone(
    ensemble: HierarchicalEnsemble, truth: Labels, options: argparse.Namespace
) -> dict[str, Scores]:
    return score_models(
        ensemble,
        truth,
        convention=options.convention,
        scheduler=options.scheduler,
        progress="scoring single models",
    )


def condense(
    ensemble: HierarchicalEnsemble, truth: Labels, options: argparse.Namespace, title: str
) -> Any:
    cache = None if options.no_cache else options.out / "condensed"
    how = {
        "scheduler": options.scheduler,
        "progress": title,
        "stride": options.stride,
        "cache": cache,
    }
    return condense_ensemble(ensemble, truth, **how)


def measure(
    name: str,
    ensemble: HierarchicalEnsemble,
    truth: Labels,
    options: argparse.Namespace,
    singles: dict[str, Scores] | None,
) -> Split:
    """One split, condensed."""
    condensed = condense(ensemble, truth, options, f"condensing {name}")
    digest = data_digest(ensemble, truth, options.stride)
    return Split(name, condensed, digest, singles or models_alone(ensemble, truth, options))


def contributions(
    ensemble: HierarchicalEnsemble, truth: Labels, split: Split, options: argparse.Namespace
) -> dict[str, float]:
    """What each model of the ensemble adds to mIoU on the split that was searched."""
    name_of = {store: name for name, (store,) in single_groups(ensemble.stores).items()}
    groups = {
        group: [name_of[store] for store in stores] for group, stores in ensemble.groups.items()
    }
    alone = all(len(stores) == 1 for stores in ensemble.groups.values())
    condensed = (
        split.condensed
        if alone
        else condense(ensemble.singles(), truth, options, "condensing single models")
    )
    if alone:
        groups = {group: [group] for group in groups}
    return model_contributions(condensed, groups, ensemble.weights, options.convention)


def on_test_stores(
    ensemble: HierarchicalEnsemble, options: argparse.Namespace
) -> HierarchicalEnsemble:
    """The same groups on the stores of the second split, found by their names."""
    if options.test_stores is None:
        return ensemble
    groups = {
        name: [LogitStore(options.test_stores / store.path.name) for store in stores]
        for name, stores in ensemble.groups.items()
    }
    temperatures = {
        store.path.name: value
        for store, value in zip(ensemble.stores, ensemble.temperatures, strict=True)
    }
    return ensemble.regrouped(groups, ensemble.weights, temperatures=temperatures)
