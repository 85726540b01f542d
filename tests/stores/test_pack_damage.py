"""Damaged and hostile packs: a video gives the numbers that were written, or one error."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fusion.errors import CorruptStoreError, StoreError
from fusion.stores import GapCodec, LogitStore
from fusion.stores.format import StoreInfo, dump, parse_video, sha256, video_key
from fusion.stores.maintenance import verify
from fusion.stores.pack_format import pack_name
from tests.stores.common import (
    IMAGES,
    folder_of,
    image,
    packs_of,
    problems,
    refused,
    shard_of,
    write,
)
from tests.stores.test_damage import rewrite_index
from tests.stores.test_metadata import edit, put


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "s.zarr", IMAGES, packed=True)


def resign(path: Path) -> None:
    """Makes commit.json and the folder's name agree with edited documents."""
    (pack,) = packs_of(path)
    facts = {}

    def sign(commit: dict) -> None:
        commit["metadata_sha256"] = sha256((pack / "zarr.json").read_bytes())
        commit.pop("checksum")
        commit["checksum"] = sha256(dump(commit))
        facts.update(commit)

    edit(pack / "commit.json", sign)
    crc = [c if isinstance(c, int) else 0 for c in facts.get("crc32c") or [0]]
    pack.rename(path / pack_name(facts["metadata_sha256"], crc))


OURS = ("attributes", "segfusion", "videos")
INNER = ("codecs", 0, "configuration", "codecs")
ARRAY, COMMIT = "zarr.json", "commit.json"
SIGNED_EDITS: dict[str, tuple[str, Callable]] = {
    "newer": (COMMIT, put("version", value=3)),
    "a video's version": (COMMIT, put("version", value=1)),
    "other shape": (COMMIT, put("shape", value=[10, 61])),
    "no crc": (COMMIT, put("crc32c", value=[])),
    "crc type": (COMMIT, put("crc32c", value=[None] * 10)),
    "no videos": (ARRAY, put(*OURS, value=[])),
    "videos type": (ARRAY, put(*OURS, value=5)),
    "video type": (ARRAY, put(*OURS, 0, value="v")),
    "one video less": (ARRAY, lambda document: ours(document).pop()),
    "one video more": (ARRAY, lambda document: ours(document).append(ours(document)[0])),
    "a video twice": (ARRAY, put(*OURS, 0, "video", value="image 1")),
    "id type": (ARRAY, put(*OURS, 0, "video", value=["v"])),
    "frames of another": (ARRAY, put(*OURS, 0, "frames", value=["0", "1"])),
    "no frames": (ARRAY, put(*OURS, 0, "frames", value=[])),
    "frames twice": (ARRAY, put(*OURS, 0, "frames", value=["0", "0"])),
    "frames type": (ARRAY, put(*OURS, 0, "frames", value=[{}])),
    "no shape": (ARRAY, put(*OURS, 0, "shape", value="del")),
    "absurd shape": (ARRAY, put(*OURS, 0, "shape", value=[4, 10**6, 10**6])),
    "longer than rows": (ARRAY, put(*OURS, 0, "shape", value=[4, 4, 6])),
    "zero shape": (ARRAY, put(*OURS, 0, "shape", value=[4, 0, 5])),
    "negative shape": (ARRAY, put(*OURS, 0, "shape", value=[4, -2, -5])),
    "other classes": (ARRAY, put(*OURS, 0, "shape", value=[5, 2, 4])),
    "four axes": (ARRAY, put(*OURS, 0, "shape", value=[1, 4, 2, 5])),
    "height zero": (ARRAY, put(*OURS, 0, "height", value=0)),
    "no width": (ARRAY, put(*OURS, 0, "width", value="del")),
    "geometry type": (ARRAY, put(*OURS, 0, "geometry", value=[1])),
    "other dtype": (ARRAY, put("data_type", value="float64")),
    "unknown codec": (ARRAY, put(*INNER, value=[{"name": "bytes"}, {"name": "pickle"}])),
    "chunk of two": (ARRAY, put("codecs", 0, "configuration", "chunk_shape", value=[2, 60])),
    "two shards": (ARRAY, put("chunk_grid", "configuration", "chunk_shape", value=[5, 64])),
    "rows": (ARRAY, put("shape", value=[11, 60])),
    "three axes": (ARRAY, put("shape", value=[10, 60, 1])),
    "one axis": (ARRAY, put("shape", value=[10])),
    "absurd rows": (ARRAY, put("shape", value=[10, 10**15])),
    "no node": (ARRAY, put("attributes", value=[])),
}


def ours(document: dict) -> list:
    return document["attributes"]["segfusion"]["videos"]


