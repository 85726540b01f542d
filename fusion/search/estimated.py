"""What a search begins with, before it runs: its plan, and what --plan says of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from fusion.contested.build import CondenseVideo
from fusion.contested.load import LoadVideo, map_bytes
from fusion.ensemble.plan import Budget, Plan
from fusion.estimate import Estimate, checked_plans, estimate
from fusion.memory import Share
from fusion.metrics.evaluation import Part
from fusion.search.run import Run

REST = "and its folds, come on top"


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


def estimated(run: Run, plans: Sequence[Plan], share: Share) -> Estimate:
    """What condensing, or reading maps, will take, which every search begins with."""
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

    if not run.keeps_maps(ensemble):
        rest = f"searching what was condensed, {REST}"
        return estimate(ensemble, frames, plans, condensed, share, rest=rest)
    kept = sum(map_bytes(ensemble, Part(v, tuple(some))) for v, some in frames.items())
    rest = f"searching the maps, {REST}"
    if kept > Budget(ensemble.memory).resident:
        kept, rest = 0, "again at every pass of the search, whose maps do not fit"
    return estimate(ensemble, frames, plans, mapped, share, rest=rest, kept=kept)
