"""Damaged and hostile zarr.json and commit.json: one error that names the file, no allocation."""

from __future__ import annotations

import json
import os
import resource
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from fusion.errors import StoreError
from fusion.stores import LogitStore
from fusion.stores.format import dump, sha256
from tests.stores.common import CLASSES, folder_of, place, refused, write
from tests.stores.common import TINY as CLIP

OURS = ("attributes", "segfusion")
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
    file = place(store, name)
    file.write_bytes(NONSENSE[text])
    assert file.name in refused(store)
    with pytest.raises(StoreError):
        write(store, {"v": CLIP})


@pytest.mark.parametrize("name", ["zarr.json", "v/zarr.json", "v/commit.json"])
def test_a_huge_document_is_not_read(store, name):
    file = place(store, name)
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
    "class order": ("zarr.json", put(*OURS, "classes", value=CLASSES[::-1])),
    "profile": ("zarr.json", put(*OURS, "profile", value="exact")),
    "values": ("zarr.json", put(*OURS, "values", value="probabilities")),
    "dtype": ("v/zarr.json", put("data_type", value="int8")),
    "axes": ("v/zarr.json", put("dimension_names", value=["frame", "class", "x", "y"])),
    "frames": ("v/zarr.json", put(*OURS, "frames", value=["1", "0", "2"])),
    "size": ("v/zarr.json", put(*OURS, "height", value=31)),
    "crc": ("v/commit.json", put("crc32c", 1, value=5)),
    "time": ("v/commit.json", put("time", value="1970-01-01T00:00:00Z")),
}


@pytest.mark.parametrize("case", VALID_EDITS)
def test_an_edited_document_that_is_still_valid(store, case):
    name, change = VALID_EDITS[case]
    edit(place(store, name), change)
    refused(store, naming=name.split("/")[-1])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("profile", []),
        ("profile", "tiny"),
        ("values", {}),
        ("classes", 5),
        ("model", 5),
        ("provenance", []),
    ],
)
def test_a_group_of_other_types_is_refused(store, name, value):
    edit(store / "zarr.json", put(*OURS, name, value=value))
    assert f"{store}/zarr.json: " in refused(store)


def test_a_newer_format_is_named(store):
    edit(store / "zarr.json", put(*OURS, "version", value=2))
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
    "video": (ARRAY, put(*OURS, "video", value="w")),
    "video type": (ARRAY, put(*OURS, "video", value=["v"])),
    "no frames": (ARRAY, put(*OURS, "frames", value=[])),
    "frames twice": (ARRAY, put(*OURS, "frames", value=["0", "1", "0"])),
    "frames type": (ARRAY, put(*OURS, "frames", value=[{}, {}, {}])),
    "frames text": (ARRAY, put(*OURS, "frames", value="abc")),
    "fewer frames": (ARRAY, put(*OURS, "frames", value=["0", "1"])),
    "height type": (ARRAY, put(*OURS, "height", value="tall")),
    "height zero": (ARRAY, put(*OURS, "height", value=0)),
    "no width": (ARRAY, put(*OURS, "width", value="del")),
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
def test_a_signed_document_that_this_library_would_not_write(video_store, case):
    name, change = SIGNED_EDITS[case]
    edit(place(video_store, name), change)
    resign(video_store)
    assert ".json" in refused(video_store)


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
def test_a_signed_absurd_shape_allocates_nothing(video_store, shape):
    folder = folder_of(video_store)
    edit(folder / "zarr.json", put("shape", value=shape))
    edit(folder / "zarr.json", put("chunk_grid", "configuration", "chunk_shape", value=shape))
    edit(
        folder / "zarr.json",
        put("codecs", 0, "configuration", "chunk_shape", value=[1, *shape[1:]]),
    )
    edit(folder / "commit.json", put("shape", value=shape))
    resign(video_store)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(video_store)
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
