"""map_videos: every scheduler returns the same bits; failures name their video."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fusion.errors import FusionError, InputError, StoreError
from fusion.metrics import Scores, confusion, map_videos

VIDEOS = [f"video_{i}" for i in range(5)]


def score(video, seed=0):
    rng = np.random.default_rng([seed, *video.encode()])
    return confusion(rng.integers(0, 4, (6, 7)), rng.integers(0, 4, (6, 7)), 4)


def fail(video):
    if video == "video_3":
        raise KeyError("no such layer")
    return video


def fail_politely(video):
    raise StoreError(f"chunk of {video!r} is gone")


def die(video, folder, times):
    """Kills its process at one video, as often as told."""
    if video == "video_2":
        deaths = len(list(Path(folder).iterdir()))
        if deaths < times:
            (Path(folder) / str(deaths)).touch()
            os._exit(9)
    return video


@pytest.fixture(params=["threads", "processes", "synchronous", "cluster"])
def scheduler(request):
    return request.getfixturevalue("cluster") if request.param == "cluster" else request.param


def test_every_scheduler_gives_the_same(scheduler):
    names = ["a", "b", "c", "d"]
    expected = {video: score(video, 3) for video in VIDEOS}
    for videos in (VIDEOS[::-1], VIDEOS[:1], []):
        found = map_videos(partial(score, seed=3), videos, scheduler=scheduler)
        assert list(found) == videos
        for video in videos:
            np.testing.assert_array_equal(found[video], expected[video])
        if videos:
            assert (
                Scores(found, names).miou
                == Scores({video: expected[video] for video in sorted(videos)}, names).miou
            )


def test_videos_are_done_in_the_order_given():
    seen = []
    map_videos(seen.append, [f"{n}" for n in range(12)], scheduler="synchronous")
    assert seen == [f"{n}" for n in range(12)]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_number_of_workers_changes_nothing(workers):
    import dask

    with dask.config.set(num_workers=workers):
        found = map_videos(score, VIDEOS)
    for video in VIDEOS:
        np.testing.assert_array_equal(found[video], score(video))


def test_a_failing_task_names_its_video(scheduler):
    with pytest.raises(FusionError) as caught:
        map_videos(fail, VIDEOS, scheduler=scheduler)
    assert str(caught.value) == "video 'video_3': KeyError: 'no such layer'"
    assert any("in fail" in note for note in caught.value.__notes__)


def test_a_library_error_keeps_its_type(scheduler):
    with pytest.raises(StoreError) as caught:
        map_videos(fail_politely, VIDEOS[:1], scheduler=scheduler)
    assert str(caught.value) == "chunk of 'video_0' is gone"


def test_a_worker_that_dies_once_is_forgiven(tmp_path):
    found = map_videos(partial(die, folder=tmp_path, times=2), VIDEOS[:3], scheduler="processes")
    assert found == {video: video for video in VIDEOS[:3]}
    assert len(list(tmp_path.iterdir())) == 2


def test_a_video_that_kills_its_worker_is_named(tmp_path):
    with pytest.raises(FusionError, match="video 'video_2': its worker process died 3 times"):
        map_videos(partial(die, folder=tmp_path, times=99), VIDEOS, scheduler="processes")


def test_progress_goes_to_stderr():
    code = (
        "import time; from fusion.metrics import map_videos; "
        "map_videos(lambda _: time.sleep(0.2), list('abcde'), scheduler='synchronous', progress={})"
    )
    shown = {k: v for k, v in os.environ.items() if k != "TQDM_DISABLE"}  # conftest turns bars off
    how = {"capture_output": True, "text": True, "check": True, "env": shown}
    done = subprocess.run([sys.executable, "-c", code.format("'scoring'")], **how)
    assert done.stdout == ""
    assert "scoring" in done.stderr
    assert "5/5" in done.stderr
    assert "video" in done.stderr
    quiet = subprocess.run([sys.executable, "-c", code.format(None)], **how)
    assert (quiet.stdout, quiet.stderr) == ("", "")


def test_refusals(monkeypatch):
    with pytest.raises(InputError, match="'video_0' is there twice"):
        map_videos(score, ["video_0", "b", "video_0"])
    with pytest.raises(InputError, match="scheduler: got 'thread'; choose one of threads"):
        map_videos(score, VIDEOS, scheduler="thread")
    monkeypatch.setattr("fusion.cluster.CONNECT_SECONDS", 0.3)
    with pytest.raises(InputError, match=r"cannot reach tcp://127.0.0.1:1"):
        map_videos(score, VIDEOS, scheduler="tcp://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match="needs the package distributed"):
        map_videos(score, VIDEOS, scheduler="tcp://127.0.0.1:1")


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_two_threads_do_not_mix_their_results(scheduler):
    """Found by tests/faults/test_cache_machine.py: Dask's callbacks are the whole process's."""

    def slowly(video, who):
        time.sleep(0.005)
        return who, video

    def run(who):
        for _ in range(5):
            found = map_videos(partial(slowly, who=who), VIDEOS, scheduler=scheduler)
            assert found == {video: (who, video) for video in VIDEOS}

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(run, range(3)))
