"""Names of labels beside those of what is scored: how they differ, and what to do."""

from __future__ import annotations

from collections.abc import Sequence

from fusion.errors import InputError
from fusion.labels.labels import Labels
from fusion.text import bare, closest, listed

SHOWN = 3  # names of either side


def mismatch(
    labels: Sequence[str], stores: Sequence[str], what: str, *, intersect: bool, where: str = ""
) -> InputError:
    """The error of labels that are of other units, or frames, than the stores.

    Args:
        labels, stores: ids of either side.
        what: "videos" or "frames".
        intersect: whether align='intersect' is still to be had.
        where: begins the sentence.
    """
    there = set(stores)
    shared = [name for name in labels if name in there]
    lacking = [name for name in labels if name not in there]
    if not shared:
        sides = f"labels have {_some(labels)}, stores {_some(stores)}"
        got = f"labels and stores share no {what[:-1]}: {sides}"
    else:
        # the other way round is no mistake: what has no labels is not scored
        got = f"labels hold {len(lacking)} of {len(labels)} {what} that no store has: "
        got += f"{listed(map(repr, lacking), SHOWN)}; stores have {_some(stores)}"
    do = f"give labels and stores of the same {what}"
    enough = 2 * len(shared) >= min(len(labels), len(stores))
    if shared and enough and intersect:
        do += f", or align='intersect' to score the {len(shared)} that both have"
    return InputError(f"{where}{got}; {_hint(lacking, stores)}{do}")


def _some(names: Sequence[str]) -> str:
    return f"{len(names)} ({listed(map(repr, names), SHOWN)})"


def _hint(lacking: Sequence[str], stores: Sequence[str]) -> str:
    """What the names that lack a partner may be called there."""
    known = {bare(name): name for name in stores}
    same = [(name, known[bare(name)]) for name in lacking if bare(name) in known]
    if same:
        ours, theirs = same[0]
        agree = f"but for suffix, extension or case {len(same)} agree"
        rule = "rename one side, or read masks with pattern={unit}SUFFIX.png"
        return f"{agree} (labels {ours!r}, stores {theirs!r}): {rule}; "
    near = closest(lacking[0], stores, cutoff=0.7) if lacking else None
    return f"did you mean {near!r} for {lacking[0]!r}? " if near else ""


def check_names(truth: Labels, classes: Sequence[str]) -> None:
    """InputError where the labels' classes are those of what is scored, but in another order."""
    names = truth.names
    if names and tuple(names) != tuple(classes) and set(names) == set(classes):
        place = next(k for k, name in enumerate(names) if name != classes[k])
        got = f"class {place} is {names[place]!r} in the labels' class map, {classes[place]!r} here"
        raise InputError(f"classes: {got}; give a class map in the order of the stores' classes")
