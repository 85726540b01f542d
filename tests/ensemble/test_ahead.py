"""Reading ahead: the same numbers at every depth, within its bounds, and with a clean end."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest

import fusion
from fusion import overlap
from fusion.ensemble.ahead import batches
from fusion.errors import CorruptStoreError
from fusion.metrics.evaluation import VideoConfusion
from tests.ensemble.simulated import VIDEOS, make_store


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return [make_store(folder / f"m{k}.zarr", k, native=(6 + 6 * (k > 1), 8)) for k in range(3)]


@pytest.fixture
def ensemble(stores):
    return fusion.HierarchicalEnsemble({"a": stores[:2], "b": stores[2:]}, {"b": 0.7})


def planned(ensemble, frames, ahead):
    """An ensemble whose plans read so many frames at a time."""
    made = ensemble.regrouped(ensemble.groups, ensemble.weights)
    plan = made.plan
    made.plan = lambda *given: replace(plan(*given), frames=frames, ahead=ahead)
    return made


@pytest.mark.parametrize("frames", [1, 2, 16])
@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_the_same_bits_at_every_depth(ensemble, frames, ahead):
    other = planned(ensemble, frames, ahead)
    for video in VIDEOS:
        assert np.array_equal(other.predict(video), ensemble.predict(video))
        assert np.array_equal(other.predict_proba(video), ensemble.predict_proba(video))
        pairs = (made.native_means(video, VIDEOS[video]) for made in (other, ensemble))
        for (one, means), (two, expected) in zip(*pairs, strict=True):
            assert one == two
            assert np.array_equal(means, expected)


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_no_more_lies_in_memory_than_the_plan_says(ensemble, ahead):
    alive, most = weakref.WeakSet(), []

    class Counted:
        kernel_values, reads_ahead = "logits", True

        def codes(self, video, frames):
            made = np.zeros((len(frames), 1, 1, 1), np.uint8).view(Tracked)
            alive.add(made)
            most.append(len(alive))
            return made

    plan = replace(ensemble.plan("a"), frames=1, ahead=ahead)
    frames = [str(k) for k in range(12)]
    for _, codes in batches([Counted(), Counted()], "a", frames, plan):
        assert len(codes) == 2
    gc.collect()
    assert not alive
    assert max(most) <= 2 * (1 + ahead) + 1  # one is made before the one it replaces is dropped


class Tracked(np.ndarray):
    """An array that knows when it is gone."""

    __hash__ = object.__hash__


def test_damage_comes_out_as_it_was_found_and_nothing_goes_on(stores, tmp_path):
    make_store(tmp_path / "m.zarr", 5)
    shard = next(p for p in sorted((tmp_path / "m.zarr").rglob("a-*/c/*/*/*/*")) if p.is_file())
    content = bytearray(shard.read_bytes())
    content[20] ^= 255
    shard.write_bytes(content)
    ensemble = fusion.HierarchicalEnsemble([stores[0], tmp_path / "m.zarr"])
    with pytest.raises(CorruptStoreError, match=r"m\.zarr.*frame 'f1'"):
        planned(ensemble, 1, 2).predict("a")
    assert overlap._pool is not None
    assert overlap._pool._work_queue.empty()


def test_a_stream_that_is_left_early_reads_no_further(ensemble, monkeypatch):
    kind, read = type(ensemble.stores[0]), []
    codes = kind.codes

    def counted(store, video, frames):
        read.extend(frames)
        return codes(store, video, frames)

    monkeypatch.setattr(kind, "codes", counted)
    stream = planned(ensemble, 1, 1).stream("a")
    next(stream)
    stream.close()
    assert set(read) <= {"f1", "f2"}
    assert overlap._pool is not None
    assert overlap._pool._work_queue.empty()


def test_ground_truth_that_fails_names_its_frame(ensemble):
    class Truth:
        names = None

        def frames(self, video):
            return VIDEOS[video]

        def read(self, video, frame, classes):
            if frame == "f10":
                raise CorruptStoreError("labels: f10 is damaged")
            return np.zeros((24, 32), np.uint8)

    with pytest.raises(CorruptStoreError, match="f10 is damaged"):
        VideoConfusion(ensemble, Truth())("a")
