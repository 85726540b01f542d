"""What only a simulation knows: the score on all videos of this kind, beside what was estimated.

Nothing is looked up: many videos that no search has seen are made and predicted, one frame each,
since frames of one video are near copies. The score of all of them together is what an interval of
the split that was searched is about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fusion.demo.measured import HEAD_GAIN
from fusion.demo.networks import evidence, networks
from fusion.demo.scenes import CLASSES, SIZE, Scene
from fusion.ensemble import Ensemble
from fusion.labels import Labels
from fusion.metrics import Objective, Scores
from fusion.metrics.evaluation import VideoConfusion
from fusion.metrics.objectives import Counts
from fusion.parallel import map_videos, one_thread
from fusion.progress import Progress
from fusion.search.held import FOUND, SINGLE, UNIFORM
from fusion.search.printed import contenders, objective_title
from fusion.search.report import Report
from fusion.search.result import SearchResult
from fusion.stores.memory import MemoryStore
from fusion.terminal import WIDTH, wrapped
from fusion.text import percent, table

POPULATION, FRAMES, AT = 160, 8, 3  # videos; their frames, of which one is predicted
BATCH = 40  # videos whose logits are in memory at once


def batches(videos: int = POPULATION) -> Iterator[tuple[dict[str, MemoryStore], Labels]]:
    """New videos, some at a time: a store of every network, by its name, and their labels."""
    for first in range(0, videos, BATCH):
        scenes = [Scene("new", k, FRAMES) for k in range(first, min(first + BATCH, videos))]
        with one_thread():
            stores = _stores(scenes)
        targets = {scene.video: scene.targets[AT : AT + 1] for scene in scenes}
        yield stores, Labels.from_arrays(targets, classes=len(CLASSES))


def _stores(scenes: Sequence[Scene]) -> dict[str, MemoryStore]:
    """What every network makes of one frame of each scene."""
    seen = {scene: evidence(scene, [AT]) for scene in scenes}
    how: dict[str, Any] = {"classes": CLASSES, "size": SIZE}
    return {
        network.name: MemoryStore(
            {s.video: np.stack([*network.logits(s, seen[s])]) for s in scenes},
            model=network.name,
            **how,
        )
        for network in networks()
    }


def true_scores(
    ensembles: Mapping[str, Ensemble],
    given: Iterable[tuple[Mapping[str, MemoryStore], Labels]],
    convention: str | Objective = "vspw",
) -> dict[str, Scores]:
    """Of ensembles of the demo's networks, on new videos."""
    counts: dict[str, dict[str, Counts]] = {name: {} for name in ensembles}
    for stores, truth in given:
        for name, ensemble in ensembles.items():
            task = VideoConfusion(moved(ensemble, stores), truth)
            counts[name] |= map_videos(task, truth.videos)
    return {name: Scores(each, CLASSES, convention) for name, each in counts.items()}


def moved(ensemble: Ensemble, stores: Mapping[str, MemoryStore]) -> Ensemble:
    """The same with other stores of the same names."""
    groups = {name: [stores[s.model] for s in some] for name, some in ensemble.groups.items()}
    weights = None if ensemble.head is not None else ensemble.weights
    return ensemble.regrouped(groups, weights, temperatures=None)


def compared(report: Report, progress: Progress, videos: int = POPULATION) -> str:
    """For people: the truth beside what the search estimated, and whether its intervals hold it."""
    run, found = report.splits[0], report.found
    rows = {contender: name for contender, name, _ in contenders(report)}
    ensembles = {name: run.contender(name, found) for name in rows}
    given = progress(batches(videos), "knowing the truth", -(-videos // BATCH))
    true = true_scores(ensembles, given, found.convention)
    held = {} if found.held_out is None else found.held_out.contenders
    lines = []
    for contender, name in rows.items():
        value = true[contender].score
        estimate, ends, inside = "-", "-", ""
        if contender in held:
            low, high = held[contender].interval(units=found.units)
            estimate, ends = percent(held[contender].score), f"{percent(low)} to {percent(high)}"
            inside = "inside" if low <= value <= high else "outside"
        lines.append((name, estimate, ends, percent(value), inside))
    header = (objective_title(found.convention), "held out", "95 % interval", "truth", "")
    said = [*_promised(report, true), *_gains(report, true)]
    return "\n".join([table(lines, header, WIDTH), "", *map(wrapped, said)])


def _promised(report: Report, true: Mapping[str, Scores]) -> Iterator[str]:
    """What val alone would have had people believe."""
    found = report.found
    if found.held_out is not None:
        name = next(n for n in true if n in _same(found))
        promised, held = percent(found.miou), percent(found.held_out)
        expected = f"held-out folds expect {held}; the truth is {percent(true[name].score)}"
        yield f"what was found scores {promised} where it was searched; {expected}"


def _same(found: SearchResult) -> list[str]:
    """Under which names what was found is among the contenders."""
    known = {} if found.held_out is None else found.held_out.contenders
    return [name for name in known if known[name] is known[FOUND]]


def _gains(report: Report, true: Mapping[str, Scores]) -> Iterator[str]:
    """The gains over uniform weights and the best single model, estimated and true."""
    verdict = report.found.verdict
    for name in (UNIFORM, SINGLE) if verdict is not None else ():
        assert verdict is not None
        if (gain := verdict.gains.get(name)) is None:
            continue
        found = next(n for n in true if n in _same(report.found))
        value = true[found].score - true[name].score
        low, high = gain.interval
        where = "inside" if low <= value <= high else "outside"
        said = f"{100 * gain.value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
        yield f"gain over {name}: held out {said}, true {100 * value:+.1f}: {where} the interval"
    if report.found.head is not None:
        real = f"on the 22 networks the mix head held out {100 * HEAD_GAIN:+.1f} over {SINGLE}"
        yield f"heads find more to gain in simulated errors than in real ones: {real}"
