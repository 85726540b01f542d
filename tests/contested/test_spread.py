"""Sweeps on workers: the counts of this process, bit for bit, whoever counted which videos."""

from __future__ import annotations

from dataclasses import replace

import dask
import numpy as np
import pytest
from distributed import LocalCluster

from fusion.contested import condense, spread
from fusion.contested.cache import CondensedCache, ReadPixels
from fusion.contested.pixels import Condensed
from fusion.errors import StoreError
from fusion.metrics import miou
from fusion.parallel import map_videos
from tests.contested.cases import brute_force, probabilities, some_targets, some_weights

CLIPS = [f"clip{k}" for k in range(7)]
NAMES = (["g0", "g1", "g2"], [f"c{c}" for c in range(5)])
MEANS, TARGETS = probabilities(3, 5, 2100, agree=1.0), some_targets(5, 2100)
WEIGHTS = some_weights(3)


def filled(path, reach: float = 1.0) -> CondensedCache:
    made = CondensedCache(path, "digest", *NAMES)
    for video, some in zip(CLIPS, np.split(np.arange(2100), 7), strict=True):
        means = np.ascontiguousarray(MEANS[:, :, some])
        made.write(video, [condense(means, TARGETS[some], 5, ignore=255, reach=reach)])
    return made


@pytest.fixture
def cache(tmp_path):
    return filled(tmp_path / "c")


@pytest.fixture(params=["synchronous", "threads", "processes", "cluster of 1", "cluster of 3"])
def scheduler(request, monkeypatch):
    """Schedulers of one worker and of several; parts of two videos, however short the sweep."""
    monkeypatch.setattr(spread, "LEAST", 0)
    monkeypatch.setattr(spread, "FEWEST_PARTS", 3)
    if not request.param.startswith("cluster"):
        with dask.config.set(num_workers=2):
            yield request.param
        return
    how = {"threads_per_worker": 1, "dashboard_address": ":0", "protocol": "tcp://"}
    with LocalCluster(n_workers=int(request.param[-1]), processes=False, **how) as cluster:
        yield cluster.scheduler_address


def test_every_scheduler_gives_the_counts_of_the_brute_force(cache, scheduler, monkeypatch):
    asked: list[str] = []
    honest = spread.map_videos

    def noted(task, parts, **how):
        asked.extend(parts)
        return honest(task, parts, **how)

    monkeypatch.setattr(spread, "map_videos", noted)
    expected = np.stack([brute_force(MEANS, TARGETS, w) for w in WEIGHTS])
    for memory in (1 << 30, 60_000):  # in memory, and streamed
        here = cache.load(CLIPS, memory)
        there = replace(here, scheduler=scheduler)
        assert np.array_equal(there.confusions(WEIGHTS), expected)
        if scheduler == "processes" and memory == 60_000:
            break  # they are slow to start
        assert np.array_equal(there.miou(WEIGHTS), miou(expected))
        assert np.array_equal(there.statistics(WEIGHTS), here.statistics(WEIGHTS))
        assert np.array_equal(there.confusion(WEIGHTS[0]), here.confusion(WEIGHTS[0]))
        some = there.subset(CLIPS[5:1:-1])  # in another order
        assert np.array_equal(some.statistics(WEIGHTS), here.statistics(WEIGHTS)[5:1:-1])
    spread_out = ["videos 0 to 1", "videos 2 to 3", "videos 4 to 5", "videos 6 to 7"]
    assert asked[:4] == ([] if scheduler == "threads" else spread_out)


def test_multipliers_are_counted_there_as_here(tmp_path, monkeypatch):
    monkeypatch.setattr(spread, "LEAST", 0)
    here = replace(filled(tmp_path / "wide", reach=2.0).load(CLIPS), reach=2.0)
    there, sent = replace(here, scheduler="synchronous"), []
    monkeypatch.setattr(spread, "map_videos", lambda *a, **how: sent.append(map_videos(*a, **how)))
    factors = np.random.default_rng(0).uniform(0.5, 2, (len(WEIGHTS), 5))
    assert np.array_equal(there.confusions(WEIGHTS, factors), here.confusions(WEIGHTS, factors))
    assert len(sent) == 1


def test_short_sweeps_threads_and_what_lies_in_memory_stay_here(cache, monkeypatch):
    here, sweep = (
        cache.load(CLIPS),
        spread.Sweep({}, np.ones((4, 3), np.float32), None, True, False),
    )
    assert not spread.pays(replace(here, scheduler="processes"), sweep)
    monkeypatch.setattr(spread, "LEAST", here.candidates * 4)
    assert spread.pays(replace(here, scheduler="processes"), sweep)
    assert not spread.pays(here, sweep)
    assert not spread.pays(replace(here, scheduler="processes").fused([1, 2, 3]), sweep)


def test_pixels_on_a_disk_travel_as_their_place(cache, tmp_path):
    whole: Condensed = cache.load(CLIPS)
    (first, *_) = whole.pixels
    assert isinstance(first, ReadPixels)
    assert not first.shipped.resident
    task = spread.Sweep({"a": replace(whole, pixels=(first.shipped,))}, WEIGHTS, None, True, False)
    task.ready()
    (tmp_path / "c" / first.shipped.path.name / "marker").unlink()
    with pytest.raises(StoreError, match="is damaged"):
        task.ready()
