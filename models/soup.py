"""python -m fusion.models.soup: weights of several runs averaged into one network, and judged.

Wortsman et al., "Model soups" (2022).

    uniform    the mean of all
    greedy     Recipe 1: from the best on val downwards, each kept where val does not fall with it

What a soup is worth is said as `fusion.search` says it of weights: held-out scores on the same
folds, beside the best single network and the fusion of all, with paired intervals by video; the
recipe is followed again without each fold. Every soup that is tried is a store of its own, so the
same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fusion import cli
from fusion.errors import InputError
from fusion.files import write_json
from fusion.folds import Units
from fusion.hierarchical import HierarchicalEnsemble
from fusion.metrics import Scores
from fusion.metrics.objectives import Counts
from fusion.models.members import add_predict, elsewhere, search_command
from fusion.models.pot import Pot, Some, greedy
from fusion.models.training import config as configuration
from fusion.models.training.distributed import world
from fusion.progress import progress
from fusion.search.compare import Comparison, Row, compare
from fusion.search.folds import only
from fusion.search.held import FOUND, SINGLE, UNIFORM, Fold, HeldOut
from fusion.search.method import Method
from fusion.search.registry import METHODS
from fusion.search.run import FOLDS, Run
from fusion.search.selection import split_units
from fusion.search.verdict import Verdict
from fusion.stores import LogitStore

EPILOG = """examples:
  python -m fusion.models.members --config run.toml --members 5 --predict val --out stores/val
  python -m fusion.models.soup --config run.toml --weights runs/a_0?/baseline.safetensors \\
      --predict val --out stores/val

Soups are for runs that start from the same weights ([network] start, pretrained) or are moments of
one run: weights that were trained from different random starts have no useful mean.
"""
UNIFORM_SOUP, GREEDY_SOUP = "the uniform soup", "the greedy soup"
Scored = Callable[[Some], Scores]
BESIDE = [name for name, kind in METHODS.items() if not kind.goes_beyond]


@dataclass(frozen=True)
class Tasting:
    """Soups beside single networks and fusions. greedy: what the recipe makes of all videos."""

    greedy: Some
    comparison: Comparison
    verdict: Verdict

    def text(self) -> str:
        gains = [f"{GREEDY_SOUP}: {gain}" for gain in self.verdict.gains.values()]
        return "\n".join([self.comparison.text(), "", *gains, *self.verdict.remarks])

    def to_json(self) -> dict[str, Any]:
        judged = self.verdict.to_json()
        rows = {"rows": self.comparison.to_json(), "recommended": self.comparison.recommended.name}
        return {**rows, "gains": judged["gains"], "remarks": judged["remarks"]}


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    if len(options.weights) < 2:
        raise InputError("soup: got one weights file; give at least two")
    given, place = configuration.read(options.config), world(options.device)
    clips = elsewhere(given.data, options.predict, options.labels).open(labelled=True)
    pot = Pot(options.weights, given, clips, options.out, place, options.batch)
    stores = [pot.store(one) for one in pot.each]
    how = {"units": Units.parse(options.units), "folds": options.folds, "progress": progress}
    fused = HierarchicalEnsemble(stores, device=options.device)
    run = Run(fused, clips.masks, say=cli.remark, **how)
    tasting = taste(pot, run, METHODS[options.beside]())
    soups = {GREEDY_SOUP: tasting.greedy, UNIFORM_SOUP: pot.whole}
    made = {name: facts_of(pot, some) for name, some in soups.items()}
    beside = dict.fromkeys([*stores, pot.store(tasting.greedy)])
    search = search_command([*beside], given.data, options.predict, options.labels)
    document = {"soups": made, **tasting.to_json(), "search": search}
    path = options.out / "soups" / f"{pot.name(pot.whole)}.json"
    write_json(path, document)
    if options.json:
        cli.print_json(document)
        return 0
    said = [f"{name}: {facts['weights']}" for name, facts in made.items()]
    wrote = f"wrote {path}; to search weights beside the soup:"
    print("\n".join([tasting.text(), "", *said, "", wrote, f"  {search}"]))
    return 0


def build_parser() -> argparse.ArgumentParser:
    does = "Average the weights of several runs, and say what that is worth beside their fusion."
    parser = cli.parser("fusion.models.soup", does, EPILOG)
    add = parser.add_argument
    images = "of their training: TOML; batch norm statistics are counted on its images"
    add("--config", type=Path, required=True, help=images)
    files: dict[str, Any] = {"type": Path, "nargs": "+", "required": True, "metavar": "FILE"}
    add("--weights", **files, help="weights of the runs, one of each")
    add_predict(parser)
    add("--labels", default="", metavar="DIR", help="masks, where WHERE is a folder of images")
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the members' stores")
    search = "search of weights to compare with (default greedy)"
    add("--beside", choices=BESIDE, default="greedy", help=search)
    add("--folds", type=int, default=FOLDS, help=f"of the comparison (default {FOLDS})")
    add("--units", default="videos", help="what is held out together, as fusion.search has it")
    cli.add_device(parser)
    cli.add_json(parser)
    return parser


def facts_of(pot: Pot, some: Some) -> dict[str, Any]:
    """A soup's runs, and its files."""
    runs = [pot.names[k] for k in some]
    return {"runs": runs, "weights": str(pot.file(some)), "store": str(pot.store(some))}


