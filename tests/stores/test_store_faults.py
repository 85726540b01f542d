"""Damage, kills and full disks: a store gives the numbers that were written, or one library error that names the file. Nothing else."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr
from numcodecs import zstd

from fusion.errors import CorruptStoreError, FusionError, StoreConflictError, StoreError
from fusion.stores import LogitStore, LogitWriter
from fusion.stores import writer as writing
from fusion.stores.format import STAGING, dump, sha256, video_key
from fusion.stores.maintenance import gc, verify

CLIP = np.random.default_rng(2).normal(0, 6, (3, 4, 3, 5)).astype(np.float32)
NAMES = ["a", "b", "c", "d"]
PROCESSES = multiprocessing.get_context(
    "forkserver"
)  # children are born without this process's threads
PROCESSES.set_forkserver_preload(["pytest", "zarr.codecs", "fusion.stores.maintenance"])


def write(
    path: Path,
    videos: dict[str, np.ndarray],
    profile: str = "compact",
    frames_per_shard: int | None = None,
) -> Path:
    """Fills a store; with `frames_per_shard` its videos are cut into several files."""
    limit = writing.MAX_SHARD_BYTES
    try:
        if frames_per_shard:
            writing.MAX_SHARD_BYTES = frames_per_shard * CLIP[0].size
        writer = LogitWriter(path, NAMES, profile)  # type: ignore[arg-type]
        for video, clip in videos.items():
            with writer.video(
                video, frames=[f"f{t}" for t in range(len(clip))], size=(30, 50)
            ) as out:
                for frame in clip:
                    out.append(frame)
    finally:
        writing.MAX_SHARD_BYTES = limit
    return path


def contents(path: Path) -> tuple:
    """Everything a reader can learn from a store."""
    store = LogitStore(path)
    videos = [
        (store.describe(v), store.codes(v).tobytes(), store.read(v).tobytes()) for v in store.videos
    ]
    return store.info, store.digest(), videos


def files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file())


def folder_of(path: Path, video: str = "v") -> Path:
    return path / video_key(video)


def refused(path: Path, *, naming: str | None = None) -> str:
    """Asserts that the store's content cannot be had, and returns the one-line reason."""
    with pytest.raises(StoreError) as caught:
        contents(path)
    message = str(caught.value)
    assert "\n" not in message
    if naming is not None:
        assert naming in message
        assert isinstance(caught.value, CorruptStoreError)
        problems = [verdict.problem for verdict in verify(path)]
        assert any(problem and naming in problem for problem in problems)
    return message


@pytest.fixture
def store(tmp_path):
    return write(tmp_path / "s.zarr", {"v": CLIP})


# --- damaged bytes


@pytest.mark.parametrize(("profile", "frames_per_shard"), [("compact", None), ("exact", 1)])
def test_a_flipped_bit_anywhere_is_noticed(tmp_path, profile, frames_per_shard):
    path = write(tmp_path / "s.zarr", {"v": CLIP}, profile, frames_per_shard)
    clean = contents(path)
    unnoticed = []
    for file in files(path):
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
    for file in files(store):
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
    for file in files(store):
        data = file.read_bytes()
        file.write_bytes(data + garbage)
        refused(store)
        file.write_bytes(data)


def test_a_missing_chunk_is_noticed(tmp_path):
    path = write(tmp_path / "s.zarr", {"v": CLIP, "w": CLIP}, frames_per_shard=1)
    (folder_of(path) / "c/1/0/0/0").unlink()
    refused(path, naming="video 'v': ")
    assert LogitStore(path).codes("v", ["f0", "f2"]).shape == (2, 4, 3, 5)
    assert LogitStore(path).codes("w").shape == (3, 4, 3, 5)
    assert zarr.open_array(folder_of(path), mode="r")[1].min() == 255  # what plain zarr makes of it


def test_swapped_frames_are_noticed(tmp_path):
    path = write(tmp_path / "s.zarr", {"v": CLIP}, frames_per_shard=1)
    one, two = folder_of(path) / "c/0/0/0/0", folder_of(path) / "c/2/0/0/0"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    refused(path, naming="video 'v', frame 'f0': crc32c differs")


def test_frames_swapped_inside_a_shard_are_noticed(store):
    chunk = folder_of(store) / "c/0/0/0/0"
    rewrite_index(chunk, lambda index: index[[0, 2, 1]])
    refused(store, naming="video 'v', frame 'f1': crc32c differs")
    assert len(LogitStore(store).codes("v", ["f0"])) == 1


