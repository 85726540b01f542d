"""What a later run of an exact search goes on from, a JSON file that is written after every step.

{"data": fingerprint, "climbed": n, "step": n, "current": [weights, mIoU] | null,
 "found": [[weights, mIoU], ...], "certify": state of the branch and bound | null}
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from fusion import files
from fusion.errors import InputError, StoreError
from fusion.metrics.objectives import OBJECTIVES
from fusion.search.method import Problem
from fusion.search.result import Trial

VERSION = 1


class Journal:
    """The points found, how many climbs are done, where the current one is, what is certified.

    path: None keeps nothing. Raises InputError for the state of another problem, StoreError for a
    file that is no state.
    """

    def __init__(self, problem: Problem, path: Path | None) -> None:
        self.path, self.climbed, self.step = path, 0, 0
        self.current: Trial | None = None
        self.found: list[Trial] = []
        self.certify: dict[str, Any] | None = None
        self.data = fingerprint(problem) if path else ""
        self.resumed = path is not None and path.exists()
        if path and self.resumed:
            self._read(path)

    def _read(self, path: Path) -> None:
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            mine = kept["data"] == self.data
            if mine:
                self.climbed, self.step = kept["climbed"], kept["step"]
                self.found = [Trial(tuple(weights), miou) for weights, miou in kept["found"]]
                now, self.certify = kept["current"], kept["certify"]
                self.current = None if now is None else Trial(tuple(now[0]), now[1])
        except (OSError, KeyError, TypeError, ValueError) as error:
            got = f"is no state of an exact search ({error!r})"
            raise StoreError(f"{path}: {got}; delete it or give another file") from error
        if not mine:
            other = "the state of a search on other data, convention or seed"
            raise InputError(f"{path}: is {other}; give another file")

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
            kept["certify"] = self.certify
            # compact: an unfinished certificate has thousands of simplexes
            files.write_bytes(self.path, json.dumps(kept).encode())


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
    plain = (name, problem.seed) == ("vspw", 0)
    # older versions had the plain name for all conventions and seeds
    with suppress(OSError, ValueError, KeyError, TypeError):
        plain = plain or json.loads(place.read_text())["data"] == fingerprint(problem)
    return place if plain else place.with_stem(f"{place.stem}-{name}-{problem.seed}")