def taste(pot: Pot, run: Run, method: Method) -> Tasting:
    """Soups beside what `fusion.search.compare` compares, on the same folds and videos.

    Args:
        pot: of the networks.
        run: over their stores, in the same order.
        method: whose weights are compared with.
    """

    def score(some: Some) -> Scores:
        soup = {pot.name(some): [LogitStore(pot.store(some))]}
        return run.fused(run.ensemble.regrouped(soup))

    scored = functools.cache(score)
    rows = compare(run, [method]).rows
    uniform, single = (next(row for row in rows if row.name == n) for n in (UNIFORM, SINGLE))
    folds, held = greedy_folds(pot, run, scored)
    soup, whole = greedy(len(pot.weights), score_on(scored)), scored(pot.whole)
    ours = [  # one network is simpler than several, whatever their weights
        replace(single, val=max(scored(one).score for one in pot.each)),
        Row(UNIFORM_SOUP, whole.score, whole, 0.0, None),
        Row(GREEDY_SOUP, scored(soup).score, held, 0.0, None),
        replace(uniform, val=uniform.held_out.score),  # nothing is chosen
    ]
    found = [*ours, *(row for row in rows if row.name not in (UNIFORM, SINGLE))]
    judged = {row.name: row.held_out for row in found if row.name != GREEDY_SOUP}
    verdict = Verdict(HeldOut(folds, {**judged, FOUND: held}), run.unit_of)
    return Tasting(soup, Comparison(found, run.unit_of), verdict)


def score_on(scored: Scored, videos: Sequence[str] | None = None) -> Callable[[Some], float]:
    """The score of a soup on some of the videos."""
    return lambda some: (scored(some) if videos is None else only(scored(some), videos)).score


def greedy_folds(pot: Pot, run: Run, scored: Scored) -> tuple[list[Fold], Scores]:
    """The recipe followed without each fold, and the scores of all videos under what it made."""
    videos, folds, matrices = list(run.parts), list[Fold](), dict[str, Counts]()
    count = FOLDS if run.folds is None else run.folds
    for held in split_units(videos, run.unit_of, count, run.seed):
        rest = [video for video in videos if video not in held]
        soup = greedy(len(pot.weights), score_on(scored, rest))
        there = only(scored(soup), held)
        matrices |= there.confusions
        weights = {name: float(k in soup) for k, name in enumerate(pot.names)}
        folds.append(Fold(held, there.score, score_on(scored, rest)(soup), weights, None))
    in_order = {video: matrices[video] for video in videos}
    return folds, Scores(in_order, run.ensemble.classes, run.convention)


if __name__ == "__main__":
    cli.command(main)
