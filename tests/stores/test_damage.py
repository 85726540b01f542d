"""Damaged and hostile bytes: a store gives the numbers that were written, or one error."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr
from numcodecs import zstd

from fusion.errors import StoreError
from fusion.stores import LogitStore
from fusion.stores.maintenance import verify
from tests.stores.common import (
    SHARD,
    contents,
    folder_of,
    place,
    problems,
    refused,
    shard_of,
    write,
)
from tests.stores.common import TINY as CLIP


def files_of(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("profile", "how"),
    [
        ("compact", {}),
        ("exact", {"shard_frames": 1}),
        ("compact", {"packed": True}),
        ("exact", {"packed": True}),
    ],
)
def test_a_flipped_bit_anywhere_is_noticed(tmp_path, profile, how):
    path = write(tmp_path / "s.zarr", {"v": CLIP}, profile=profile, **how)
    clean = contents(path)
    unnoticed = []
    for file in files_of(path):
        data = bytearray(file.read_bytes())
        metadata = file.suffix == ".json"
        for position in range(0, len(data), 3 if metadata else 1):
            data[position] ^= 1 << position % 8
            file.write_bytes(data)
            try:
                if contents(path) != clean:
                    unnoticed.append((file.name, position))
            except StoreError as error:
                if not metadata and "video 'v'" not in str(error):
                    unnoticed.append((file.name, position))
            data[position] ^= 1 << position % 8
        file.write_bytes(data)
    assert unnoticed == []
    assert contents(path) == clean


def test_a_chunk_cut_anywhere_is_noticed(store):
    for file in files_of(store):
        data = file.read_bytes()
        for length in sorted(
            {0, 1, len(data) // 2, *range(0, len(data), 37), len(data) - 2, len(data) - 1}
        ):
            file.write_bytes(data[:length])
            refused(store)
        file.write_bytes(data)
    contents(store)


@pytest.mark.parametrize("garbage", [b"\0", b"x" * 50, b"\0" * 5000])
def test_garbage_at_the_end_is_noticed(store, garbage):
    for file in files_of(store):
        data = file.read_bytes()
        file.write_bytes(data + garbage)
        refused(store)
        file.write_bytes(data)


def test_a_missing_chunk_is_noticed(tmp_path):
    path = write(tmp_path / "s.zarr", {"v": CLIP, "w": CLIP}, shard_frames=1)
    (folder_of(path) / "c/1/0/0/0").unlink()
    refused(path, naming="video 'v': ")
    assert LogitStore(path).codes("v", ["0", "2"]).shape == (2, 4, 3, 5)
    assert LogitStore(path).codes("w").shape == (3, 4, 3, 5)
    assert zarr.open_array(folder_of(path), mode="r")[1].min() == 255  # what plain zarr makes of it


def test_swapped_frames_are_noticed(tmp_path):
    path = write(tmp_path / "s.zarr", {"v": CLIP}, shard_frames=1)
    one, two = folder_of(path) / SHARD, folder_of(path) / "c/2/0/0/0"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    refused(path, naming="video 'v', frame '0': crc32c differs")


def test_frames_swapped_inside_a_shard_are_noticed(store):
    chunk = shard_of(store)
    rewrite_index(chunk, lambda index: index[[0, 2, 1]])
    refused(store, naming="video 'v', frame '1': crc32c differs")
    assert len(LogitStore(store).codes("v", ["0"])) == 1


def test_a_neighbours_chunk_is_noticed(tmp_path):
    path = write(tmp_path / "s.zarr", {"v": CLIP, "w": CLIP[::-1]})
    shutil.copy(folder_of(path, "w") / SHARD, folder_of(path) / SHARD)
    refused(path, naming="video 'v', frame '0': crc32c differs")


def test_a_video_under_another_name_or_in_another_store_is_noticed(tmp_path):
    path = write(tmp_path / "s.zarr", {"v": CLIP, "w": CLIP * 2})
    shutil.copytree(folder_of(path), path / "v-backup")
    assert "holds video 'v', whose folder is" in refused(path)
    shutil.rmtree(path / "v-backup")
    other = write(tmp_path / "other.zarr", {"v": CLIP})
    shutil.copytree(folder_of(path, "w"), folder_of(other, "w"))
    assert "zarr.json: not the file that was committed" in refused(other)


# --- hostile chunks


def rewrite_index(
    chunk: Path, change: Callable[[np.ndarray], np.ndarray], *, rows: int = 3
) -> None:
    data = chunk.read_bytes()
    index = np.frombuffer(data[-rows * 16 - 4 : -4], "<u8").reshape(rows, 2)
    replace_chunk(chunk, data[: -rows * 16 - 4], change(index.copy()))


def replace_chunk(chunk: Path, body: bytes, index: np.ndarray) -> None:
    tail = index.astype("<u8").tobytes()
    chunk.write_bytes(body + tail + google_crc32c.value(tail).to_bytes(4, "little"))


HONEST = zstd.compress(bytes(60), 3)
GIANT = zstd.compress(bytes(64 << 20), 3)  # 2 KB
assert GIANT[6:10] == (64 << 20).to_bytes(
    4, "little"
)  # the content size, behind the flags and the window
HOSTILE = {
    "64 MiB, and says so": GIANT,
    "64 MiB that claim 60 bytes": GIANT[:6] + (60).to_bytes(4, "little") + GIANT[10:],
    "another frame behind": HONEST + GIANT[:4000],
    "two honest frames": HONEST + HONEST,
    "says no size": b"\x28\xb5\x2f\xfd\x00\x58" + HONEST[6:],
    "skippable": b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + HONEST,
    "no zstd": bytes(60),
    "empty": b"",
    "right size, other numbers": HONEST,
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_chunk_is_refused_and_never_unpacked_into_more_than_a_frame(
    store, case, monkeypatch
):
    def watched(packed: bytes, out: np.ndarray) -> None:
        assert out.nbytes == 60
        unpack(packed, out)

    unpack = zstd.decompress
    monkeypatch.setattr("fusion.stores.reader.zstd.decompress", watched)
    index = np.tile(np.array([[0, len(HOSTILE[case])]], np.uint64), (3, 1))
    replace_chunk(shard_of(store), HOSTILE[case], index)
    refused(store, naming="video 'v', frame '0'")


@pytest.mark.parametrize(
    "entry",
    [
        (2**64 - 1, 2**64 - 1),
        (2**63, 10),
        (2**63 - 1, 10),
        (0, 2**63),
        (10**9, 50),
        (0, 0),
        (2**64 - 1, 50),
        (0, 2**64 - 1),
    ],
)
def test_a_hostile_index_is_refused(store, entry):
    rewrite_index(shard_of(store), lambda index: np.array([index[0], entry, index[2]], np.uint64))
    refused(store, naming="video 'v'")


def test_a_damaged_index_is_refused(store):
    chunk = shard_of(store)
    chunk.write_bytes(chunk.read_bytes()[-10:])
    file = chunk.relative_to(folder_of(store))
    refused(store, naming=f"video 'v': {file} has a damaged shard index (10 bytes)")


@pytest.mark.parametrize(
    "name", ["zarr.json", "v/zarr.json", "v/commit.json", "v/c/0/0/0/0", "v/c/0", "v/c", "v"]
)
def test_links_inside_a_store_are_refused(store, tmp_path, name):
    where = place(store, name)
    where.rename(tmp_path / "outside")
    where.symlink_to(tmp_path / "outside")
    assert "link" in refused(store)
    if name == "zarr.json":
        with pytest.raises(StoreError, match="link"):
            list(verify(store))
    else:
        assert ["link" in (problem or "") for problem in problems(store)] == [True]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
@pytest.mark.parametrize("name", ["zarr.json", "v/zarr.json", "v/commit.json", "v/c/0/0/0/0"])
def test_pipes_and_folders_in_place_of_files_are_refused_at_once(store, name, make):
    where = place(store, name)
    where.unlink()
    make(where)
    refused(store)


def test_a_link_to_a_store_is_the_callers_business(store, tmp_path):
    (tmp_path / "link").symlink_to(store)
    assert contents(tmp_path / "link") == contents(store)
