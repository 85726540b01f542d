"""Results to facts: what search.json says already, and what one pass over each split shows.

    search.json -> verdict, ladder, contenders, models
    condensed pixels -> the weight plane
    stores and labels, frame by frame -> classes, videos, confusions, errors in common, calibration

What looks at single classes, pixels and frames is of the last split: the one that weights were not
found on, where there is one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fusion.ensemble import Ensemble
from fusion.ensemble.ensemble import PLAIN
from fusion.metrics import Calibration, Scores
from fusion.report import said
from fusion.report.colours import class_colours
from fusion.report.counts import FOUND, SINGLE, UNIFORM, Counted, count
from fusion.report.facts import (
    ClassRow,
    ConfusionPair,
    Curve,
    Facts,
    FrontPoint,
    ModelRow,
    Similarity,
    VideoRow,
)
from fusion.report.pictures import frame_rows
from fusion.report.plane import weight_plane
from fusion.report.results import Data, Results
from fusion.report.similarity import similarity

PAIRS = 15  # confusions that are listed
LEFT_OUT = "left out"  # models that are in no group
SAME = 1e-9  # of scores that are counted twice


def facts_of(results: Results) -> Facts:
    """Everything that the report of a search shows.

    Raises:
        InputError: SciPy is not installed, or pictures do not fit.
        StoreError: stores that cannot be read, or a frame without picture.
    """
    document, first, last = results.document, results.data[0], results.data[-1]
    plane = weight_plane(first, document)
    best = next(iter(document["singles"][first.split.name]))
    seen = {}
    for data in results.data:
        whole = data is last
        compared = contestants(data, best)
        seen[data.split.name] = count(data, compared, results.running, whole=whole)
    shown = seen[last.split.name]
    names = last.split.ensemble.channels or last.split.ensemble.classes
    colours = class_colours(last.split.truth, names)
    helped, hurt = frame_rows(
        last, contestants(last, best), shown.gains, colours, results.running.images
    )
    return Facts(
        title=said.title(results),
        verdict=said.verdict(document),
        objective=said.objective_name(document),
        remarks=(*said.remarks(document), *checks(results, seen), *sampled(last, shown)),
        splits=tuple(seen),
        best=best,
        score=said.score(document),
        expected=said.expected(document),
        ladder=said.ladder(document),
        contenders=said.contenders(document),
        weights=said.weights(results),
        groups={name: tuple(models) for name, models in document["groups"].items()},
        plane=plane,
        multipliers=said.multipliers(results),
        decision="multiplier" if first.split.ensemble.channels is None else "threshold",
        classes=class_rows(results, shown),
        models=model_rows(results),
        similarity=alike(last, shown),
        videos=video_rows(results, seen),
        confusions=confusion_pairs(shown),
        calibration=tuple(curve(n, c) for n, c in shown.calibration.items()),
        front=front(document),
        helped=helped,
        hurt=hurt,
        colours=colours,
        provenance=said.provenance(results),
    )


def contestants(data: Data, best: str) -> dict[str, Ensemble]:
    """What is compared on a split: the best single model, uniform weights, what was found."""
    ensemble = data.split.ensemble
    uniform = ensemble.regrouped(ensemble.groups, **PLAIN)
    return {SINGLE: data.models[best], UNIFORM: uniform, FOUND: data.found}


def checks(results: Results, seen: Mapping[str, Counted]) -> list[str]:
    """Where what was counted now is not what the search found."""
    told = []
    for split, counted in seen.items():
        before, now = results.document["scores"][split]["score"], counted.scores[FOUND].score
        if before is not None and not math.isclose(before, now, abs_tol=SAME):
            got = f"the search scored {100 * before:.4f}, this report counted {100 * now:.4f}"
            told.append(f"on {split} {got}")
    return told


def sampled(data: Data, counted: Counted) -> list[str]:
    """What was not looked at, frame for frame."""
    frames = sum(len(part.frames) for part in data.split.parts.values())
    if counted.sampled >= frames:
        return []
    what = "similarity and calibration are of"
    return [f"{what} {counted.sampled} of the {frames} labelled frames of {data.split.name}"]


def class_rows(results: Results, seen: Counted) -> tuple[ClassRow, ...]:
    """Every class; of independent channels what is there, and not its absence."""
    ensemble, scores = results.data[-1].split.ensemble, seen.scores
    values = [measured(scores[name]) for name in (SINGLE, UNIFORM, FOUND)]
    pixels = scores[FOUND].confusion.sum(axis=1)
    known, held = said.multipliers(results), said.held_out_classes(results.document)
    start, step = (0, 1) if ensemble.channels is None else (1, 2)
    places = range(start, len(ensemble.classes), step)
    rows = []
    for place in places:
        name = ensemble.classes[place]
        single, uniform, found = (float(value[place]) for value in values)
        more = known.get(name), held.get(name, math.nan)
        rows.append(ClassRow(name, int(pixels[place]), single, uniform, found, *more))
    return tuple(rows)


def measured(scores: Scores) -> np.ndarray:
    """IoU of every class, or Dice where that is the objective."""
    return scores.class_dice if scores.objective.dice else scores.class_iou


def model_rows(results: Results) -> tuple[ModelRow, ...]:
    """Every model that was given, those in groups first, in their order."""
    document = results.document
    ensemble, adds = results.data[0].split.ensemble, document["contributions"]
    group_of: dict[str, str] = {}
    for group, models in document["groups"].items():
        for model in models:
            group_of.setdefault(model, group)
    used = dict.fromkeys(group_of) | dict.fromkeys(results.data[0].models)
    shares = said.model_weights(ensemble)
    rows = []
    for model in used:
        if model not in results.data[0].models:
            continue  # two models of one name go by their places
        scores = {
            split: math.nan if alone.get(model) is None else alone[model]
            for split, alone in document["singles"].items()
        }
        group = group_of.get(model, LEFT_OUT)
        rows.append(ModelRow(model, group, shares.get(model, 0.0), scores, adds.get(model)))
    return tuple(rows)


def alike(data: Data, seen: Counted) -> Similarity | None:
    return similarity(list(data.models), seen.errors) if seen.sampled else None


def video_rows(results: Results, seen: Mapping[str, Counted]) -> tuple[VideoRow, ...]:
    """Every part of every split under the best single model and under what was found."""
    rows = []
    for data in results.data:
        scores = seen[data.split.name].scores
        for name, part in data.split.parts.items():
            single, found = (
                scores[who].objective.of(scores[who].confusions[name][None])
                for who in (SINGLE, FOUND)
            )
            rows.append(VideoRow(data.split.name, name, len(part.frames), single, found))
    return tuple(rows)


def confusion_pairs(seen: Counted) -> tuple[ConfusionPair, ...]:
    """The confusions whose pixels changed most, those first."""
    single, found = (seen.scores[name].confusion for name in (SINGLE, FOUND))
    classes = seen.scores[FOUND].classes
    change = np.abs(found - single)
    np.fill_diagonal(change, 0)
    order = np.argsort(-change, axis=None, kind="stable")[:PAIRS]
    pairs = []
    for truth, predicted in zip(*np.unravel_index(order, change.shape), strict=True):
        if change[truth, predicted]:
            counted = int(single[truth, predicted]), int(found[truth, predicted])
            pairs.append(ConfusionPair(classes[truth], classes[predicted], *counted))
    return tuple(pairs)


def curve(name: str, found: Calibration) -> Curve:
    pixels, confidence, accuracy = found.reliability.T
    share = pixels / pixels.sum() if pixels.sum() else np.full(len(pixels), math.nan)
    return Curve(name, confidence, accuracy, share, found.ece)


def front(document: Mapping[str, Any]) -> tuple[FrontPoint, ...]:
    """Postprocessing that was tried; nothing where none was."""
    known = document.get("postprocess") or {}
    return tuple(
        FrontPoint(
            each["name"], each["score"], each["vc8"], each["vc16"], each["front"], each["chosen"]
        )
        for each in known.get("candidates", [])
    )
