"""Ensembles on disk: TOML and JSON, beside their stores and on another split's."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest

import fusion
from fusion.errors import InputError, StoreError
from tests.ensemble.simulated import make_store


def test_saves_and_loads(stores, tmp_path):
    ensemble = fusion.HierarchicalEnsemble(
        {"s": stores[:2], "w": stores[2:]}, {"w": 1.4}, resize="logits", temperatures={"m1": 1.5}
    )
    ensemble.save(tmp_path / "deep" / "best.json")
    again = fusion.HierarchicalEnsemble.load(tmp_path / "deep" / "best.json")
    assert again.weights == {"s": 1.0, "w": 1.4}
    assert np.array_equal(again.predict_proba("a"), ensemble.predict_proba("a"))
    assert np.array_equal(pickle.loads(pickle.dumps(ensemble)).predict("a"), ensemble.predict("a"))
    assert np.array_equal(
        ensemble.with_weights({"s": 0.0}).predict("a"),
        fusion.HierarchicalEnsemble({"w": stores[2:]}, resize="logits").predict("a"),
    )


def test_load_refuses_stores_that_changed(tmp_path):
    make_store(tmp_path / "val" / "m.zarr", 0)
    make_store(tmp_path / "test" / "m.zarr", 1)
    fusion.HierarchicalEnsemble({"g": [tmp_path / "val" / "m.zarr"]}).save(tmp_path / "best.json")
    other = fusion.HierarchicalEnsemble.load(tmp_path / "best.json", stores=tmp_path / "test")
    assert other.stores[0].path == tmp_path / "test" / "m.zarr"
    (tmp_path / "val").rename(tmp_path / "old")
    (tmp_path / "test").rename(tmp_path / "val")
    with pytest.raises(StoreError, match="not the content the weights"):
        fusion.HierarchicalEnsemble.load(tmp_path / "best.json")
    assert fusion.HierarchicalEnsemble.load(tmp_path / "best.json", check=False).videos


def test_toml(stores, tmp_path):
    folder = stores[0].parent
    (folder / "ensemble.toml").write_text(
        'resize = "logits"\n[groups]\ns = ["m[01].zarr"]\nw = ["m2.zarr", "m*.zarr"]\n'
        '[weights]\nw = 1.4\n[temperatures]\n"m0.zarr" = 2\n'
    )
    ensemble = fusion.HierarchicalEnsemble.load(folder / "ensemble.toml")
    assert [s.model for s in ensemble.groups["s"]] == ["m0", "m1"]
    assert len(ensemble.groups["w"]) == 5
    assert ensemble.weights == {"s": 1.0, "w": 1.4}
    assert ensemble.resize == "logits"
    assert ensemble.temperatures == (2.0, 1.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[group]\na = ['x']", "did you mean 'groups'"),
        ("[groups]\n", r"no \[groups\] table"),
        ("[groups]\na = 'x'", "list of paths"),
        ("[groups]\na = ['nothing*.zarr']", "no store matches 'nothing"),
        ("groups = 3", "make it a table"),
        ("[groups", "cannot be read"),
    ],
)
def test_bad_toml(tmp_path, text, message):
    (tmp_path / "e.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        fusion.HierarchicalEnsemble.load(tmp_path / "e.toml")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "{}",
        '{"format": "segfusion.ensemble", "version": 99}',
        '{"format": "x", "version": 1}',
    ],
)
def test_bad_saved_ensembles(tmp_path, text):
    (tmp_path / "best.json").write_text(text)
    with pytest.raises(InputError, match=r"best\.json"):
        fusion.HierarchicalEnsemble.load(tmp_path / "best.json")


@pytest.fixture(params=["toml", "json"])
def saved(request, tmp_path):
    """A file of two groups, and a folder with stores of the same names but other numbers."""
    for split, seeds in (("val", range(3)), ("test", range(10, 13))):
        for k, seed in enumerate(seeds):
            make_store(tmp_path / split / f"m{k}.zarr", seed)
    path = tmp_path / f"ensemble.{request.param}"
    if request.param == "toml":
        groups = 's = ["val/m[01].zarr"]\nw = ["val/m2.zarr"]'
        path.write_text(f'[groups]\n{groups}\n[temperatures]\n"val/m0.zarr" = 2.0\n')
    else:
        stores = [tmp_path / "val" / f"m{k}.zarr" for k in range(3)]
        groups = {"s": stores[:2], "w": stores[2:]}
        fusion.HierarchicalEnsemble(groups, temperatures={"m0": 2.0}).save(path)
    return path


def test_stores_of_another_split_are_found_by_name(saved, tmp_path):
    here = fusion.HierarchicalEnsemble.load(saved)
    there = fusion.HierarchicalEnsemble.load(saved, stores=tmp_path / "test")
    assert {store.path.parent for store in there.stores} == {tmp_path / "test"}
    assert [s.path.name for s in there.stores] == [s.path.name for s in here.stores]
    assert there.temperatures == here.temperatures == (2.0, 1.0, 1.0)
    assert not np.array_equal(there.predict("a"), here.predict("a"))


def test_another_split_that_is_not_there(saved, tmp_path):
    with pytest.raises(StoreError, match=r"nowhere: no such folder; give one with stores named as"):
        fusion.HierarchicalEnsemble.load(saved, stores=tmp_path / "nowhere")
    shutil.rmtree(tmp_path / "test" / "m2.zarr")
    with pytest.raises(StoreError, match=r"test/m2\.zarr: no such logit store"):
        fusion.HierarchicalEnsemble.load(saved, stores=tmp_path / "test")
    shutil.rmtree(tmp_path / "test" / "m0.zarr")
    shutil.rmtree(tmp_path / "test" / "m1.zarr")
    with pytest.raises((StoreError, InputError), match=r"no such logit store|no store matches"):
        fusion.HierarchicalEnsemble.load(saved, stores=tmp_path / "test")


def test_two_stores_of_one_name_are_not_taken_for_each_other(tmp_path):
    for folder in ("one", "two", "test"):
        make_store(tmp_path / folder / "m.zarr", 0)
    (tmp_path / "e.toml").write_text('[groups]\ns = ["one/m.zarr"]\nw = ["two/m.zarr"]\n')
    assert len(fusion.HierarchicalEnsemble.load(tmp_path / "e.toml").stores) == 2
    with pytest.raises(InputError, match="have one name"):
        fusion.HierarchicalEnsemble.load(tmp_path / "e.toml", stores=tmp_path / "test")
