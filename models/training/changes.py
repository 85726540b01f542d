"""What of a configuration may differ between a run and its continuation: the one table.

    any time                 where things lie, and what only looks on: they change no weights
    before averaging         the schedule's length, and the shape of the phase after it
    while steps are left     what each step reads anew; a run that is done would not tell

All else makes it another run, which needs another folder. What changes weights is said on stderr.
Data are compared by their ids and classes, not by their place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fusion.errors import InputError
from fusion.models.training.checkpoint import difference
from fusion.models.training.config import CLIPS, Config
from fusion.models.training.schedule import learning_rate

ANY_TIME, BEFORE_AVERAGING, STEPS_LEFT = "any time", "before averaging", "while steps are left"
MAY_CHANGE = {
    **dict.fromkeys(("out", *(f"data.{key}" for key in CLIPS), "val"), ANY_TIME),
    **dict.fromkeys(("train.workers", "train.checkpoint_every", "train.log"), ANY_TIME),
    **dict.fromkeys(("swa.cycles", "swa.refresh"), ANY_TIME),
    "train.steps": BEFORE_AVERAGING,
    **dict.fromkeys(("swa.every", "swa.rate", "swa.highest", "swa.lowest"), BEFORE_AVERAGING),
    **dict.fromkeys(("train.learning_rate", "train.clip", "train.precision"), STEPS_LEFT),
}


def compared(
    path: Path, step: int, there: Mapping[str, Any], here: Mapping[str, Any], config: Config
) -> list[str]:
    """What to say of the keys in which a run differs from its checkpoint.

    Args:
        path: the checkpoint, for errors.
        step: that it is of.
        there, here: its configuration and this one, and what else must agree, as documents.
        config: this one.

    Raises:
        InputError: a key may not differ, or not any more.
    """
    total = config.train.steps + config.swa.cycles * config.swa.every
    begun = there.get("train", {}).get("steps", step)
    seen, said = set[str](), []
    while (odd := difference(there, here, seen)) is not None:
        key, before, now = odd
        seen.add(key)
        before, now = (_default(key) if value is None else value for value in (before, now))
        when = MAY_CHANGE.get(key) or MAY_CHANGE.get(key.partition(".")[0])
        differ = f"{key} = {before!r} there, {now!r} here"
        got = f"{path}: checkpoint of another configuration ({differ})"
        advice = "choose another 'out', or delete it to start anew"
        if when is None or (when == STEPS_LEFT and step >= total):
            raise InputError(f"{got}; {advice}")
        if when == BEFORE_AVERAGING and step > begun:
            late = f"weights are averaged since step {begun}"
            raise InputError(f"{got}; {late}: raise swa.cycles, or choose another 'out'")
        if when != ANY_TIME:
            said.append(f"{key} was {before}, is {now} from step {step} on")
    if step > total:
        got = f"{path}: stands at step {step}, and the configuration ends at {total}"
        raise InputError(f"{got}; raise train.steps or swa.cycles")
    if "train.steps" in seen and step < config.train.steps:
        rate = learning_rate(config, step)
        said.append(f"the schedule ({config.train.schedule}) goes on at a rate of {rate:.3g}")
    return said


def _default(key: str) -> Any:
    """Of a key that came after the checkpoint, or says nothing."""
    found: Any = asdict(Config(out=""))
    for name in key.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found
