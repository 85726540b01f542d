"""How often what a search says about itself is true, where truth is known.

python -m benchmarks.honesty [--halves N] [--repetitions N] [--quick] [--json]

A search with five folds of videos claims a gain over uniform weights where that is positive and
distinguishable, recommends a contender, and predicts the score of new videos. Asked here:

    planted populations (benchmarks/planted.py): samples of 8 or 12 videos; truth is the population
    camvid22, where SEGFUSION_DATA names it: halves of its ten clips, each scored on the other half

Groups are formed, weights and multipliers found, and folds judged as `fusion.search` does. A claim
is false where what was found scores no better than uniform weights there. Scores in percent.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.camvid import MISSING, Clips
from benchmarks.planted import BASE, Scene, level_indeed
from fusion.metrics import Scores
from fusion.search.auto import Auto
from fusion.search.folds import hold_out, judged, only, simpler
from fusion.search.held import FOUND, GROUP, SIMPLEST_FIRST, UNIFORM, WEIGHTS
from fusion.search.method import Problem
from fusion.search.result import SearchResult
from fusion.search.run import FOLDS
from fusion.search.verdict import Verdict

METHOD = Auto(gap=None)  # a certificate says nothing about other videos
SCENES = (
    *(Scene("level", videos, rare) for videos in (8, 10, 12) for rare in (False, True)),
    *(Scene(kind, videos) for kind in ("equal", "better") for videos in (8, 12)),
    Scene("level", 8, rare=False, multipliers=True),
    *(Scene(kind, 12, rare, True) for kind in ("level", "equal") for rare in (False, True)),
    Scene("better", 12, multipliers=True),
)
ORDER = (*SIMPLEST_FIRST, FOUND)
COLUMNS = ("claims", "false", "not uniform", "new held", "width", "bias")
COLUMNS += ("found", "weights", "recommended", "kept", "multipliers")


@dataclass(frozen=True)
class Answer:
    """What one search said, and what is so.

    there: scores of all contenders where truth is known. new: of what was found, on new videos.
    """

    said: SearchResult
    there: Mapping[str, Scores]
    new: Scores

    def gain(self, name: str, over: str = UNIFORM) -> float:
        """In points, of what was chosen over another there."""
        return 100 * (self.there[name].score - self.there[over].score)

    @property
    def verdict(self) -> Verdict:
        assert self.said.verdict is not None
        return self.said.verdict

    @property
    def claims(self) -> bool:
        return self.verdict.gain.distinguishable and self.verdict.gain.value > 0

    @property
    def row(self) -> dict[str, float]:
        """What is averaged; by `COLUMNS`."""
        low, high = self.said.prediction_interval(len(self.new.confusions))
        held, known = self.said.held_out, WEIGHTS in self.there
        assert held is not None
        row = {
            "claims": 100 * self.claims,
            "false": 100 * (self.claims and self.gain(FOUND) <= 1e-6),
            "not uniform": 100 * (self.verdict.recommended != UNIFORM),
            "new held": 100 * (low <= self.new.score <= high),
            "width": 100 * (high - low),
            "bias": 100 * (held - self.there[FOUND].score),
            "found": self.gain(FOUND),
            "weights": self.gain(WEIGHTS if known else FOUND),
            "recommended": self.gain(self.verdict.recommended),
        }
        if known:
            row["kept"] = 100 * (self.said.multipliers is not None)
            row["multipliers"] = self.gain(FOUND, WEIGHTS)
        return row


def asked(
    whole: Problem,
    some: Sequence[str],
    others: Sequence[str],
    new: Sequence[str],
    formed: Callable[[Sequence[str]], Problem] | None = None,
    singles: Mapping[str, Scores] | None = None,
) -> Answer:
    """A search on some of the videos, judged on others."""
    found, there = judged(whole, some, others, METHOD)
    without = simpler(whole, whole.subset(some), others, singles, GROUP)
    there |= {name: scores for name, (scores, _) in without.items()}
    how: dict[str, Any] = {"formed": formed, "singles": singles}
    held = hold_out(whole.subset(some), METHOD, FOLDS, **how)
    mine = {video: video for video in some}
    said = replace(found, held_out=held, verdict=Verdict(held, mine), units=mine)
    return Answer(said, there, only(there[FOUND], new))


def planted(scene: Scene, repetitions: int, base: int = BASE) -> Iterator[Answer]:
    """Searches on samples of a population; as many other videos are the new ones."""
    whole, rng = scene.problem(base), np.random.default_rng(scene.videos)
    if scene.kind == "level" and not level_indeed(whole):
        raise SystemExit(f"{scene.name}: weightings differ in the population; no figure is given")
    videos = list(whole.condensed.videos)
    for repetition in range(repetitions):
        drawn = [videos[place] for place in rng.permutation(len(videos))[: 2 * scene.videos]]
        some, new = sorted(drawn[: scene.videos], key=videos.index), drawn[scene.videos :]
        yield asked(replace(whole, seed=repetition), some, videos, new)


def split(clips: Sequence[str], number: int) -> Iterator[tuple[list[str], list[str]]]:
    """Random halves and the rest of each, in turn."""
    rng, half = np.random.default_rng(0), len(clips) // 2
    for index in range(number):
        if index % 2 == 0:
            order = rng.permutation(len(clips)).tolist()
        both = [[clips[p] for p in sorted(some)] for some in (order[:half], order[half:])]
        yield both[index % 2], both[1 - index % 2]


def halves(clips: Clips, number: int) -> Iterator[Answer]:
    """Searches on random halves of the clips; the other half is new."""
    for some, new in split(clips.clips, number):
        yield asked(clips.formed(some), some, new, new, clips.formed, clips.singles)


def summary(answers: Iterator[Answer], name: str) -> dict[str, Any]:
    """Means over searches, and how often each contender was recommended."""
    rows, chosen, there = [], Counter[str](), dict[str, list[float]]()
    for answer in answers:
        rows.append(answer.row)
        chosen[answer.verdict.recommended] += 1
        best = {"the recommended one": answer.there[answer.verdict.recommended]}
        for contender, scores in {**answer.there, **best}.items():
            there.setdefault(contender, []).append(100 * scores.score)
        print(f"{name}: {len(rows)}", end="\r", file=sys.stderr)
    columns = [column for column in COLUMNS if column in rows[0]]
    return {
        "searches": len(rows),
        **{column: float(np.mean([row[column] for row in rows])) for column in columns},
        "chosen": {c: chosen[c] for c in ORDER if c in chosen},
        "scores": {c: float(np.mean(there[c])) for c in [*ORDER, *best] if c in there},
        "rows": rows,
    }


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """For people, in Markdown."""
    head = ["searches on", "number", *COLUMNS]
    lines = [head, ["---"] * len(head)]
    for name, each in found.items():
        numbers = [f"{each[column]:.1f}" if column in each else "" for column in COLUMNS]
        lines.append([name, str(each["searches"]), *numbers])
    said = ["| " + " | ".join(line) + " |" for line in lines]
    for name, each in found.items():
        chosen = ", ".join(f"{what} {n}" for what, n in each["chosen"].items())
        scores = ", ".join(f"{what} {score:.1f}" for what, score in each["scores"].items())
        said += ["", f"{name}: recommended {chosen}; mean scores {scores}"]
    return "\n".join(said)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.honesty", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    made.add_argument("--repetitions", type=int, default=200, help="searches of each scene")
    made.add_argument("--halves", type=int, default=30, help="of camvid22's clips")
    made.add_argument("--stride", type=int, default=4, help="takes every s-th row and column")
    made.add_argument("--scene", type=int, action="append", help="by number; default: all")
    made.add_argument("--quick", action="store_true", help="two searches of each, tiny populations")
    made.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return made


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.repetitions < 0 or options.halves < 0 or options.stride < 1:
        print("give numbers >= 0 of searches, and a stride >= 1", file=sys.stderr)
        return 2
    repetitions, number, base = options.repetitions, options.halves, BASE
    if options.quick:
        repetitions, number, base = min(repetitions, 2), min(number, 2), 16
    found = {}
    for index, scene in enumerate(SCENES):
        if repetitions and index in (options.scene or range(len(SCENES))):
            found[scene.name] = summary(planted(scene, repetitions, base), scene.name)
    clips = Clips.there(stride=16 if options.quick else options.stride)
    if clips is None:
        print(f"camvid22: left out, {MISSING}", file=sys.stderr)
    elif number:
        found["camvid22"] = summary(halves(clips, number), "camvid22")
    print(json.dumps(found, indent=2) if options.json else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