def test_a_neighbours_chunk_is_noticed(tmp_path):
    path = write(tmp_path / "s.zarr", {"v": CLIP, "w": CLIP[::-1]})
    shutil.copy(folder_of(path, "w") / "c/0/0/0/0", folder_of(path) / "c/0/0/0/0")
    refused(path, naming="video 'v', frame 'f0': crc32c differs")


def test_a_video_under_another_name_or_in_another_store_is_noticed(tmp_path):
    path = write(tmp_path / "s.zarr", {"v": CLIP, "w": CLIP * 2})
    shutil.copytree(folder_of(path), path / "v-backup")
    assert "holds video 'v', whose folder is" in refused(path)
    shutil.rmtree(path / "v-backup")
    other = write(tmp_path / "other.zarr", {"v": CLIP})
    shutil.copytree(folder_of(path, "w"), folder_of(other, "w"))
    assert "zarr.json: not the file that was committed" in refused(other)


# --- damaged metadata

NONSENSE = {
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "object": b"{}",
    "number": b"5",
    "cut": b'{"attributes": ',
    "binary": bytes(range(256)),
    "utf-16": "{}".encode("utf-16"),
    "NaN": b'{"version": NaN}',
    "infinite": b'{"version": 1e999}',
    "long number": b'{"version": ' + b"9" * 5000 + b"}",
    "deep list": b"[" * 100_000,
    "deep object": b'{"a":' * 900 + b"1" + b"}" * 900,
    "foreign": b'{"zarr_format": 3, "node_type": "group", "attributes": {"segfusion": 5}}',
    "two documents": b"{}{}",
}


@pytest.mark.parametrize("text", NONSENSE)
@pytest.mark.parametrize("name", ["zarr.json", "v/zarr.json", "v/commit.json"])
def test_a_document_that_is_none(store, name, text):
    file = store / name if "/" not in name else folder_of(store) / name[2:]
    file.write_bytes(NONSENSE[text])
    assert file.name in refused(store)
    with pytest.raises(StoreError):
        write(store, {"v": CLIP})


@pytest.mark.parametrize("name", ["zarr.json", "v/zarr.json", "v/commit.json"])
def test_a_huge_document_is_not_read(store, name):
    file = store / name if "/" not in name else folder_of(store) / name[2:]
    os.truncate(file, 1 << 40)
    tracemalloc.start()
    assert f"{file}: {1 << 40} bytes" in refused(store)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_missing_documents(store):
    (folder_of(store) / "zarr.json").unlink()
    assert f"{folder_of(store)}/zarr.json: missing" in refused(store)
    (folder_of(store) / "commit.json").unlink()
    assert LogitStore(store).videos == ()  # without a commit the video does not exist
    (store / "zarr.json").unlink()
    assert f"{store}/zarr.json: missing" in refused(store)


def edit(file: Path, change: Callable[[dict], object]) -> None:
    document = json.loads(file.read_bytes())
    change(document)
    file.write_bytes(json.dumps(document).encode())


def resign(path: Path) -> None:
    """Makes commit.json agree with the edited documents, as somebody would who means it."""
    folder = folder_of(path)

    def sign(commit: dict) -> None:
        commit["group_sha256"] = sha256((path / "zarr.json").read_bytes())
        commit["metadata_sha256"] = sha256((folder / "zarr.json").read_bytes())
        commit.pop("checksum")
        commit["checksum"] = sha256(dump(commit))

    edit(folder / "commit.json", sign)


def put(*keys: str | int, value: object) -> Callable[[dict], None]:
    """document[keys[0]][keys[1]]... = value; the value `del` removes it."""

    def change(document: dict) -> None:
        inner = document
        for key in keys[:-1]:
            inner = inner[key]
        if value == "del":
            del inner[keys[-1]]
        else:
            inner[keys[-1]] = value

    return change


VALID_EDITS = {
    "class order": (
        "zarr.json",
        put("attributes", "segfusion", "classes", value=["b", "a", "c", "d"]),
    ),
    "profile": ("zarr.json", put("attributes", "segfusion", "profile", value="exact")),
    "values": ("zarr.json", put("attributes", "segfusion", "values", value="probabilities")),
    "dtype": ("v/zarr.json", put("data_type", value="int8")),
    "axes": ("v/zarr.json", put("dimension_names", value=["frame", "class", "x", "y"])),
    "frames": ("v/zarr.json", put("attributes", "segfusion", "frames", value=["f1", "f0", "f2"])),
    "size": ("v/zarr.json", put("attributes", "segfusion", "height", value=31)),
    "crc": ("v/commit.json", put("crc32c", 1, value=5)),
    "time": ("v/commit.json", put("time", value="1970-01-01T00:00:00Z")),
}


