"""Looking after stores: gc as a function, and info, verify and gc on the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fusion import files
from fusion.files import STAGING
from fusion.stores import LogitStore, LogitWriter
from fusion.stores import video_writer as writing
from fusion.stores.maintenance import gc
from tests.stores.common import CLASSES, CLIP, pixels, run, staging, tree


def dead_writer(path: Path, name: str, age: float, *, lock: bool = True) -> Path:
    folder = path / STAGING / name
    (folder / "video").mkdir(parents=True)
    (folder / "video" / "chunk").write_bytes(b"x" * 1000)
    if lock:
        (folder / "lock").touch()
    moment = folder.stat().st_mtime - age
    os.utime(folder, (moment, moment))
    return folder


def test_gc_takes_old_work_of_dead_writers_alone(store_of, monkeypatch):
    path = store_of({"v": CLIP})
    before = pixels(path)
    dead_writer(path, "old", 7200)
    dead_writer(path, "old and lockless", 7200, lock=False)
    dead_writer(path, "young", 60)
    dead_writer(path, "from the future", -7200)
    old = ["from the future", "old", "old and lockless"]
    monkeypatch.setattr(writing, "MAX_SHARD_BYTES", 1)  # every frame is on disk at once
    with LogitWriter(path, CLASSES).video("living", frames=["0", "1"]) as out:
        out.append(CLIP[0])
        (living,) = set(staging(path)) - {*old, "young"}
        os.utime(path / STAGING / living, (0, 0))
        assert gc(path, dry_run=True) == [(name, 1000) for name in old]
        assert len(staging(path)) == 5
        assert [name for name, _ in gc(path)] == old
        assert set(staging(path)) == {"young", living}
        out.append(CLIP[1])
    assert [name for name, _ in gc(path, age=0)] == ["young"]
    assert gc(path) == []
    assert LogitStore(path).videos == ("living", "v")
    assert {name: data for name, data in pixels(path).items() if "living" not in name} == before


def test_gc_works_beside_damage_and_follows_no_link(store_of, tmp_path):
    path = store_of({"v": CLIP})
    next(path.glob("v-*/commit.json")).write_text("{}")
    outside = dead_writer(tmp_path / "elsewhere", "precious", 7200)
    (path / STAGING).mkdir(exist_ok=True)
    (path / STAGING / "link").symlink_to(outside)
    dead_writer(path, "old", 7200)
    assert [name for name, _ in gc(path)] == ["old"]
    assert (outside / "video" / "chunk").exists()


def test_gc_beside_a_writer_that_finishes_just_then(store_of, monkeypatch):
    path = store_of({"v": CLIP})
    folder = dead_writer(path, "old", 7200)

    def finish(_: Path) -> list:
        folder.rename(path / "gone")
        return []

    monkeypatch.setattr(files.os, "walk", finish)
    assert gc(path) == []
    assert (path / "gone" / "video" / "chunk").exists()


def words(text: str) -> list[str]:
    return text.split()


def test_info(store_of, capsys):
    one = store_of({"v": CLIP, "w": CLIP}, name="one.zarr", provenance={"seed": 1})
    two = store_of({"v": CLIP[:, :, :2]}, name="two.zarr", profile="exact")
    code, out, err = run(capsys, "info", one, two)
    assert (code, err) == (0, "")
    header, _, first, second = out.splitlines()
    assert header.split()[:7] == words("store profile values classes videos frames shape")
    assert first.split()[:9] == words("one.zarr compact logits 4 2 6 5x6 for 5x6")
    assert second.split()[:9] == words("two.zarr exact logits 4 1 3 2x6 for 2x6")
    code, out, _ = run(capsys, "info", "--json", one, two)
    rows = json.loads(out)
    assert code == 0
    assert [row["frames"] for row in rows] == [6, 3]
    assert rows[0]["bytes"] == sum(len(data) for data in tree(one).values())
    assert rows[0]["float16_bytes"] == 2 * 2 * CLIP.size
    assert rows[0]["provenance"] == {"seed": 1}
    assert rows[0]["digest"] == LogitStore(one).digest()


def test_verify_lists_every_damaged_video(store_of, capsys):
    path = store_of(dict.fromkeys("abcdef", CLIP))
    folder = {name: next(path.glob(f"{name}-*")) for name in "abcdef"}
    (folder["a"] / "c/0/0/0/0").unlink()
    (folder["b"] / "commit.json").write_text("null")
    data = bytearray((folder["d"] / "c/0/0/0/0").read_bytes())
    data[40] ^= 1
    (folder["d"] / "c/0/0/0/0").write_bytes(data)
    folder["e"].rename(path / "elsewhere")
    folder["e"].symlink_to("elsewhere")
    code, out, err = run(capsys, "verify", path)
    assert code == 2
    # the link and what it points to are both refused
    assert out == "7 videos, 6 frames read, 5 videos damaged\n"
    assert len(err.splitlines()) == 5
    assert all(line.startswith("error: ") for line in err.splitlines())
    for name in "abde":
        assert folder[name].name in err or f"video '{name}'" in err
    code, out, _ = run(capsys, "verify", "--json", path)
    rows = json.loads(out)
    assert code == 2
    assert {row["folder"][0] for row in rows if row["problem"] is None} == {"c", "f"}
    assert [row["frames"] for row in rows if row["problem"] is None] == [3, 3]


def test_verify_of_sound_stores(store_of, capsys):
    one, two = store_of({"v": CLIP}, name="1"), store_of({"v": CLIP, "w": CLIP}, name="2")
    assert run(capsys, "verify", one, two)[:2] == (0, "3 videos, 9 frames read, 0 videos damaged\n")


def test_gc_command(store_of, capsys):
    path = store_of({"v": CLIP})
    folder = dead_writer(path, "old", 7200)
    assert run(capsys, "gc", "--dry-run", path) == (0, f"{path}: would remove old (1 KB)\n", "")
    assert folder.exists()
    assert run(capsys, "gc", "--age", 9000, path) == (0, "", "")
    assert run(capsys, "gc", path) == (0, f"{path}: removed old (1 KB)\n", "")
    assert not folder.exists()


@pytest.mark.parametrize("command", ["info", "verify", "gc"])
def test_a_missing_store_is_one_line_and_code_2(tmp_path, capsys, command):
    code, out, err = run(capsys, command, tmp_path / "none")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {tmp_path}/none: no such logit store")
    assert err.count("\n") == 1


def test_the_program(store_of, tmp_path):
    path = store_of({"v": CLIP})
    shell = [sys.executable, "-m", "fusion.stores"]
    how = {"cwd": Path(__file__).parents[2], "capture_output": True, "text": True, "timeout": 60}
    done = subprocess.run([*shell, "verify", path], check=False, **how)
    sound = "1 videos, 3 frames read, 0 videos damaged\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, sound, "")
    done = subprocess.run([*shell, "info", tmp_path / "none"], check=False, **how)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: ")
