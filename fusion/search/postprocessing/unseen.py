"""Every part beside the ensemble that was found without it."""

from __future__ import annotations

from typing import NamedTuple

from fusion.ensemble import Ensemble
from fusion.search.held import Choice
from fusion.search.result import SearchResult
from fusion.search.run import Run


class Unseen(NamedTuple):
    """Parts, and the ensemble that was found without them."""

    parts: tuple[str, ...]
    ensemble: Ensemble


def unseen(run: Run, found: SearchResult) -> list[Unseen]:
    """The folds of what was recommended, in their order; one of all parts where there are none."""
    if found.held_out is None or found.verdict is None:
        assert found.recommended is not None
        return [Unseen(tuple(run.parts), found.recommended)]
    made: list[tuple[Choice, Ensemble]] = []
    for choice in found.held_out.choices[found.verdict.recommended]:
        # folds that chose the same are one ensemble, whose pixels are fused once
        same = (e for c, e in made if run.formation is None and c[1:] == choice[1:])
        ensemble = next(same, None) or _ensemble_of(run, choice)
        made.append((choice, ensemble))
    return [Unseen(choice.videos, ensemble) for choice, ensemble in made]


def _ensemble_of(run: Run, choice: Choice) -> Ensemble:
    if run.formation is not None:
        held = set(choice.videos)
        run = run.formed_on([part for part in run.parts if part not in held])
    return run.ensemble_of(choice)
