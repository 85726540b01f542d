"""Scores of every pipeline on every part, each part under what was found without it.

    part p of fold k: the ensemble found without fold k -> pipeline -> counts and windows of p

Nothing here depends on what is chosen: a choice without some units sums what the others gave.
Pipelines that take something from labels take it from those of the parts that neither they are
scored on nor a choice is judged by, so that they are measured again for each fold that judges.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from fusion.ensemble import Ensemble
from fusion.errors import InputError
from fusion.labels import Labels
from fusion.metrics import VARIANTS
from fusion.metrics.consistency import LENGTHS, window_scores
from fusion.metrics.evaluation import Part, Parts, VideoConfusion, report_stretches
from fusion.parallel import map_videos, one_thread
from fusion.postprocess import Pipeline
from fusion.search.postprocessing.kept import Kept
from fusion.search.postprocessing.outcome import Measure, Outcome
from fusion.search.postprocessing.unseen import Unseen
from fusion.search.split import Split

VARIANT = "official"  # of video consistency
LACKING = "pip install"  # what errors for want of a package say
Key = tuple[str, int | None]  # configuration of a pipeline, and the fold that judges


class Job(NamedTuple):
    """A pipeline on a video under the ensemble of this number, for these parts of these keys."""

    number: int
    pipeline: Pipeline
    wanted: list[tuple[Key, tuple[str, ...]]]


@dataclass(frozen=True)
class MeasureVideo:
    """The task of one video: by key what its parts give, or why a pipeline cannot be run.

    Args:
        ensembles: by number.
        truth, parts, stride, scheduler: the run's.
        jobs: of every video.
    """

    ensembles: Sequence[Ensemble]
    truth: Labels
    parts: Mapping[str, Parts]
    stride: int
    scheduler: str
    jobs: Mapping[str, Sequence[Job]]

    def __call__(self, video: str) -> dict[Key, dict[str, Measure] | str]:
        with one_thread():
            return self._all_of(video)

    def _all_of(self, video: str) -> dict[Key, dict[str, Measure] | str]:
        found: dict[Key, dict[str, Measure] | str] = {}
        kept: dict[int, Kept] = {}
        for job in self.jobs[video]:
            under = self._under(job)
            if job.number not in kept:
                room = min(self._under(j).spare(video) for j in self.jobs[video])
                kept = {job.number: Kept.of(under.recipe, room)}
            under.recipe = kept[job.number]
            made: dict[str, Measure] | str
            try:
                made = self._measured(under, video)
            except InputError as error:
                if LACKING not in str(error):
                    raise
                made = str(error)
            for key, some in job.wanted:
                if isinstance(made, str):
                    found[key] = made
                    continue
                known = found.setdefault(key, {})
                assert isinstance(known, dict)
                known |= {part: made[part] for part in some}
        return found

    def _under(self, job: Job) -> Ensemble:
        """The ensemble with the pipeline, which was checked: it is not made anew."""
        ensemble = self.ensembles[job.number].sharing(self.scheduler)
        ensemble.postprocess = job.pipeline
        return ensemble

    def _measured(self, ensemble: Ensemble, video: str) -> dict[str, Measure]:
        counts, parts = VideoConfusion(ensemble, self.truth, self.stride), self.parts[video]
        lengths = [len(part.frames) for part in parts.values()]
        raw = VARIANTS[VARIANT].raw_targets
        matrices, windows = report_stretches(counts, raw, video, lengths)
        scores = {n: window_scores(windows, n, VARIANT) for n in LENGTHS}
        found, first = {}, 0
        for name, length, matrix in zip(parts, lengths, matrices, strict=True):
            mine = {n: each[first : first + length] for n, each in scores.items()}
            found[name], first = Measure.of(matrix, mine), first + length
        return found


@dataclass
class Measures:
    """What was measured so far.

    Args:
        run: the split.
        folds: all parts, each once.
        lacking: why pipelines cannot be run, by configuration.
        pipelines: that were measured, by configuration.
    """

    run: Split
    folds: Sequence[Unseen]
    lacking: dict[str, str] = field(default_factory=dict)
    pipelines: dict[str, Pipeline] = field(default_factory=dict)
    _known: dict[Key, dict[str, Measure]] = field(default_factory=dict)

    def add(self, wanted: Iterable[tuple[Pipeline, int | None]]) -> None:
        """Measures what is not known yet, all videos side by side.

        wanted: pipelines, each with the fold that a choice of it is judged by; None for none.
        """
        fresh = {key_of(*each): each[0] for each in wanted}
        known = {*self._known, *self.lacking}
        fresh = {key: p for key, p in fresh.items() if key not in known and key[0] not in known}
        if not fresh:
            return
        jobs = self._jobs(fresh)
        given = (list(self._numbers), self.run.truth, self._parts, self.run.stride)
        task = MeasureVideo(*given, self.run.scheduler, jobs)
        how = self.run.how("trying postprocessing")
        for found in map_videos(task, list(jobs), **how).values():
            for key, made in found.items():
                if isinstance(made, str):
                    self.lacking[key[0]] = made
                else:
                    self._known.setdefault(key, {}).update(made)
        for key, pipeline in fresh.items():
            if key[0] not in self.lacking:
                self.pipelines[key[0]] = pipeline

    def _jobs(self, fresh: Mapping[Key, Pipeline]) -> dict[str, list[Job]]:
        """By video; what comes to the same is done once."""
        found: dict[str, dict[tuple[int, str], Job]] = {}
        folds = enumerate(self.folds)
        for (number, fold), (key, pipeline) in itertools.product(folds, fresh.items()):
            if key[1] == number:
                continue  # what is known without a judge is the same
            fitted = self.fitted(pipeline, {number, key[1]})
            place = (self._numbers[fold.ensemble], config_of(fitted))
            some: dict[str, list[str]] = {}
            for part in fold.parts:
                some.setdefault(self.run.parts[part].video, []).append(part)
            for video, parts in some.items():
                job = Job(place[0], fitted, [])
                job = found.setdefault(video, {}).setdefault(place, job)
                job.wanted.append((key, tuple(parts)))
        return {v: sorted(jobs.values(), key=lambda job: job.number) for v, jobs in found.items()}

    def fitted(self, pipeline: Pipeline, without: Collection[int | None] = ()) -> Pipeline:
        """With what it takes from labels of all folds but these; of all where there is one fold."""
        if not pipeline.fits:
            return pipeline
        left = [fold for k, fold in enumerate(self.folds) if k not in without]
        return pipeline.fitted(self._rows(p for fold in left or self.folds for p in fold.parts))

    def _rows(self, parts: Iterable[str]) -> list[int]:
        pixels = self.run.condensed
        known = dict(zip(pixels.videos, pixels.rows_per_video, strict=True))
        return [int(count) for count in sum(known[part] for part in parts)]

    @cached_property
    def _numbers(self) -> dict[Ensemble, int]:
        """Ensembles, each once."""
        return {e: n for n, e in enumerate(dict.fromkeys(fold.ensemble for fold in self.folds))}

    @cached_property
    def _parts(self) -> dict[str, Parts]:
        """Of every video, in order."""
        found: dict[str, dict[str, Part]] = {}
        for name, part in self.run.parts.items():
            found.setdefault(part.video, {})[name] = part
        return dict(found)

    def outcome(self, pipeline: Pipeline, parts: Sequence[str], judge: int | None) -> Outcome:
        """A pipeline on parts, none of them of the fold that judges a choice of it."""
        known = self._known[key_of(pipeline, judge)]
        return self.put_together(str(pipeline), {part: known[part] for part in parts})

    def whole(self, pipeline: Pipeline) -> bool:
        """Whether it was measured on every part, whoever judges."""
        return len(self._known.get(key_of(pipeline, None), ())) == len(self.run.parts)

    def put_together(self, name: str, measures: Mapping[str, Measure]) -> Outcome:
        """What is known of parts, each under whatever."""
        run = self.run
        return Outcome(name, measures, run.ensemble.classes, run.convention, run.unit_of)


def config_of(pipeline: Pipeline) -> str:
    return json.dumps(pipeline.get_config(), sort_keys=True)


def key_of(pipeline: Pipeline, judge: int | None) -> Key:
    """What tells measures apart: who judges matters where something is taken from labels."""
    return config_of(pipeline), judge if pipeline.fits else None
