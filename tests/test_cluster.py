"""Dask clusters: unfit workers are named, lost ones waited for, and nothing runs for nobody.

Workers that are killed: tests/faults/test_killed_workers.py.
"""

from __future__ import annotations

import json
import pickle
import socket
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from distributed import LocalCluster

import fusion
from fusion import cluster as clusters
from fusion import evaluate
from fusion.contested.build import condense_ensemble
from fusion.errors import FusionError, InputError, StoreError
from fusion.metrics.calibration import calibrate
from fusion.outputs import write
from fusion.parallel import map_videos
from fusion.search.temperatures import fit_each
from tests.samples import write_sample
from tests.test_parallel import VIDEOS, score

HERE = {"threads_per_worker": 1, "dashboard_address": ":0", "protocol": "tcp://"}
busy: dict[str, int] = {}
most: dict[str, int] = {}
lock = threading.Lock()


def slowly(video, folder=None, seconds=0.1):
    if folder is not None:
        (Path(folder) / video).touch()
    time.sleep(seconds)
    return score(video)


def counting(video):
    """The most videos that one worker had under way."""
    from distributed import get_worker

    worker = get_worker().address
    with lock:
        busy[worker] = busy.get(worker, 0) + 1
        most[worker] = max(most.get(worker, 0), busy[worker])
    time.sleep(0.05)
    with lock:
        busy[worker] -= 1
    return worker


class NotThere:
    """A task that cannot be opened anywhere else, as where a store is missing."""

    def __call__(self, video):
        return video

    def __reduce__(self):
        return _missing, ()


def _missing():
    raise StoreError("/data/net.zarr: no such store; check the path")


class NotReady:
    def ready(self):
        raise StoreError("/data/out: is not the folder that outputs go to")

    def __call__(self, video):
        return video


def test_a_worker_with_another_version_is_named(cluster, monkeypatch):
    monkeypatch.setattr(clusters, "__version__", "9.8.7")
    host = socket.gethostname()
    said = rf"the worker on {host} \(tcp://.*\) has segfusion {fusion.__version__}, this process "
    with pytest.raises(InputError, match=said + r"9\.8\.7; install 9\.8\.7 there"):
        map_videos(score, VIDEOS, scheduler=cluster)


def test_a_worker_without_the_library_is_named(cluster, monkeypatch):
    monkeypatch.setitem(sys.modules, "fusion.version", None)
    with pytest.raises(InputError, match=r"the worker on .* has no segfusion, this process"):
        map_videos(score, VIDEOS, scheduler=cluster)


@pytest.mark.parametrize(
    ("task", "what"), [(NotThere(), "/data/net.zarr: no such"), (NotReady(), "/data/out: is not")]
)
def test_a_worker_that_lacks_files_is_named_before_any_video(cluster, task, what):
    with pytest.raises(StoreError, match=f"cannot open what this process can: {what}") as caught:
        map_videos(task, VIDEOS, scheduler=cluster)
    assert f"the worker on {socket.gethostname()} (tcp://" in str(caught.value)
    assert "same file systems and packages, at the same paths" in str(caught.value)


def test_a_store_that_workers_do_not_see(cluster, tmp_path):
    ensemble = fusion.HierarchicalEnsemble.load(write_sample(tmp_path))
    (tmp_path / "net_1.zarr").rename(tmp_path / "elsewhere.zarr")
    with pytest.raises(StoreError, match=r"cannot open what this process can: .*net_1\.zarr"):
        ensemble.evaluate(fusion.Labels.folder(tmp_path / "labels"), scheduler=cluster)


@pytest.mark.parametrize("fit", [True, False])
def test_workers_that_come_later_are_waited_for_and_looked_at(fit, monkeypatch, capsys):
    if not fit:
        monkeypatch.setattr(clusters, "__version__", "9.8.7")
    with LocalCluster(n_workers=0, processes=False, **HERE) as running:
        timer = threading.Timer(0.3, running.scale, [1])
        timer.start()
        try:
            if fit:
                found = map_videos(score, VIDEOS, scheduler=running.scheduler_address)
                assert all(np.array_equal(found[video], score(video)) for video in VIDEOS)
            else:
                with pytest.raises(InputError, match=r"has segfusion .*, this process 9\.8\.7"):
                    map_videos(score, VIDEOS, scheduler=running.scheduler_address)
        finally:
            timer.join()
    assert "has no worker, waiting for one; Ctrl-C stops" in capsys.readouterr().err