@pytest.mark.parametrize("case", VALID_EDITS)
def test_an_edited_document_that_is_still_valid(store, case):
    name, change = VALID_EDITS[case]
    edit(store / name if "/" not in name else folder_of(store) / name[2:], change)
    refused(store, naming=name.split("/")[-1])


def test_a_newer_format_is_named(store):
    edit(store / "zarr.json", put("attributes", "segfusion", "version", value=2))
    assert "zarr.json: format version 2, this release reads 1; update segfusion" in refused(store)


ARRAY, COMMIT = "v/zarr.json", "v/commit.json"
INNER = ("codecs", 0, "configuration", "codecs")
SIGNED_EDITS = {
    "newer": (COMMIT, put("version", value=2)),
    "version type": (COMMIT, put("version", value="x")),
    "no version": (COMMIT, put("version", value="del")),
    "no shape": (COMMIT, put("shape", value="del")),
    "other shape": (COMMIT, put("shape", value=[3, 4, 5, 3])),
    "no crc": (COMMIT, put("crc32c", value=[])),
    "crc type": (COMMIT, put("crc32c", value=[None] * 3)),
    "crc infinite": (COMMIT, put("crc32c", value=7)),
    "video": (ARRAY, put("attributes", "segfusion", "video", value="w")),
    "video type": (ARRAY, put("attributes", "segfusion", "video", value=["v"])),
    "no frames": (ARRAY, put("attributes", "segfusion", "frames", value=[])),
    "frames twice": (ARRAY, put("attributes", "segfusion", "frames", value=["f0", "f1", "f0"])),
    "frames type": (ARRAY, put("attributes", "segfusion", "frames", value=[{}, {}, {}])),
    "frames text": (ARRAY, put("attributes", "segfusion", "frames", value="abc")),
    "fewer frames": (ARRAY, put("attributes", "segfusion", "frames", value=["f0", "f1"])),
    "height type": (ARRAY, put("attributes", "segfusion", "height", value="tall")),
    "height zero": (ARRAY, put("attributes", "segfusion", "height", value=0)),
    "no width": (ARRAY, put("attributes", "segfusion", "width", value="del")),
    "no dtype": (ARRAY, put("data_type", value="del")),
    "other dtype": (ARRAY, put("data_type", value="float64")),
    "dtype type": (ARRAY, put("data_type", value={"name": "uint8"})),
    "no codecs": (ARRAY, put("codecs", value=[])),
    "codecs type": (ARRAY, put("codecs", value="zstd")),
    "unknown codec": (ARRAY, put(*INNER, value=[{"name": "bytes"}, {"name": "pickle"}])),
    "one codec more": (
        ARRAY,
        put(*INNER, value=[{"name": "bytes"}, {"name": "zstd"}, {"name": "zstd"}]),
    ),
    "no sharding": (ARRAY, put("codecs", 0, "name", value="blosc")),
    "chunk of two": (ARRAY, put("codecs", 0, "configuration", "chunk_shape", value=[2, 4, 3, 5])),
    "grid type": (ARRAY, put("chunk_grid", value=5)),
    "empty grid": (ARRAY, put("chunk_grid", "configuration", "chunk_shape", value=[])),
    "shard of none": (ARRAY, put("chunk_grid", "configuration", "chunk_shape", value=[0, 4, 3, 5])),
    "absurd shard": (
        ARRAY,
        put("chunk_grid", "configuration", "chunk_shape", value=[10**15, 4, 3, 5]),
    ),
    "shape type": (ARRAY, put("shape", value=[3, 4, None, 5])),
    "three axes": (ARRAY, put("shape", value=[3, 4, 15])),
    "no node": (ARRAY, put("attributes", value=[])),
    "zarr 2": (ARRAY, put("zarr_format", value=2)),
}


@pytest.mark.parametrize("case", SIGNED_EDITS)
def test_a_signed_document_that_this_library_would_not_write(store, case):
    name, change = SIGNED_EDITS[case]
    edit(folder_of(store) / name[2:], change)
    resign(store)
    assert ".json" in refused(store)


