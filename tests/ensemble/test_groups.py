"""How people may name groups: dicts, lists, paths, globs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fusion
from fusion.errors import InputError, StoreError
from fusion.stores import LogitStore, MemoryStore
from tests.ensemble.simulated import make_store


def shape(ensemble):
    return {name: [store.model for store in stores] for name, stores in ensemble.groups.items()}


ALONE = {f"m{k}": [f"m{k}"] for k in range(5)}


def test_stores_that_have_no_groups_are_a_group_each(stores):
    folder = stores[0].parent
    assert shape(fusion.HierarchicalEnsemble(stores)) == ALONE
    assert shape(fusion.HierarchicalEnsemble(f"{folder}/m*.zarr")) == ALONE
    assert shape(fusion.HierarchicalEnsemble(folder / "m[0-1].zarr")) == {
        "m0": ["m0"],
        "m1": ["m1"],
    }
    assert shape(fusion.HierarchicalEnsemble(stores[3])) == {"m3": ["m3"]}
    opened = LogitStore(stores[2])
    ensemble = fusion.HierarchicalEnsemble([opened, stores[0]], {"m0": 0.5})
    assert shape(ensemble) == {"m2": ["m2"], "m0": ["m0"]}  # as listed
    assert ensemble.stores[0] is opened
    assert ensemble.weights == {"m2": 1.0, "m0": 0.5}


def test_a_group_may_be_a_single_store_or_a_glob(stores):
    folder = stores[0].parent
    given = {"strong": f"{folder}/m[0-1].zarr", "weak": stores[2], "rest": LogitStore(stores[4])}
    expected = {"strong": ["m0", "m1"], "weak": ["m2"], "rest": ["m4"]}
    assert shape(fusion.HierarchicalEnsemble(given)) == expected
    mixed = {"all": [str(stores[4]), f"{folder}/m[0-1].zarr"]}
    assert shape(fusion.HierarchicalEnsemble(mixed)) == {"all": ["m0", "m1", "m4"]}
    listed = fusion.HierarchicalEnsemble({"strong": stores[:2], "weak": [stores[2]]})
    named = fusion.HierarchicalEnsemble({"strong": f"{folder}/m[01].zarr", "weak": stores[2]})
    assert np.array_equal(listed.predict("a"), named.predict("a"))


def test_models_of_one_name_are_told_apart_by_their_places(tmp_path):
    twins = [make_store(tmp_path / part / "m.zarr", k) for k, part in enumerate("ab")]
    assert list(fusion.HierarchicalEnsemble(twins).groups) == [str(path) for path in twins]
    arrays = np.random.default_rng(0).normal(size=(2, 1, 3, 4, 5)).astype(np.float32)
    held = [MemoryStore(array, model="net") for array in arrays]
    assert list(fusion.HierarchicalEnsemble(held).groups) == [store.place for store in held]


def test_a_path_that_exists_is_no_glob(tmp_path):
    odd = make_store(tmp_path / "m[1].zarr", 0)
    make_store(tmp_path / "m1.zarr", 1)
    assert list(fusion.HierarchicalEnsemble(str(odd)).groups) == ["m[1]"]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("no*where/*.zarr", r"groups: no store matches 'no\*where/\*.zarr' from folder /.*correct"),
        ({"a": "no*where"}, r"group 'a': no store matches 'no\*where' from folder /"),
        ({"a": [Path("m?.zarr")]}, "group 'a': no store matches"),
        ([], r"groups: got \[\]; give a list of at least one store"),
        ({}, "groups: got {}; give a dict"),
        ({"a": []}, r"group 'a': got \[\]; give a list"),
        ({"a": 3}, "group 'a': got 3; give a list"),
        ([3], r"groups: got \[3\]; give a list"),
        (None, "groups: got None; give a list"),
    ],
)
def test_mistakes_are_one_sentence(groups, message):
    with pytest.raises(InputError, match=message):
        fusion.HierarchicalEnsemble(groups)


def test_a_store_twice_and_a_missing_one(stores):
    with pytest.raises(InputError, match=r"groups: store .*m0.zarr stands in it twice"):
        fusion.HierarchicalEnsemble([stores[0], stores[1], stores[0]])
    with pytest.raises(StoreError, match=r"m9.zarr: no such logit store \(did you mean 'm\d.zarr'"):
        fusion.HierarchicalEnsemble(stores[0].parent / "m9.zarr")
    with pytest.raises(InputError, match="weights: unknown group 'm7'"):
        fusion.HierarchicalEnsemble(stores, {"m7": 1})


def test_a_few_models_are_named(stores):
    ensemble = fusion.HierarchicalEnsemble({"strong": stores[:2], "m3": stores[3]}, {"m3": 0.5})
    assert repr(ensemble) == (
        "HierarchicalEnsemble(1 x strong (m0, m1) + 0.5 x m3; 5 classes, 2 videos, "
        "resize='probabilities')"
    )
    many = {"a": stores, "b": stores[:2]}
    assert "(1 x a (5) + 1 x b (2); " in repr(fusion.HierarchicalEnsemble(many))
    assert str(stores[0].parent) not in repr(ensemble)


def test_notebooks_show_the_groups_escaped(stores, tmp_path):
    shown = fusion.HierarchicalEnsemble({"<i>": stores[:2], "weak": stores[2]})._repr_html_()
    assert "<td>&lt;i&gt;</td><td>1</td><td>2</td><td>m0, m1</td>" in shown
    assert "<td>weak</td><td>1</td><td>1</td><td>m2</td>" in shown
    assert "<i>" not in shown