def test_that_no_worker_is_left_is_said(monkeypatch, capsys):
    monkeypatch.setattr(clusters, "LOOK_SECONDS", 0.05)
    timers = []
    with LocalCluster(n_workers=1, processes=False, **HERE) as running:

        def leave(video, result):
            if not timers:
                running.scale(0)
                timers.append(threading.Timer(0.6, running.scale, [1]))
                timers[0].start()
            return result

        found = map_videos(slowly, VIDEOS, scheduler=running.scheduler_address, take=leave)
        timers[0].join()
    assert all(np.array_equal(found[video], score(video)) for video in VIDEOS)
    said = f"scheduler: {running.scheduler_address} has no worker, waiting for one; Ctrl-C stops\n"
    assert capsys.readouterr().err == said


def test_all_that_is_done_by_video_is_the_same(cluster, tmp_path, capsys):
    ensemble = fusion.HierarchicalEnsemble.load(write_sample(tmp_path))
    truth = fusion.Labels.folder(tmp_path / "labels")
    write(ensemble, tmp_path / "maps")
    command = ["--predictions", str(tmp_path / "maps"), "--labels", str(tmp_path / "labels")]
    (tmp_path / "names.json").write_text(json.dumps(list(ensemble.classes)))
    command += ["--classes", str(tmp_path / "names.json"), "--json"]

    def everything(place):
        scores = ensemble.evaluate(truth, scheduler=place)
        matrices = [scores.confusions[video].tolist() for video in ensemble.videos]
        fits = fit_each(ensemble, truth, stride=1, scheduler=place)
        calibrated = calibrate(ensemble, truth, scheduler=place).to_json()
        found = ensemble.search(truth, "grid", cache=tmp_path / place[:3], scheduler=place)
        pixels = condense_ensemble(ensemble, truth, scheduler=place).confusion([1.0, 0.3])
        assert evaluate.main([*command, "--scheduler", place]) == 0
        said = capsys.readouterr().out
        return matrices, fits, calibrated, found.history, found.miou, pixels.tolist(), said

    assert everything(cluster) == everything("synchronous") == everything("threads")


def test_a_worker_that_does_not_see_the_cache(cluster, tmp_path, monkeypatch):
    ensemble = fusion.HierarchicalEnsemble.load(write_sample(tmp_path))
    truth = fusion.Labels.folder(tmp_path / "labels")
    packed = clusters._packed

    def elsewhere(value):
        (marker,) = (tmp_path / "cache").glob("*/marker*")
        marker.unlink()
        return packed(value)

    monkeypatch.setattr(clusters, "_packed", elsewhere)
    with pytest.raises(StoreError, match=r"cannot open what this process can: .*cache"):
        condense_ensemble(ensemble, truth, scheduler=cluster, cache=tmp_path / "cache")