@pytest.mark.parametrize(
    "shape",
    [
        [3, 4, 10**6, 10**6],
        [3, 4, 0, 5],
        [3, 4, -3, -5],
        [3, 4, 1 << 15, 1 << 15],
        [3, 4, 6, 10],
        [3, 4, 2, 5],
    ],
)
def test_a_signed_absurd_shape_allocates_nothing(store, shape):
    folder = folder_of(store)
    edit(folder / "zarr.json", put("shape", value=shape))
    edit(folder / "zarr.json", put("chunk_grid", "configuration", "chunk_shape", value=shape))
    edit(
        folder / "zarr.json",
        put("codecs", 0, "configuration", "chunk_shape", value=[1, *shape[1:]]),
    )
    edit(folder / "commit.json", put("shape", value=shape))
    resign(store)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(store)
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    )  # KB of memory really touched


def test_more_than_memory_holds_is_an_error_that_says_so(store, monkeypatch):
    def full(*_: object) -> None:
        raise MemoryError("Unable to allocate 1 TiB")

    opened = LogitStore(store)
    monkeypatch.setattr("fusion.stores.reader.np.empty", full)
    with pytest.raises(
        StoreError, match="video 'v': Unable to allocate 1 TiB; read fewer frames at a time"
    ):
        opened.codes("v")


# --- hostile chunks


def rewrite_index(chunk: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    data = chunk.read_bytes()
    index = np.frombuffer(data[-3 * 16 - 4 : -4], "<u8").reshape(3, 2)
    replace_chunk(chunk, data[: -3 * 16 - 4], change(index.copy()))


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
    replace_chunk(folder_of(store) / "c/0/0/0/0", HOSTILE[case], index)
    refused(store, naming="video 'v', frame 'f0'")


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
    rewrite_index(
        folder_of(store) / "c/0/0/0/0",
        lambda index: np.array([index[0], entry, index[2]], np.uint64),
    )
    refused(store, naming="video 'v'")


def test_a_damaged_index_is_refused(store):
    chunk = folder_of(store) / "c/0/0/0/0"
    chunk.write_bytes(chunk.read_bytes()[-10:])
    refused(store, naming="video 'v': 0 has a damaged shard index (10 bytes)")


@pytest.mark.parametrize(
    "name", ["zarr.json", "v/zarr.json", "v/commit.json", "v/c/0/0/0/0", "v/c/0", "v/c", "v"]
)
def test_links_inside_a_store_are_refused(store, tmp_path, name):
    place = (
        store / name
        if not name.startswith("v")
        else folder_of(store) / name[2:]
        if "/" in name
        else folder_of(store)
    )
    place.rename(tmp_path / "outside")
    place.symlink_to(tmp_path / "outside")
    assert "link" in refused(store)
    if name == "zarr.json":
        with pytest.raises(StoreError, match="link"):
            list(verify(store))
    else:
        assert ["link" in (verdict.problem or "") for verdict in verify(store)] == [True]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
@pytest.mark.parametrize("name", ["zarr.json", "v/zarr.json", "v/commit.json", "v/c/0/0/0/0"])
def test_pipes_and_folders_in_place_of_files_are_refused_at_once(store, name, make):
    place = store / name if not name.startswith("v") else folder_of(store) / name[2:]
    place.unlink()
    make(place)
    refused(store)


def test_a_link_to_a_store_is_the_callers_business(store, tmp_path):
    (tmp_path / "link").symlink_to(store)
    assert contents(tmp_path / "link") == contents(store)


# --- the disk


def test_a_disk_that_reads_back_other_bytes(tmp_path, monkeypatch):
    honest = zarr.Array.__getitem__
    monkeypatch.setattr(zarr.Array, "__getitem__", lambda array, key: honest(array, key) ^ 1)
    with pytest.raises(StoreError, match="read back other bytes than were written"):
        write(tmp_path / "s.zarr", {"v": CLIP})
    assert LogitStore(tmp_path / "s.zarr").videos == ()
    assert list((tmp_path / "s.zarr" / STAGING).iterdir()) == []


def test_little_free_space_is_noticed_before_writing(store, monkeypatch):
    monkeypatch.setattr(
        writing.shutil,
        "disk_usage",
        lambda _: os.terminal_size((0, 0)) and type("Usage", (), {"free": 3}),
    )
    with pytest.raises(
        StoreError,
        match=r"s.zarr: video 'w' not written .3 bytes free.* free at least 180 bytes there",
    ) as caught:
        write(store, {"w": CLIP})
    assert caught.value.__cause__.errno == errno.ENOSPC
    monkeypatch.undo()
    assert LogitStore(store).videos == ("v",)
    assert list((store / STAGING).iterdir()) == []


def fill(path: Path, answer: Path, limit: int | None) -> None:
    """Child: writes a large video where files may not grow beyond `limit`; leaves what happened in `answer`."""
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    noise = np.random.default_rng(0).normal(0, 9, (3, 4, 200, 200)).astype(np.float32)
    outcome = "written"
    try:
        write(path, {"large": noise})
    except StoreError as error:
        outcome = f"StoreError: {error}"
    answer.write_text(outcome[: limit or 1000])


def in_child(target: Callable[..., None], *arguments: object) -> int | None:
    child = PROCESSES.Process(target=target, args=arguments)
    child.start()
    child.join(60)
    code = child.exitcode
    child.close()
    return code


def test_a_file_that_may_not_grow(store, tmp_path):
    clean = contents(store)
    assert in_child(fill, store, tmp_path / "answer", 20_000) == 0
    answer = (tmp_path / "answer").read_text()
    assert answer.startswith(f"StoreError: {store}: video 'large' not written (File too large)")
    assert contents(store) == clean
    assert list((store / STAGING).iterdir()) == []


def test_a_full_disk_keeps_what_was_committed(tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    if (
        shutil.which("mount") is None
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=300k", "none", mount], check=False
        ).returncode
    ):
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        path = write(mount / "s.zarr", {"v": CLIP})
        clean = contents(path)
        assert in_child(fill, path, tmp_path / "answer", None) == 0
        answer = (tmp_path / "answer").read_text()
        assert answer.startswith(
            f"StoreError: {path}: video 'large' not written (No space left on device); free at least 480000 bytes"
        )
        assert contents(path) == clean
        subprocess.run(["mount", "-o", "remount,ro", mount], check=True)
        assert contents(path) == clean  # read-only media are read
        assert [verdict.problem for verdict in verify(path)] == [None]
        with pytest.raises(StoreError, match="video 'w' not written"):
            write(path, {"w": CLIP})
        with pytest.raises(StoreError, match="a store cannot be made here"):
            write(mount / "other.zarr", {"w": CLIP})
    finally:
        subprocess.run(["umount", mount], check=True)


# --- the n-th call

VIDEOS = {"v": CLIP, "w": CLIP[:1] * 2}
EVENTS = {
    "open",
    "os.mkdir",
    "os.rename",
    "os.link",
    "os.remove",
    "os.rmdir",
    "os.listdir",
    "os.scandir",
}


class Calls:
    """Counts this process's file system calls below a folder, and acts on chosen ones. Cannot be taken out again: for children."""

    def __init__(self, root: Path, act: Callable[[int], None]) -> None:
        self.root, self.act, self.seen, self.on = str(root), act, [], True
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple) -> None:
        if (
            self.on
            and event in EVENTS
            and isinstance(arguments[0], (str, os.PathLike))
            and os.fspath(arguments[0]).startswith(self.root)
        ):
            self.seen.append(event)
            self.act(len(self.seen))


