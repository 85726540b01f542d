"""What a head says it learned: shares by hand, and the words for what was planted."""

from __future__ import annotations

import numpy as np
import pytest

from fusion.ensemble.heads import HEADS
from fusion.ensemble.heads.explain import class_terms, in_words, mixtures, strongest, unit_shares
from fusion.ensemble.heads.log import Log
from fusion.ensemble.heads.mix import Mix

UNITS = ("net_0", "net_1", "other_0")
CLASSES = ("fence", "building", "tree")


def head(planted, units=UNITS, classes=CLASSES):
    """A head that mixes what is planted as (unit, target, source): weight; own weights are 1/U."""
    weight = np.repeat(np.eye(len(classes))[None] / len(units), len(units), axis=0)
    for (unit, target, source), value in planted.items():
        weight[units.index(unit), classes.index(target), classes.index(source)] = value
    arrays = {"weight": np.float32(weight), "bias": np.zeros(len(classes), np.float32)}
    return Mix(units, classes, arrays)


def sentences(of):
    return [in_words(each, of.units) for each in mixtures(of)]


def test_shares_worked_out_by_hand():
    weight = np.float32([[1, 0], [0.5, -1.5], [0, 0]])
    made = Log(UNITS, ("a", "b"), {"weight": weight, "bias": np.float32([0.5, -2])})
    assert unit_shares(made) == [("net_1", 1, 2 / 3), ("net_0", 0.5, 1 / 3), ("other_0", 0, 0)]
    assert class_terms(made) == [("a", 0.5, 1.5, 0, 0.5), ("b", -2, -1.5, 0, 0.5)]
    mixed = head({("net_0", "tree", "fence"): -2})
    assert unit_shares(mixed)[0] == ("net_0", pytest.approx(1), pytest.approx(0.6))
    name, *numbers = class_terms(mixed)[0]
    assert name == "tree"
    assert numbers == pytest.approx([0, 1, 2, 0.6])


def test_what_is_mixed_is_said_in_words():
    planted = {("net_1", "fence", "building"): 0.31, ("other_0", "tree", "fence"): -0.2}
    said = ["fence gains 0.31 from building of net_1", "tree loses 0.20 to fence of other_0"]
    made = head(planted)
    assert sentences(made) == said
    assert all(line in str(made) for line in said)
    assert strongest(made, 1) == said[:1]


def test_units_of_one_sign_are_one_sentence_and_never_cancel():
    pair = ("fence", "building")
    made = head({("net_0", *pair): 0.5, ("net_1", *pair): 0.25, ("other_0", *pair): -0.5})
    assert sentences(made) == [
        "fence gains 0.75 from building of net_0 and net_1",
        "fence loses 0.50 to building of other_0",
    ]


def test_many_units_are_a_family_all_or_a_number():
    units = tuple(f"{family}_{k}" for family in ("net", "other") for k in range(4))
    pair = ("fence", "building")

    def said(weights):
        planted = {(unit, *pair): w for unit, w in zip(units, weights, strict=False)}
        return sentences(head(planted, units))[0].removeprefix("fence gains ")

    assert said([0.1] * 4) == "0.40 from building of net_*"
    assert said([0.1] * 8) == "0.80 from building of all 8 units"
    assert said([0.1, 0.2, 0.1]) == "0.40 from building of 3 units (the most 0.20, net_1)"
    # a unit that makes next to nothing of it is not named
    assert said([0.5, 0.01]) == "0.51 from building of net_0"


@pytest.mark.parametrize("form", HEADS)
@pytest.mark.parametrize(("units", "classes"), [(1, 1), (1, 3), (2, 1), (22, 124)])
def test_every_form_and_size_has_a_bounded_table(form, units, classes):
    rng, kind = np.random.default_rng(0), HEADS[form]
    arrays = {
        n: np.float32(rng.normal(size=a.shape)) for n, a in kind.start(units, classes, None).items()
    }
    made = kind(
        tuple(f"u{u}" for u in range(units)), tuple(f"c{c}" for c in range(classes)), arrays
    )
    lines = str(made).splitlines()
    assert len(lines) < 50
    assert max(map(len, lines)) <= 100
    assert lines[:2] == [repr(made), kind.about]
    assert sum(share.share for share in unit_shares(made)) == pytest.approx(1)
    if classes == 1:
        assert lines[-1] == "one class: nothing to mix"
    elif form == "log":
        assert lines[-1] == "no class looks at another: nothing is mixed"
    else:
        assert len(mixtures(made)) <= 8
        assert ("gains" in str(made)) or ("loses" in str(made))


@pytest.mark.parametrize("form", HEADS)
def test_a_head_at_its_start_and_one_of_zeros(form):
    arrays = HEADS[form].start(3, 4, None)
    made = HEADS[form](UNITS, ("a", "b", "c", "d"), arrays)
    assert "nothing is mixed" in str(made)
    zeros = {name: np.zeros_like(array) for name, array in arrays.items()}
    nothing = HEADS[form](UNITS, ("a", "b", "c", "d"), zeros)
    assert [share.share for share in unit_shares(nothing)] == [0, 0, 0]
    assert "nothing is mixed" in str(nothing)
