"""What a later run of an exact search goes on from, a JSON file that is written after every step.

{"data": fingerprint, "climbed": n, "step": n, "current": [weights, mIoU] | null,
 "found": [[weights, mIoU], ...], "segment": [weights, weights] that led to the best one | null,
 "certify": state of the branch and bound | null, "sha256": seal of all that}

What it says is counted again from the pixels: scores when it is read, bounds by `proof`, the
segment is swept. States of before 0.2 have no seal, nor a segment.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fusion import files, plain, sealed
from fusion.errors import CorruptStoreError, InputError, StoreError
from fusion.metrics.objectives import OBJECTIVES
from fusion.search.claims import checked, number, vector
from fusion.search.method import Problem
from fusion.search.result import Trial

VERSION = 1
AGAIN = "delete it or give another file"


class Journal:
    """The points found, how many climbs are done, where the current one is, what is certified.

    path: None keeps nothing. Raises InputError for the state of another problem, StoreError for a
    file that is no state, or says what the pixels do not.
    """

    def __init__(self, problem: Problem, path: Path | None) -> None:
        self.path, self.climbed, self.step = path, 0, 0
        self.current: Trial | None = None
        self.found: list[Trial] = []
        self.segment: list[tuple[float, ...]] | None = None
        self.certify: dict[str, Any] | None = None
        self.data = fingerprint(problem) if path else ""
        self.resumed = path is not None and path.exists()
        if path and self.resumed:
            self._read(path, problem)

    def _read(self, path: Path, problem: Problem) -> None:
        try:
            kept = sealed.unsealed(sealed.parsed(plain.content(path)))
            if kept["data"] != self.data:
                other = "the state of a search on other data, convention or seed"
                raise InputError(f"{path}: is {other}; give another file")
            self.climbed, self.step = (number(kept[k], 0, int) for k in ("climbed", "step"))
            groups, now = len(problem.groups), kept["current"]
            told = [_trial(each, groups) for each in kept["found"]]
            told += [] if now is None else [_trial(now, groups)]
            ends = kept.get("segment")
            self.segment = None if ends is None else [vector(each, groups) for each in ends]
            certify = _certificate(path, kept["certify"])
        except InputError:
            raise
        except (OSError, KeyError, TypeError, ValueError, OverflowError) as error:
            got = f"is no state of an exact search ({error})"
            raise StoreError(f"{path}: {got}; {AGAIN}") from error
        self.found = checked(problem, told, path, AGAIN)
        self.current = None if now is None else self.found.pop()
        self.certify = certify

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Names the file in the errors of what is done with its certificate."""
        try:
            yield
        except CorruptStoreError as error:
            raise CorruptStoreError(f"{self.path}: {error}: damaged or edited; {AGAIN}") from error

    def stepped(self, better: Trial | None) -> None:
        """Keeps that a climb came to a better point, or to its top."""
        self.step, self.current = self.step + 1, better
        self.climbed += better is None
        self.write()

    def write(self) -> None:
        if self.path is not None:
            kept = {key: getattr(self, key) for key in ("data", "climbed", "step")}
            kept["current"] = None if self.current is None else self.current[:2]
            kept["found"] = [trial[:2] for trial in self.found]
            kept |= {"segment": self.segment, "certify": self.certify}
            # compact: an unfinished certificate has thousands of simplexes
            files.write_bytes(self.path, json.dumps(sealed.sealed(kept)).encode())


def _trial(told: Any, groups: int) -> Trial:
    """A point as the file has it; ValueError where it is none."""
    weights, miou = told
    return Trial(vector(weights, groups), float(number(miou, 0.0)))


def _certificate(path: Path, state: Any) -> dict[str, Any] | None:
    """The state of the branch and bound, if there is one that can be gone on from."""
    if state is None:
        return None
    if "closed" in state or state["settled"] == 0:
        return dict(state)
    what = "the certificate of an older version, which cannot be proved again, begins anew"
    print(f"{path}: {what}", file=sys.stderr)
    return None


def fingerprint(problem: Problem) -> str:
    """sha256 of names, rules and labels under uniform weights: the same search finds it again."""
    condensed = problem.condensed
    uniform = condensed.confusion([1.0] * len(problem.groups))
    names = [condensed.groups, condensed.classes, condensed.videos]
    rules = [*names, problem.objective.name, problem.seed, VERSION]
    return hashlib.sha256(json.dumps(rules).encode() + uniform.tobytes()).hexdigest()


def state_file(problem: Problem, folder: Path) -> Path:
    """Its place in a folder: every convention and seed has its own, none is in another's way."""
    place = folder / f"exact-{(problem.digest() or '')[:16]}.json"
    name = problem.objective.name
    if name not in OBJECTIVES:  # classes in it may hold what a file's name cannot
        name = hashlib.sha256(name.encode()).hexdigest()[:8]
    bare = (name, problem.seed) == ("vspw", 0)
    # older versions had the bare name for all conventions and seeds
    with suppress(OSError, ValueError, KeyError):
        bare = bare or sealed.parsed(plain.content(place))["data"] == fingerprint(problem)
    return place if bare else place.with_stem(f"{place.stem}-{name}-{problem.seed}")