def test_ctrl_c_cancels_what_waits(cluster, tmp_path):
    def stop(video, result):
        raise KeyboardInterrupt

    videos = [f"{n}" for n in range(60)]
    task = partial(slowly, folder=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        map_videos(task, videos, scheduler=cluster, take=stop)
    time.sleep(0.3)
    begun = len(list(tmp_path.iterdir()))
    time.sleep(0.4)
    assert len(list(tmp_path.iterdir())) == begun < 30


def test_a_cluster_that_is_gone_keeps_what_was_committed(tmp_path):
    ensemble = fusion.HierarchicalEnsemble.load(write_sample(tmp_path))
    write(ensemble, tmp_path / "clean")
    with LocalCluster(n_workers=1, processes=False, **HERE) as running:

        def closing(items, description, total):
            for step, item in enumerate(items):
                if step == 1:  # the first of three videos is there
                    running.close()
                yield item

        how = {"scheduler": running.scheduler_address, "progress": closing}
        with pytest.raises(FusionError, match=r"is gone, video .* were under way; what was commi"):
            write(ensemble, tmp_path / "out", **how)
    assert (tmp_path / "out" / "a" / "0.png").exists()
    written = write(ensemble, tmp_path / "out", scheduler="threads", resume=True)
    assert written.frames < 6
    for path in (tmp_path / "clean").rglob("*.*"):
        assert (tmp_path / "out" / path.relative_to(tmp_path / "clean")).read_bytes() == (
            path.read_bytes()
        )


def test_a_gpu_works_on_one_video_at_a_time():
    most.clear()
    gpus = {**HERE, "threads_per_worker": 3, "resources": {"GPU": 1}}
    with LocalCluster(n_workers=2, processes=False, **gpus) as running:
        videos = [f"{n}" for n in range(12)]
        map_videos(counting, videos, scheduler=running.scheduler_address)
    assert set(most.values()) == {1}


def test_a_worker_picks_its_own_device(tmp_path, monkeypatch):
    ensemble = fusion.HierarchicalEnsemble.load(write_sample(tmp_path))
    fixed = fusion.HierarchicalEnsemble.load(tmp_path / "ensemble.toml", device="cpu")
    sent = pickle.dumps([ensemble, ensemble.singles(), fixed])
    assert [each.device.type for each in pickle.loads(sent)] == ["cpu"] * 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # as where there is a GPU
    assert [each.device.type for each in pickle.loads(sent)] == ["cuda", "cuda", "cpu"]


def test_relative_paths_mean_the_same_on_workers(tmp_path, monkeypatch):
    write_sample(tmp_path)
    monkeypatch.chdir(tmp_path)
    temperatures = {"net_0.zarr": 2.0}
    ensemble = fusion.HierarchicalEnsemble("net_*.zarr", temperatures=temperatures)
    truth = fusion.Labels.folder("labels")
    sent = clusters._packed((ensemble, truth))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    again, labels = pickle.loads(sent)
    assert again.temperatures == ensemble.temperatures == (2.0, 1.0, 1.0, 1.0)
    assert labels.root == tmp_path / "labels"
    assert (
        again.evaluate(labels).miou
        == fusion.HierarchicalEnsemble(
            str(tmp_path / "net_*.zarr"), temperatures={str(tmp_path / "net_0.zarr"): 2.0}
        )
        .evaluate(labels)
        .miou
    )


def test_scheduler_files(cluster, tmp_path):
    path = tmp_path / "scheduler.json"
    with pytest.raises(InputError, match=r"scheduler.json is no scheduler file .*No such file"):
        map_videos(score, VIDEOS, scheduler=str(path))
    path.write_text("{}")
    with pytest.raises(InputError, match=r"is no scheduler file .*address"):
        map_videos(score, VIDEOS, scheduler=str(path))
    path.write_text('{"address": ' + "[" * 10**5)
    with pytest.raises(InputError, match=r"is no scheduler file \(nested deeper than 64 levels\)"):
        map_videos(score, VIDEOS, scheduler=str(path))
    path.write_text(json.dumps({"address": cluster}))
    found = map_videos(score, VIDEOS, scheduler=str(path))
    assert np.array_equal(found["video_1"], score("video_1"))


def test_tls_without_keys_is_told():
    with pytest.raises(InputError, match=r"cannot reach tls://127.0.0.1:1 \(.*TLS"):
        map_videos(score, VIDEOS, scheduler="tls://127.0.0.1:1")


def test_outputs_go_nowhere_but_to_the_shared_folder(cluster, tmp_path, monkeypatch):
    """A worker on which the folder is another one: it has no record of this run."""
    from fusion.outputs import run

    ensemble = fusion.HierarchicalEnsemble.load(write_sample(tmp_path))
    monkeypatch.setattr(run, "add_to_record", lambda *_: None)
    with pytest.raises(StoreError, match=r"out: is not the folder that outputs go to"):
        write(ensemble, tmp_path / "out", scheduler=cluster)
    assert list((tmp_path / "out").iterdir()) == []
