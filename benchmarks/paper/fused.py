"""What is made of all members together: the ladder of Table 3, a soup, a student of the whole."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.paper.produce import SPLITS, Plan
from benchmarks.paper.roster import Member, configuration
from benchmarks.paper.sizes import PREFIX, SWIN
from fusion import HierarchicalEnsemble, Labels
from fusion.metrics import Scores
from fusion.models.data.clips import Clips
from fusion.models.pot import Pot, greedy
from fusion.models.training import config
from fusion.models.training.distributed import world
from fusion.outputs import write
from fusion.progress import progress
from fusion.search.formation import score_models
from fusion.search.grid import Grid
from fusion.search.report import Report
from fusion.search.run import Run

SOUP, STUDENT, FOLDS = "soup", "student_of_all", 5


def truth_of(plan: Plan, split: str) -> Labels:
    return Labels.vspw(plan.out / "scenes", split)


def score(plan: Plan, names: Sequence[str]) -> dict[str, dict[str, Scores]]:
    """Scores of every store alone, by split and name."""
    found = {}
    for split in SPLITS:
        stores = HierarchicalEnsemble([plan.store(split, name) for name in names])
        found[split] = score_models(stores, truth_of(plan, split), progress=f"scoring {split}")
    return found


def families(members: Sequence[Member], val: dict[str, Scores], strong: int) -> list[list[str]]:
    """Names of the numbered members of the two families, the basic one first.

    The basic family is the one whose strong models are better on val, as they would be P_S.
    """
    numbered = [member for member in members if member.is_numbered]
    found = [[m.name for m in numbered if m.network == network] for network in PREFIX]

    def merit(names: Sequence[str]) -> float:
        return statistics.mean(sorted((val[name].miou for name in names), reverse=True)[:strong])

    return sorted(found, key=merit, reverse=True)


def ladder(plan: Plan, basic: Sequence[str], other: Sequence[str]) -> Report:
    """What `fusion.search --auto-groups --test-labels ...` finds, by its own code."""
    groups = {"basic": basic, "other": other}
    stores = {g: [plan.store("val", name) for name in names] for g, names in groups.items()}
    both = Run(HierarchicalEnsemble(stores), truth_of(plan, "val"), folds=FOLDS, progress=progress)
    run = both.grouped(plan.size.strong, plan.size.auxiliary)
    splits = [run, run.elsewhere(truth_of(plan, "test"), plan.out / "test")]
    return Report(splits, run.search(Grid()), {}, {})


def soup(plan: Plan, names: Sequence[str], members: Sequence[Member]) -> str:
    """The greedy soup of a family, chosen on val; its stores are `SOUP`. What is in it."""
    first = next(member for member in members if member.name == names[0])
    made = config.parse(configuration(first, plan.size, plan.out, plan.seed))
    made = replace(made, swa=replace(made.swa, refresh=20))
    clips, truth = Clips.vspw(plan.out / "scenes", "val"), truth_of(plan, "val")
    weights = [plan.weights(name) for name in names]
    pot = Pot(weights, made, clips, plan.out / "val", world("cpu"), batch=8)
    chosen = greedy(
        len(names), lambda some: HierarchicalEnsemble([pot.store(some)]).evaluate(truth).score
    )
    plan.fill(SOUP, pot.file(chosen))
    return " + ".join(names[k] for k in chosen)


def student(plan: Plan, found: Report, members: Sequence[Member]) -> None:
    """Stores of a Swin that learned of what was found, on the training videos: `STUDENT`."""
    best, weights = found.found.ensemble, found.found.weights
    assert best is not None
    used = {g: stores for g, stores in best.groups.items() if weights[g] > 0}
    named = {g: [Path(store.file_name).stem for store in stores] for g, stores in used.items()}
    file_of = {name: (m.name, file) for m in members for name, file in m.files.items()}
    for name in dict.fromkeys(name for names in named.values() for name in names):
        plan.fill(name, plan.weights(*file_of[name]), ["train"])
    stores = {g: [plan.store("train", name) for name in names] for g, names in named.items()}
    teacher = HierarchicalEnsemble(stores).with_weights({g: weights[g] for g in stores})
    target = plan.store("train", "ensemble")
    write(teacher, target, "store", soft="top-k", at="stores", resume=target.exists())
    loss = {"teacher": str(target.absolute()), "temperature": 1.0, "labels": 0.5, "kl": 0.5}
    files = {STUDENT: "baseline"}
    plan.produce(Member(STUDENT, SWIN, start="swin_start", extras={"loss": loss}, files=files))
