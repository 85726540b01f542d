"""Reading ahead: the same numbers at every depth, within its bounds, and with a clean end."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

import fusion
from fusion import kernels, overlap
from fusion.ensemble.ahead import batches
from fusion.ensemble.plan import make_plan
from fusion.errors import CorruptStoreError
from fusion.kernels.native import pool
from fusion.memory import BudgetError
from fusion.metrics.evaluation import VideoConfusion
from tests.ensemble.simulated import VIDEOS, make_store


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return [make_store(folder / f"m{k}.zarr", k, native=(6 + 6 * (k > 1), 8)) for k in range(3)]


@pytest.fixture
def ensemble(stores):
    return fusion.HierarchicalEnsemble({"a": stores[:2], "b": stores[2:]}, {"b": 0.7})


def planned(ensemble, frames, ahead, aside=0):
    """An ensemble whose plans read so many frames at a time, or fuse so many in every thread."""
    made = ensemble.regrouped(ensemble.groups, ensemble.weights)
    plan = made.plan
    made.plan = lambda *given: replace(plan(*given), frames=frames, ahead=ahead, aside=aside)
    return made


@pytest.mark.parametrize("frames", [1, 2, 16])
@pytest.mark.parametrize(("ahead", "aside"), [(0, 0), (1, 0), (3, 0), (0, 1), (1, 3), (0, 16)])
def test_the_same_bits_at_every_depth(ensemble, frames, ahead, aside):
    other = planned(ensemble, frames, ahead, aside)
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


def test_small_frames_are_fused_side_by_side_where_all_of_them_fit(ensemble):
    plan = make_plan([(5, 6, 8)] * 3, [1] * 3, 2, (24, 32), ("labels",), 10**9, 1, threads=4)
    assert plan.aside == plan.frames == 16
    frame, each = 3 * 240, 2 * 5 * 48 * 4 + 24 * 2 * 32 * 4
    tight = 4 * (2 * frame + each)
    plan = make_plan([(5, 6, 8)] * 3, [1] * 3, 2, (24, 32), ("labels",), tight, 1, threads=4)
    assert (plan.aside, plan.bytes) == (2, tight)
    tight = 4 * (frame + each) - 1
    plan = make_plan([(5, 6, 8)] * 3, [1] * 3, 2, (24, 32), ("labels",), tight, 1, threads=4)
    assert plan.aside == 0
    assert ensemble.plan("a", ("probabilities",)).aside == 0  # too large to wait for their turn


def test_what_servers_answer_is_part_of_a_plan():
    """Least 1000 bytes in the air, a quarter read ahead, and less where the budget ends first."""
    given = [(5, 6, 8)] * 3, [1] * 3, 2, (24, 32), ("labels",)
    plain = make_plan(*given, 10**9, 2)
    assert plain.remote is None
    ample = make_plan(*given, 10**9, 2, remote=1000)
    assert ample.remote == 10**9 // 2 // 4 - 1000
    assert ample.bytes == plain.bytes + 10**9 // 2 // 4
    assert make_plan(*given, 10**12, 2, remote=1000).remote == (2 << 30) // 8 - 1000
    with pytest.raises(BudgetError, match="beside what servers answer needs") as refused:
        make_plan(*given, 1000, 2, remote=1000)
    least = make_plan(*given, refused.value.least, 2, remote=1000)
    assert (least.remote, least.bytes) == (0, refused.value.least // 2)
    with pytest.raises(BudgetError):
        make_plan(*given, refused.value.least - 1, 2, remote=1000)


@pytest.mark.parametrize("aside", [0, 2])
def test_a_thread_that_fuses_by_itself_leaves_the_other_pool_alone(ensemble, monkeypatch, aside):
    fuse, seen = kernels.upsample_softmax_average, set()

    def watched(*given, **how):
        seen.add(pool.workers())
        return fuse(*given, **how)

    monkeypatch.setattr(kernels, "upsample_softmax_average", watched)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    planned(ensemble, 1, 0, aside).predict("a")
    assert seen == {1 if aside else 7}
    assert pool.workers() == 7


@pytest.mark.parametrize("aside", [0, 1])
def test_damage_comes_out_as_it_was_found_and_nothing_goes_on(stores, tmp_path, aside):
    make_store(tmp_path / "m.zarr", 5)
    shard = next(p for p in sorted((tmp_path / "m.zarr").rglob("a-*/c/*/*/*/*")) if p.is_file())
    content = bytearray(shard.read_bytes())
    content[20] ^= 255
    shard.write_bytes(content)
    ensemble = fusion.HierarchicalEnsemble([stores[0], tmp_path / "m.zarr"])
    with pytest.raises(CorruptStoreError, match=r"m\.zarr.*frame 'f1'"):
        planned(ensemble, 1, 2, aside).predict("a")
    assert overlap._pool is not None
    assert overlap._pool._work_queue.empty()


@pytest.mark.parametrize("aside", [0, 1])
def test_a_stream_that_is_left_early_reads_no_further(ensemble, monkeypatch, aside):
    kind, read = type(ensemble.stores[0]), []
    codes = kind.codes

    def counted(store, video, frames):
        read.extend(frames)
        return codes(store, video, frames)

    monkeypatch.setattr(kind, "codes", counted)
    stream = planned(ensemble, 1, 1, aside).stream("a")
    next(stream)
    stream.close()
    begun = 1 + (overlap.threads() if aside else 1)
    assert set(read) <= set(VIDEOS["a"][:begun])
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
