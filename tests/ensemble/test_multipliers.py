"""Class multipliers of an ensemble: labels of b F, files, other processes, refusals by name."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

import fusion
from fusion.errors import InputError
from tests.ensemble.simulated import CLASSES

RAISED = dict(zip(CLASSES, (1.0, 4.0, 0.25, 2.0, 1.0), strict=True))


def ensemble_of(stores, multipliers, **options):
    groups = {"s": stores[:2], "w": stores[2:]}
    return fusion.HierarchicalEnsemble(groups, {"w": 1.4}, multipliers=multipliers, **options)


@pytest.mark.parametrize("resize", ["probabilities", "logits"])
def test_labels_are_the_argmax_of_multiplied_probabilities(stores, resize):
    ensemble = ensemble_of(stores, RAISED, resize=resize)
    plain = ensemble_of(stores, None, resize=resize)
    for video in ensemble.videos:
        fused = plain.predict_proba(video)
        scores = fused * (np.array(list(RAISED.values()), np.float32) / 4)[:, None, None]
        assert np.array_equal(ensemble.predict(video), scores.argmax(axis=1))
        assert not np.array_equal(ensemble.predict(video), plain.predict(video))
        assert np.array_equal(ensemble.predict_proba(video), fused)


def test_only_ratios_matter_and_an_array_is_in_the_order_of_classes(stores):
    named = ensemble_of(stores, RAISED)
    listed = ensemble_of(stores, [3 * number for number in RAISED.values()])
    array = ensemble_of(stores, np.array(list(RAISED.values())))
    ones, none = ensemble_of(stores, [0.5] * 5), ensemble_of(stores, None)
    for video in named.videos:
        assert np.array_equal(named.predict(video), listed.predict(video))
        assert np.array_equal(named.predict(video), array.predict(video))
        assert np.array_equal(ones.predict(video), none.predict(video))
    assert named.multipliers == RAISED
    assert none.multipliers is None


def test_they_are_saved_loaded_pickled_shown_and_left(stores, tmp_path):
    ensemble = ensemble_of(stores, RAISED)
    ensemble.save(tmp_path / "best.json")
    again = fusion.HierarchicalEnsemble.load(tmp_path / "best.json")
    sent = pickle.loads(pickle.dumps(ensemble))
    other = ensemble.with_weights({"s": 2.0})
    for each in (again, sent, other):
        assert each.multipliers == RAISED
    assert np.array_equal(again.predict("a"), ensemble.predict("a"))
    assert "multipliers class 2 0.218, class 1 3.48, " in repr(ensemble)
    assert other.with_multipliers(None).multipliers is None
    assert ensemble.singles().multipliers is None
    toml = tmp_path / "ensemble.toml"
    lines = [f'"{name}" = {number}' for name, number in RAISED.items()]
    paths = [str(path) for path in stores]
    toml.write_text(f"[groups]\ns = {paths}\n[multipliers]\n" + "\n".join(lines))
    assert fusion.HierarchicalEnsemble.load(toml).multipliers == RAISED


@pytest.mark.parametrize(
    ("multipliers", "said"),
    [
        ({**RAISED, "class 1": 0.0}, r"got \{'class 1': 0.0\}; give finite numbers above 0"),
        ({**RAISED, "class 1": -2.0}, r"got \{'class 1': -2.0\}"),
        ({**RAISED, "class 3": math.nan}, r"got \{'class 3': nan\}"),
        ({**RAISED, "class 3": math.inf}, r"got \{'class 3': inf\}"),
        ({**RAISED, "clas 3": 1.0}, "unknown class 'clas 3'; did you mean 'class 3'?"),
        ({"class 0": 2.0}, "no number for class 1, class 2, class 3, class 4; give"),
        ([1.0, 2.0], "give 5 finite numbers"),
        ([1.0, 1.0, 1.0, 1.0, 1e7], "no two further apart"),
        ("high", r"got 'high' \(str\); give a dict .* or a list of numbers"),
        (3.0, r"got 3.0 \(float\); give a dict"),
    ],
    ids=str,
)
def test_what_no_multipliers_can_be_is_refused_before_data_is_read(stores, multipliers, said):
    with pytest.raises(InputError, match=f"multipliers: .*{said}"):
        ensemble_of(stores, multipliers)
