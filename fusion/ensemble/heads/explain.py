"""What a head learned, in words: the units and classes that carry weight, and what is mixed.

    S_c = b_c + sum_u sum_k W_uck log P_uk

W_uck is what the score of class c gains where unit u makes class k e times as probable: "fence
gains 0.31 from building of espnet", "tree loses 0.20 to sky of espnet" where it is negative. Units
that say the same of a pair of classes are one sentence, whose number is their sum.

U units, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fusion.text import table, visible

ROWS = 10  # of a table
WORDS = 8  # sentences about mixing
NAMED = 2  # units by name in a sentence
MOST = 0.9  # of a sentence's weight: the units that make so much of it are those it names
LEAST = 0.005  # a weight that two digits show
JOINTS = "_-. "  # where a name's family may end

Row = TypeVar("Row")


class Mixed(Protocol):
    """What is asked of a head (fusion.ensemble.heads.base says what it all is)."""

    @property
    def units(self) -> tuple[str, ...]: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def mixing(self) -> NDArray[np.float32]: ...
    @property
    def full_mixing(self) -> NDArray[np.float32]: ...
    @property
    def bias(self) -> NDArray[np.float32]: ...


class Share(NamedTuple):
    """What a unit carries.

    weight: of a score, on average: sum_k |W_uck|, mean over the classes c. share: of all units'.
    """

    name: str
    weight: float
    share: float


class Terms(NamedTuple):
    """What a class's score is made of: bias, sums over units of W_ucc and of |W_uck|, k != c.

    share: of all absolute weights.
    """

    name: str
    bias: float
    own: float
    others: float
    share: float


class Mixture(NamedTuple):
    """Units of which the score of one class gains, or loses, by another class.

    weight: sum of their W_uck, all of one sign. units: with their part of it, the heaviest first.
    """

    target: str
    source: str
    weight: float
    units: tuple[tuple[str, float], ...]


def unit_shares(head: Mixed) -> list[Share]:
    """Of every unit, the heaviest first."""
    weights = np.abs(head.full_mixing.astype(np.float64)).sum(axis=2).mean(axis=1)
    total = weights.sum() or 1.0
    each = zip(head.units, weights.tolist(), strict=True)
    found = [Share(name, weight, weight / total) for name, weight in each]
    return sorted(found, key=lambda share: -share.weight)


def class_terms(head: Mixed) -> list[Terms]:
    """Of every class, the one whose score has the most weight first."""
    mixing = head.full_mixing.astype(np.float64)
    own, every = np.diagonal(mixing, 0, 1, 2), np.abs(mixing).sum(axis=(0, 2))
    others, total = every - np.abs(own).sum(axis=0), every.sum() or 1.0
    numbers = (head.bias, own.sum(axis=0), np.maximum(others, 0), every / total)
    found = [
        Terms(name, *map(float, row)) for name, *row in zip(head.classes, *numbers, strict=True)
    ]
    return sorted(found, key=lambda terms: -terms.share)


def mixtures(head: Mixed, most: int = WORDS) -> list[Mixture]:
    """The strongest weights between different classes, units of one sign together."""
    mixing, found = head.full_mixing.astype(np.float64), []
    for sign in (1, -1):
        sums = np.maximum(sign * mixing, 0).sum(axis=0)
        np.fill_diagonal(sums, 0)
        for place in np.argsort(-sums, axis=None, kind="stable")[:most]:
            target, source = divmod(int(place), len(head.classes))
            if sums[target, source] < LEAST:
                break
            column = sign * mixing[:, target, source]
            order = [int(u) for u in np.argsort(-column, kind="stable") if column[u] > 0]
            units = tuple((head.units[u], sign * float(column[u])) for u in order)
            names = head.classes[target], head.classes[source]
            found.append(Mixture(*names, sign * float(sums[target, source]), units))
    return sorted(found, key=lambda mixture: -abs(mixture.weight))[:most]


def in_words(mixture: Mixture, units: Sequence[str]) -> str:
    """A mixture as a sentence. units: all that the head has."""
    reached, carriers = 0.0, list[tuple[str, float]]()
    for name, weight in mixture.units:
        if reached >= MOST * abs(mixture.weight):
            break
        reached += abs(weight)
        carriers.append((name, weight))
    does, word = ("gains", "from") if mixture.weight > 0 else ("loses", "to")
    what = f"{mixture.target} {does} {abs(mixture.weight):.2f} {word} {mixture.source}"
    return visible(f"{what} of {named(carriers, units)}")


def named(some: Sequence[tuple[str, float]], units: Sequence[str]) -> str:
    """Some of the units, with their weights: few by name, many by their family or number."""
    names = [name for name, _ in some]
    if len(names) <= NAMED:
        return " and ".join(names)
    if len(names) == len(units):
        return f"all {len(units)} units"
    family = _family(names)
    if family and len(names) == sum(unit.startswith(family) for unit in units):
        return f"{family}*"
    return f"{len(names)} units (the most {abs(some[0][1]):.2f}, {names[0]})"


def _family(names: Sequence[str]) -> str:
    """What all the names begin with, up to a joint."""
    length = 0
    while all(len(name) > length and name[length] == names[0][length] for name in names):
        length += 1
    return names[0][: 1 + max(names[0].rfind(joint, 0, length) for joint in JOINTS)]


def explain(head: Mixed, title: str) -> str:
    """Everything, for people: units, classes, and the strongest of what is mixed."""
    return "\n\n".join([title, _unit_table(head), _class_table(head), _mixed(head)])


def _first(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """Rows to show, and the rest: never a single one, which takes no more room itself."""
    shown = len(rows) if len(rows) <= ROWS + 1 else ROWS
    return rows[:shown], rows[shown:]


def _unit_table(head: Mixed) -> str:
    shares = unit_shares(head)
    shown, rest = _first(shares)
    rows = [(s.name, f"{s.weight:.3f}", f"{100 * s.share:.1f}") for s in shown]
    if rest:
        sums = math.fsum(s.weight for s in rest), 100 * math.fsum(s.share for s in rest)
        rows.append((f"{len(rest)} more", f"{sums[0]:.3f}", f"{sums[1]:.1f}"))
    said = "weight: sum over classes of |W|, mean over the scores; share: of all units"
    return f"{table(rows, ('unit', 'weight', 'share %'))}\n{said}"


def _class_table(head: Mixed) -> str:
    (shown, rest), mixes = _first(class_terms(head)), head.mixing.ndim == 3
    rows = []
    for terms in shown:
        others = [f"{terms.others:.2f}"] * mixes
        numbers = [f"{terms.bias:+.2f}", f"{terms.own:.2f}", *others, f"{100 * terms.share:.1f}"]
        rows.append((terms.name, *numbers))
    if rest:
        share = 100 * math.fsum(terms.share for terms in rest)
        rows.append((f"{len(rest)} more", "", "", *[""] * mixes, f"{share:.1f}"))
    header = ("class", "bias", "own", *["others"] * mixes, "share %")
    said = "own: weight of the class itself, summed over units"
    return f"{table(rows, header)}\n{said}{'; others: |W| of the other classes' * mixes}"


def _mixed(head: Mixed) -> str:
    if len(head.classes) == 1:
        return "one class: nothing to mix"
    if head.mixing.ndim == 2:
        return "no class looks at another: nothing is mixed"
    lines = strongest(head, WORDS)
    if not lines:
        return f"no class gains or loses {LEAST} by another: nothing is mixed"
    return "\n".join(
        [
            "what is mixed, the most first (where that class is e times as probable):",
            *(f"  {line}" for line in lines),
        ]
    )


def strongest(head: Mixed, most: int) -> list[str]:
    """The strongest of what is mixed, in words; empty where nothing is."""
    if head.mixing.ndim == 2:
        return []
    return [in_words(mixture, head.units) for mixture in mixtures(head, most)]