def die(path: Path, at: int | None, log: Path) -> None:
    """Child: writes a store and is killed at its `at`-th call."""

    def act(count: int) -> None:
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)

    calls = Calls(path, act)
    write(path, VIDEOS, frames_per_shard=2)
    calls.on = False
    log.write_text(" ".join(calls.seen))


def pixels(path: Path) -> dict[str, bytes]:
    """All files of a store but commit.json (it says who wrote it, and when)."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in files(path)
        if file.name != "commit.json"
    }


def whole_or_absent(path: Path, clean: Path) -> None:
    """Every video that a reader sees is the clean run's."""
    if (path / "zarr.json").exists():
        store, expected = LogitStore(path), LogitStore(clean)
        for video in store.videos:
            assert store.codes(video).tobytes() == expected.codes(video).tobytes()
            assert store.describe(video) == expected.describe(video)


def resumes(path: Path, clean: Path, videos: dict[str, np.ndarray]) -> None:
    """Running the same program again, and gc, leaves the clean run's bytes."""
    write(path, videos, frames_per_shard=2)
    gc(path, age=0)
    if (path / STAGING).exists():
        (path / STAGING).rmdir()
    assert pixels(path) == pixels(clean)
    assert LogitStore(path).digest() == LogitStore(clean).digest()
    assert all(verdict.problem is None for verdict in verify(path))


