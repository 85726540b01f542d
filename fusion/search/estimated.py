"""What a search begins with, before it runs: its plan, and what --plan says of it.

What every search begins with, reading, is measured, and so is a weighting, on a frame. Line
searches, multipliers and heads take as long as the scores that they see make them: these are named.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from fusion.contested import Condensed, Maps
from fusion.contested.build import CondenseVideo
from fusion.contested.load import LoadVideo, map_bytes
from fusion.ensemble import Ensemble, single_groups
from fusion.ensemble.plan import Budget, Plan
from fusion.estimate import Estimate, Frames, Steps, checked_plans, estimate
from fusion.memory import Share
from fusion.metrics.evaluation import Part
from fusion.search.formation import single_confusions
from fusion.search.method import Method
from fusion.search.run import FOLDS, Run

REST = "reading alone, what follows comes on top"
WEIGHTINGS = 16  # that are timed


def plans_of(run: Run, share: Share) -> list[Plan]:
    """How every video is read; InputError says the smallest --memory that would do.

    Maps take frames at store resolution, condensing takes group means at the labels'.
    """
    ensemble = run.ensemble.sharing(run.scheduler)
    make = ensemble.plan
    if not run.keeps_maps(ensemble):
        beside = Budget(ensemble.memory, ensemble.workers).condensing
        make = partial(ensemble.plan, outputs=("group_means",), beside=beside)
    return checked_plans(make, ensemble.scored_videos(run.truth), share)


def check_all(run: Run, methods: Sequence[Method], over: str | None, share: Share) -> list[Plan]:
    """Plans of the first pass over the stores; the budget has room for all that may follow it.

    Args:
        run: before anything is read; its groups, or what they are foreseen to be.
        methods: that will search.
        over: what gets a weight, where it is said.
        share: of the process.

    Raises:
        InputError: the smallest --memory that would do.
    """
    plans: list[Plan] = []
    for method in methods:
        first = run.over(over or method.over)
        found = plans_of(first.mapped_run if method.trains else first, share)
        plans = plans or found
        if method.trains or _beyond(first, method):
            plans_of(run.models.mapped_run, share)
    formation = run.formation
    if formation is not None and None in (formation.strong, formation.auxiliary):
        plans_of(run.over("models"), share)  # which sizes are searched on
    return plans


def estimated(run: Run, method: Method, plans: Sequence[Plan], share: Share) -> Estimate:
    """What condensing, or reading maps, will take, which every search begins with, and the rest."""
    run = run.mapped_run if method.trains else run
    ensemble, truth = run.ensemble.sharing(run.scheduler), run.truth
    frames = {v: ensemble.labelled_frames(truth, v) for v in ensemble.scored_videos(truth)}

    def condensed(video: str, some: Sequence[str]) -> int:
        parts = {video: Part(video, tuple(some))}
        task = CondenseVideo(ensemble, truth, run.stride, None, parts=parts)
        return sum(block.classes.nbytes + block.means.nbytes for block in task.frames(video))

    def mapped(video: str, some: Sequence[str]) -> int:
        parts = {video: Part(video, tuple(some))}
        LoadVideo(ensemble, truth, run.stride, True, parts, run.mapped)(video)
        return 0

    steps, rest = following(run, method, frames), REST
    if not run.keeps_maps(ensemble):
        found = estimate(ensemble, frames, plans, condensed, share, rest=rest, steps=steps)
        # read again into memory where they fit, once all are condensed
        room = Budget(ensemble.memory)
        kept = share.taken + min(found.written, room.resident) + room.counts
        return replace(found, held=max(found.held, kept))
    kept = sum(map_bytes(ensemble, Part(v, tuple(some))) for v, some in frames.items())
    if kept > Budget(ensemble.memory).resident:
        kept, rest = 0, f"again at every pass of the search, whose maps do not fit; {rest}"
    return estimate(ensemble, frames, plans, mapped, share, rest=rest, kept=kept, steps=steps)


def following(run: Run, method: Method, frames: Frames) -> Steps:
    """What comes after reading: seconds where a frame tells, None where only the search will."""
    video, ensemble = next(iter(frames)), run.ensemble.sharing(run.scheduler)
    part = Part(video, tuple(frames[video][:1]))
    count, folds = sum(map(len, frames.values())), _folds(run)
    steps: list[tuple[str, float | None]] = []
    if run.formation is not None:
        steps.append(
            ("scoring single models, to form groups", _singles(run, ensemble, part, count))
        )
    effort, name = method.effort(list(ensemble.groups)), method.name
    pace = _weighting(run, ensemble, part) * count
    if effort is None:
        steps.append((f"{name}: {pace:.2g} s a weighting, as many as it takes", None))
    else:
        steps.append((f"{name}: {effort} weightings at most", effort * pace))
    if run.reach is not None:
        steps.append(("class multipliers, from pixels that are condensed for them again", None))
    if folds:
        again = None if effort is None else effort * pace * (folds - 1)
        steps.append((f"the same again without each of {folds} folds", again))
        if run.formation is None and any(len(some) > 1 for some in ensemble.groups.values()):
            steps.append(("scoring single models", _singles(run, ensemble, part, count)))
    if _beyond(run, method):
        steps.append(("heads over single models, where labels are enough to judge them", None))
    return tuple(steps)


def _folds(run: Run) -> int:
    number = len(set(run.unit_of.values()))
    folds = FOLDS if run.folds is None else run.folds
    return min(folds, number) if number > 1 else 0


def _beyond(run: Run, method: Method) -> bool:
    """Whether heads may follow, as far as can be told before a pixel is read."""
    pixels = sum(
        int(np.prod(run.ensemble.size(p.video))) * len(p.frames) for p in run.parts.values()
    )
    return method.beyond(run.facts(_folds(run), pixels))[0] is not None


def _weighting(run: Run, ensemble: Ensemble, part: Part) -> float:
    """Seconds of one weighting of a frame."""
    named, (video, _) = (tuple(ensemble.groups), ensemble.classes), part
    parts, memory = {video: part}, ensemble.memory
    pixels: Condensed | Maps
    if run.keeps_maps(ensemble):
        held = LoadVideo(ensemble, run.truth, run.stride, True, parts, run.mapped)(video)
        pixels = Maps(*named, (video,), (held,), memory)
    else:
        kept = CondenseVideo(ensemble, run.truth, run.stride, None, parts=parts)(video)
        assert kept is not None
        pixels = Condensed(*named, (video,), (kept,), memory)
    some = np.random.default_rng(0).random((WEIGHTINGS, len(ensemble.groups))) + 0.01
    pixels.miou(some[:1])  # whatever is only slow once
    began = time.perf_counter()
    pixels.miou(some)
    return (time.perf_counter() - began) / WEIGHTINGS


def _singles(run: Run, ensemble: Ensemble, part: Part, count: int) -> float:
    """Seconds of every model's labels alone, of so many frames."""
    whole = ensemble if run.formation is None else run.formation.split.ensemble
    models = [whole.regrouped({n: s}) for n, s in single_groups(whole.stores).items()]
    given = models, run.truth, {part.video: part}, run.stride, part.video
    single_confusions(*given)  # whatever is only slow once
    began = time.perf_counter()
    single_confusions(*given)
    return (time.perf_counter() - began) * count
