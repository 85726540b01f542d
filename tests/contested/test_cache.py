"""Condensed pixels on disk: the same numbers, or an error; damage, other processes, old formats."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from fusion import files
from fusion.contested import condense
from fusion.contested.cache import VERSION, CondensedCache, cache_folder
from fusion.errors import CorruptStoreError, StoreError
from fusion.metrics import miou
from fusion.stores.format import video_key
from tests.contested import damage
from tests.contested.cases import brute_force, probabilities, some_targets, some_weights

CLIPS = ("a", "../up", "b/c", ".hidden", "ünï")
NAMES = (["g0", "g1", "g2"], [f"c{c}" for c in range(5)])


def cached(path, means, targets, clips=CLIPS) -> CondensedCache:
    cache = CondensedCache(path, "digest", *NAMES)
    pixels = np.array_split(np.arange(means.shape[2]), len(CLIPS))
    for video, chunk in zip(CLIPS, pixels, strict=True):
        if video in clips:
            blocks = np.array_split(chunk, 3)  # a video comes in blocks
            cache.write(
                video,
                (
                    condense(np.ascontiguousarray(means[:, :, b]), targets[b], 5, ignore=255)
                    for b in blocks
                ),
            )
    return cache


def test_cache_gives_back_the_same_set_in_memory_and_streamed(tmp_path):
    means, targets = probabilities(3, 5, 4000, agree=1.0), some_targets(5, 4000)
    weights = some_weights(3)
    expected = np.stack([brute_force(means, targets, w) for w in weights])
    cache = cached(tmp_path / "c", means, targets)
    assert {entry.name for entry in tmp_path.iterdir()} == {"c"}
    whole, streamed = cache.load(CLIPS), cache.load(CLIPS, memory=60_000)
    assert whole.resident
    assert not streamed.resident
    assert len(list(streamed.batches())) > 5
    assert max(sum(run.nbytes for _, run in batch.runs) for batch in streamed.batches()) <= 15_000
    for condensed in (whole, streamed):
        assert np.array_equal(condensed.confusions(weights), expected)
        assert np.array_equal(condensed.confusion(weights[0]), whole.confusion(weights[0]))
        assert np.array_equal(condensed.miou(weights), miou(expected))
        assert condensed.subset(["b/c"]).contested == whole.subset(["b/c"]).contested > 0


def test_long_runs_are_checked_and_read_in_spans(tmp_path, monkeypatch):
    means, targets = probabilities(3, 5, 4000, agree=1.0), some_targets(5, 4000)
    whole = cached(tmp_path / "whole", means, targets).load(CLIPS)
    monkeypatch.setattr("fusion.contested.cache.SPAN", 1500)
    cut = cached(tmp_path / "cut", means, targets)
    (stored, *_) = cut.load(CLIPS, memory=0).pixels
    assert len(stored.spans) > 3 * len(whole.widths)
    assert max(span.nbytes(3) for span in stored.spans) <= 1500
    for memory in (0, 1 << 30):
        same = cut.load(CLIPS, memory)
        assert np.array_equal(same.confusions(some_weights(3)), whole.confusions(some_weights(3)))
        assert same.widths == whole.widths


def test_an_interrupted_build_goes_on(tmp_path, monkeypatch):
    means, targets = probabilities(3, 5, 1000), some_targets(5, 1000)
    cache = cached(tmp_path / "c", means, targets, clips=CLIPS[:2])

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(files, "publish", die)
        with pytest.raises(KeyboardInterrupt):
            cached(tmp_path / "c", means, targets, clips=CLIPS[2:3])
    assert cache.missing(CLIPS) == list(CLIPS[2:])
    assert list((tmp_path / "c" / files.STAGING).iterdir()) == []
    with pytest.raises(StoreError, match="3 videos are not condensed yet, first 'b/c'"):
        cache.load(CLIPS)
    again = cached(tmp_path / "c", means, targets, clips=CLIPS[1:])  # one of them a second time
    assert again.missing(CLIPS) == []
    found = again.load(CLIPS).confusions([[1, 1, 1]])[0]
    assert np.array_equal(found, brute_force(means, targets, [1, 1, 1]))


def test_cache_of_other_data_is_refused(tmp_path):
    CondensedCache(tmp_path / "c", "one", ["g"], ["x"])
    for other in (("two", ["g"], ["x"]), ("one", ["h"], ["x"]), ("one", ["g"], ["x", "y"])):
        with pytest.raises(StoreError, match=r"another (digest|groups|classes)"):
            CondensedCache(tmp_path / "c", *other)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be used"):
        CondensedCache(tmp_path / "file", "one", ["g"], ["x"])


def test_errors_of_the_pixels_keep_their_words(tmp_path):
    def blocks():
        raise CorruptStoreError("store: frame 3 is damaged")
        yield

    with pytest.raises(CorruptStoreError, match=r"^store: frame 3 is damaged$"):
        CondensedCache(tmp_path / "c", "one", ["g"], ["x"]).write("v", blocks())


@pytest.mark.parametrize("name", ["marker", "pixels"])
@pytest.mark.parametrize("harm", ["flip", "truncate", "delete"])
def test_damage_is_noticed(tmp_path, name, harm):
    cache = cached(tmp_path / "c", probabilities(3, 5, 2000, agree=1.0), some_targets(5, 2000))
    path = tmp_path / "c" / video_key("a") / name
    raw = bytearray(path.read_bytes())
    raw[3] ^= 16
    {
        "flip": lambda: path.write_bytes(raw),
        "truncate": lambda: path.write_bytes(raw[:-9]),
        "delete": path.unlink,
    }[harm]()
    with pytest.raises(CorruptStoreError, match=r"is damaged .*delete this folder and run again"):
        cache.load(CLIPS)
    with pytest.raises(CorruptStoreError, match="delete this folder"):
        cache.load(CLIPS, memory=60_000).confusions([[1, 1, 1]])


def test_no_damage_gives_other_numbers(tmp_path):
    found = damage.try_all(tmp_path, every=1009)
    assert sum(found.values()) > 1000
    assert set(found) == {"CorruptStoreError", "StoreError", "right"}
    assert found["CorruptStoreError"] > 20 * found["right"]


def test_damage_while_it_is_streamed(tmp_path):
    cache = damage.make(tmp_path / "c")
    condensed = cache.load(damage.VIDEOS, damage.STREAMED)
    path = tmp_path / "c" / video_key("a") / "pixels"
    os.truncate(path, 100)
    with pytest.raises(CorruptStoreError, match="delete this folder"):
        condensed.miou(damage.WEIGHTS)


def test_a_video_without_contested_pixels_on_disk(tmp_path):
    means, targets = np.full((3, 5, 50), 0.2, np.float32), np.ones(50, np.uint8)
    condensed = cached(tmp_path / "c", means, targets).load(CLIPS, memory=0)
    assert condensed.confusions([[1, 1, 1]])[0, 1, 0] == 50


# ---- several processes ----


def start_at_once(root: str, times: int, barrier) -> None:
    for turn in range(times):
        barrier.wait(60)
        damage.scores(Path(root) / str(turn), 1 << 30)


def spawned(target, *args) -> multiprocessing.Process:
    process = multiprocessing.get_context("spawn").Process(target=target, args=args)
    process.start()
    return process


def test_builds_that_start_at_once_agree(tmp_path):
    barrier = multiprocessing.get_context("spawn").Barrier(2)
    pair = [spawned(start_at_once, str(tmp_path), 20, barrier) for _ in range(2)]
    for process in pair:
        process.join(120)
    assert [process.exitcode for process in pair] == [0, 0]
    expected = damage.scores(tmp_path / "alone", 1 << 30)
    for turn in range(20):
        assert damage.scores(tmp_path / str(turn), 1 << 30) == expected


def build_for_ever(root: str) -> None:
    while True:
        path = Path(root) / str(random.getrandbits(64))
        damage.scores(path, 1 << 30)
        path.rename(Path(root) / f"done{path.name}")


def kill_and_look(root: Path, seconds: float) -> int:
    """Kills a builder some time after its first cache; how many folders lay in staging then."""
    root.mkdir()
    process = spawned(build_for_ever, str(root))
    while not list(root.glob("done*")):
        assert process.is_alive()
        time.sleep(0.01)
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    caches = [path for path in root.iterdir() if not path.name.startswith("done")]
    left = [entry for path in caches for entry in path.glob(f"{files.STAGING}/*")]
    expected = damage.scores(root / "alone", 1 << 30)
    for path in caches:
        assert damage.scores(path, 1 << 30) == expected
        assert list((path / files.STAGING).iterdir()) == []
    return len(left)


@pytest.mark.parametrize("turn", range(3))
def test_a_killed_build_is_swept_and_goes_on(tmp_path, turn):
    kill_and_look(tmp_path / "c", random.Random(turn).uniform(0, 0.05))


def test_the_work_of_the_dead_is_swept_and_that_of_the_living_stays(tmp_path):
    damage.make(tmp_path / "c")
    dead = tmp_path / "c" / files.STAGING / "dead" / "video"
    dead.mkdir(parents=True)
    (dead / "pixels").write_bytes(b"x" * 100)
    with files.staged(tmp_path / "c") as living:
        damage.make(tmp_path / "c")
        assert [entry.name for entry in (tmp_path / "c" / files.STAGING).iterdir()] == [living.name]
    assert list((tmp_path / "c" / files.STAGING).iterdir()) == []


# ---- older formats ----


@pytest.mark.parametrize("state", ["whole", "interrupted", "empty"])
def test_a_cache_of_version_1_is_built_again(tmp_path, capsys, state):
    digest = "0123456789abcdef" * 4
    old = tmp_path / digest[:16]
    old.mkdir()
    if state != "empty":
        (old / "zarr.json").write_text('{"attributes": {}}' if state == "interrupted" else "{}")
        (old / ".4711").mkdir()
        (old / video_key("a") / "000001").mkdir(parents=True)
    place = cache_folder(tmp_path, digest)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"{old}: condensed pixels in an older format; they are built again\n"
    assert not old.exists()
    assert place.name == f"{digest[:16]}.{VERSION}"
    assert len(damage.scores(place, 1 << 30)) > 0
    assert cache_folder(tmp_path, digest) == place
    assert capsys.readouterr().err == ""


def test_a_link_in_place_of_an_old_cache_is_left_alone(tmp_path, capsys):
    digest, far = "f" * 64, tmp_path / "far"
    far.mkdir()
    (far / "kept").write_text("x")
    (tmp_path / digest[:16]).symlink_to(far)
    cache_folder(tmp_path, digest)
    assert (tmp_path / digest[:16] / "kept").read_text() == "x"
    assert capsys.readouterr().err == ""