@pytest.mark.parametrize("case", SIGNED_EDITS)
def test_a_signed_document_that_this_library_would_not_write(path, case):
    name, change = SIGNED_EDITS[case]
    edit(packs_of(path)[0] / name, change)
    resign(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = refused(path)
    assert ".json" in message
    assert "belongs into a folder" not in message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    with pytest.raises(StoreError):
        write(path, {"new": image()})


def test_signing_again_alone_is_no_damage(path):
    edit(packs_of(path)[0] / COMMIT, put("time", value="1970-01-01T00:00:00Z"))
    resign(path)
    assert problems(path) == [None] * 10


def test_a_copied_or_renamed_pack_is_noticed(path):
    (pack,) = packs_of(path)
    other = path / ("pack-" + "0" * 32)
    shutil.copytree(pack, other)
    assert f"what belongs into a folder {pack.name}; rename or remove {other.name}" in refused(path)
    shutil.rmtree(pack)
    refused(path)
    other.rename(path / "image")  # no name of a pack's: taken for a video, and refused
    assert "format version 2, this release reads 1; update segfusion" in refused(path)


def test_a_release_that_knows_no_packs_refuses_and_does_not_misread(path):
    """It takes every folder for a video's and looks at the version before anything else."""
    group = (path / "zarr.json").read_bytes()
    with pytest.raises(StoreError, match="version 2, this release reads 1; update segfusion"):
        parse_video(packs_of(path)[0], StoreInfo.parse(group, path), group)


def test_swapped_rows_are_noticed(path):
    (folder,) = packs_of(path)

    def swap(index: np.ndarray) -> np.ndarray:
        return index[[0, 1, 2, 9, 4, 5, 6, 7, 8, 3]]

    rewrite_index(shard_of(path), swap, rows=10)
    named = f"s.zarr/{folder.name}: video 'image 3', frame '0': crc32c differs"
    refused(path, naming=named)
    assert [v.video for v in verify(path) if v.problem] == ["image 3", "image 9"]
    store = LogitStore(path)
    assert store.codes("image 2").tobytes() == GapCodec().encode(IMAGES["image 2"]).tobytes()
    write(path, {name: IMAGES[name] for name in ("image 3", "image 9")}, overwrite=True)
    assert all(
        LogitStore(path).codes(name).tobytes() == GapCodec().encode(clip).tobytes()
        for name, clip in IMAGES.items()
    )


def test_one_flipped_bit_spoils_one_video(path):
    shard = shard_of(path)
    data = bytearray(shard.read_bytes())
    data[20] ^= 1
    shard.write_bytes(data)
    assert [v.video for v in verify(path) if v.problem] == ["image 0"]
    store = LogitStore(path)
    with pytest.raises(CorruptStoreError, match="video 'image 0', frame '0': damaged"):
        store.codes("image 0")
    assert len(store.codes("image 1")) == 1


def test_half_a_pack_in_the_way_is_named(path, tmp_path):
    twin = write(tmp_path / "twin" / "s.zarr", {"x": image()})
    pack = packs_of(path)[0]
    (twin / pack.name).mkdir()
    (twin / pack.name / "stray").touch()
    with pytest.raises(StoreError, match=f"{pack.name}/commit.json: missing"):
        write(twin, IMAGES, packed=True)
    assert LogitStore(twin).videos == ("x",)


def test_what_was_written_again_is_damaged_no_longer(path):
    """Its old self stays in the pack, with others, where nobody reads it."""
    shard_of(path).write_bytes(b"x")
    assert None not in problems(path)
    write(path, IMAGES, overwrite=True)
    assert problems(path) == [None] * len(IMAGES)


def test_a_video_whose_commit_is_lost_does_not_come_back_as_it_was(path):
    """Found by tests/faults/test_store_machine.py: the pack's old numbers were read instead."""
    write(path, {"image 3": image(4, 4, seed=99)}, overwrite=True)
    folder = path / video_key("image 3")
    (folder / "commit.json").unlink()
    assert "commit.json is missing, so that readers find" in refused(path, naming=folder.name)
    shutil.rmtree(folder)
    write(path, {"image 3": image(4, 4, seed=99)}, overwrite=True)
    assert set(problems(path)) == {None}


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "pack"])
def test_a_lost_commit_is_verified(tmp_path, packed):
    """A copy that was cut short: readers find nothing of the video, so verify has to tell."""
    path = write(tmp_path / "s.zarr", {"v": image(3, 5)}, packed=packed)
    folder = folder_of(path)
    (folder / "commit.json").unlink()
    (problem,) = problems(path)
    assert problem.startswith(f"{folder}: commit.json is missing")
