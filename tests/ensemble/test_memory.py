"""Ensembles over arrays in memory, against the same over stores on disk."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import fusion
from fusion.errors import InputError
from fusion.labels import write_labels
from fusion.stores import MemoryStore
from tests.ensemble.simulated import CLASSES, SIZE, VIDEOS


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """Three models of two resolutions as stores of the exact profile and in memory."""
    folder = tmp_path_factory.mktemp("twins")
    disk, held = [], []
    for k, native in enumerate([(6, 8), (6, 8), (12, 16)]):
        draw = np.random.default_rng(k)
        clips = {
            v: draw.normal(0, 3, (len(f), 5, *native)).astype(np.float16) for v, f in VIDEOS.items()
        }
        writer = fusion.LogitWriter(folder / f"m{k}.zarr", CLASSES, "exact")
        for video, frames in VIDEOS.items():
            with writer.video(video, frames=frames, size=SIZE) as out:
                for frame in clips[video]:
                    out.append(frame)
        disk.append(folder / f"m{k}.zarr")
        held.append(MemoryStore(clips, CLASSES, model=f"m{k}", size=SIZE, frames=VIDEOS))
    return disk, held


@pytest.mark.parametrize("resize", ["probabilities", "logits"])
def test_the_same_bits_as_stores_on_disk(twins, resize):
    disk, held = (
        fusion.HierarchicalEnsemble(
            {"a": stores[1::-1], "b": stores[2:]}, {"b": 0.7}, resize=resize, temperatures={"m1": 2}
        )
        for stores in twins
    )
    assert held.temperatures == disk.temperatures == (1, 2, 1)
    for video in VIDEOS:
        assert np.array_equal(held.predict(video), disk.predict(video))
        assert np.array_equal(held.predict_proba(video), disk.predict_proba(video))
    again = pickle.loads(pickle.dumps(held))
    assert np.array_equal(again.predict("a"), disk.predict("a"))
    assert again.plan("a").bytes > disk.plan("a").bytes  # float32 is twice float16
    changed = held.regrouped({"c": held.groups["a"]})
    assert changed.temperatures == (1, 2)


def test_scores_and_searches_are_the_same_in_any_process(twins, tmp_path):
    disk, held = (fusion.HierarchicalEnsemble({"a": s[:2], "b": s[2:]}) for s in twins)
    draw = np.random.default_rng(9)
    for video in ("a",):
        for frame in VIDEOS[video]:
            target = np.where(
                draw.random(SIZE) < 0.6, disk.predict(video, [frame])[0], draw.integers(0, 5, SIZE)
            )
            write_labels(tmp_path / "labels" / video / f"{frame}.png", target.astype(np.uint8))
    truth = fusion.Labels.folder(tmp_path / "labels")
    expected = disk.evaluate(truth)
    for scheduler in ("threads", "processes"):
        found = held.evaluate(truth, scheduler=scheduler)
        assert np.array_equal(found.confusion, expected.confusion)
    how = {"method": "grid", "temperatures": "fit", "units": "frames", "folds": 2}
    with pytest.warns(UserWarning, match="temperature 4 is at the bound"):
        one, other = (e.search(truth, cache=tmp_path / "c", **how) for e in (disk, held))
    assert one.weights == other.weights
    assert one.miou == other.miou
    assert one.ensemble.temperatures == other.ensemble.temperatures
    assert other.miou == other.ensemble.evaluate(truth).miou


def test_saving_says_to_write_stores(twins, tmp_path):
    ensemble = fusion.HierarchicalEnsemble({"a": twins[1]})
    with pytest.raises(InputError, match=r"memory:m0-\w+: lies in memory.*write it with LogitW"):
        ensemble.save(tmp_path / "best.json")
    assert not list(tmp_path.iterdir())


def test_one_content_is_one_store_and_other_kinds_do_not_mix():
    array = np.zeros((1, 2, 3, 4), np.float32)
    array[0, 1, 0, 0] = 1
    one, same = MemoryStore(array, model="net"), MemoryStore(array, model="net")
    shared = fusion.HierarchicalEnsemble({"a": [one], "b": [same]})
    assert len(shared.stores) == 1
    with pytest.raises(InputError, match=r"store memory:net-\w+ stands in it twice"):
        fusion.HierarchicalEnsemble({"a": [one, same]})
    other = MemoryStore(array, values="sigmoid", model="mask")
    with pytest.raises(
        InputError, match=r"memory:mask-.*independent channels fuse with their like"
    ):
        fusion.HierarchicalEnsemble([one, other])