def test_a_killed_writer_leaves_whole_videos_and_resumes(tmp_path):
    clean = tmp_path / "clean" / "s.zarr"
    clean.parent.mkdir()
    assert in_child(die, clean, None, tmp_path / "log") == 0
    (clean / STAGING).rmdir()
    calls = (tmp_path / "log").read_text().split()
    commits = [n for n, call in enumerate(calls, start=1) if call in ("os.rename", "os.link")]
    moments = {
        1,
        2,
        3,
        commits[0],
        commits[0] + 1,
        commits[-1] - 1,
        commits[-1],
        commits[-1] + 1,
        *range(5, len(calls), len(calls) // 7),
    }
    for moment in sorted(moments):
        path = tmp_path / str(moment) / "s.zarr"
        path.parent.mkdir()
        assert in_child(die, path, moment, tmp_path / "log") == -signal.SIGKILL
        whole_or_absent(path, clean)
        resumes(path, clean, VIDEOS)


def fail_every_call(folder: Path, forever: bool) -> None:
    """Child: writes and reads again and again, the n-th call failing each time, until a run has no n-th call.

    Where all calls from the n-th on fail, every fifth n will do.
    """
    videos = {"v": CLIP}  # two shards
    clean = write(folder / "clean" / "s.zarr", videos, frames_per_shard=2)
    if (clean / STAGING).exists():
        (clean / STAGING).rmdir()
    fails_at = 0

    def act(count: int) -> None:
        if count == fails_at or (forever and count > fails_at):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    calls = Calls(folder / "try", act)
    os.fsync = lambda _: calls(
        "open", (calls.root,)
    )  # the one call that has no audit event; and a test need not wait for the disk
    while fails_at == 0 or len(calls.seen) >= fails_at:
        calls.on, path, caught = False, folder / "try" / str(fails_at) / "s.zarr", None
        path.parent.mkdir(parents=True)
        calls.on, calls.seen, fails_at = True, [], fails_at + (5 if forever else 1)
        try:
            write(path, videos, frames_per_shard=2)
            contents(path)
        except StoreError as error:
            caught = error
        calls.on = False
        assert caught is None or (
            isinstance(caught.__cause__, OSError) and "\n" not in str(caught)
        )  # the system's error is chained
        whole_or_absent(path, clean)
        resumes(path, clean, videos)
        shutil.rmtree(path.parent)
    assert fails_at > 80


@pytest.mark.parametrize("forever", [False, True], ids=["once", "forever"])
def test_any_call_may_fail(tmp_path, forever):
    assert in_child(fail_every_call, tmp_path, forever) == 0


# --- two at once


def race(path: Path, start, sign: int, answer: Path) -> None:
    """Child: writes many videos at the same time as another; "shared" ones are equal, "own" ones differ in sign."""
    writers_made = conflicts = 0
    for n in range(6):
        for name, clip in ((f"shared {n}", CLIP), (f"own {n}", CLIP * sign)):
            start.wait(30)
            try:
                write(path, {name: clip})
                writers_made += 1
            except StoreConflictError:
                conflicts += 1
    answer.write_text(f"{writers_made} {conflicts}")


def test_two_writers_in_two_processes_lose_nothing(tmp_path):
    start = PROCESSES.Barrier(2)
    path = tmp_path / "s.zarr"
    children = [
        PROCESSES.Process(target=race, args=(path, start, sign, tmp_path / f"{sign}"))
        for sign in (1, -1)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
        child.close()
    written, conflicts = zip(
        *[map(int, (tmp_path / f"{sign}").read_text().split()) for sign in (1, -1)], strict=True
    )
    # a video that the other process has committed is skipped by its frame ids; losing the race with other bytes is a conflict
    assert sum(written) + sum(conflicts) == 24
    assert sum(conflicts) <= 6
    store = LogitStore(path)
    assert len(store.videos) == 12
    one, two = (
        LogitStore(write(tmp_path / name, {"v": clip})).codes("v")
        for name, clip in (("one", CLIP), ("two", -CLIP))
    )
    for video in store.videos:
        codes = store.codes(video)
        assert np.array_equal(codes, one) or (
            video.startswith("own") and np.array_equal(codes, two)
        )
    assert list((path / STAGING).iterdir()) == []
    assert all(verdict.problem is None for verdict in verify(path))


def test_every_error_is_the_librarys(store):
    assert issubclass(CorruptStoreError, StoreError)
    assert issubclass(StoreError, FusionError)
    assert issubclass(StoreError, OSError)
