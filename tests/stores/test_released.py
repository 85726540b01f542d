"""Stores that released versions wrote: read as they were meant, and written the same today."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from fusion.stores import GapCodec, LogitStore
from tests.stores.common import problems, tree, write

CLIP = np.array(
    [[[[1, 2.5], [-3, 0]], [[0, 2.5], [9, -40]]], [[[0, 0], [0.5, 8]], [[7, -1], [0.25, 8.5]]]],
    np.float32,
)
DIGESTS = {
    "compact": "11308db50674d7b4e15a16f0513df993b63a80b739cd5d527ef81add3908a7cb",
    "exact": "f7a8a5994a01467b82a3ffbe340c9c3eef75db321b9d863590b3c549c8c47d7b",
}


@pytest.fixture
def released(tmp_path):
    """compact.zarr, and exact.zarr of scores, as version 1 of the format has them."""
    with tarfile.open(Path(__file__).with_name("version1.tar.xz")) as archive:
        archive.extractall(tmp_path / "released", filter="data")
    return tmp_path / "released"


@pytest.mark.parametrize("profile", DIGESTS)
def test_a_store_of_version_1_reads_as_it_was_written(released, profile):
    store = LogitStore(released / f"{profile}.zarr")
    assert problems(store.path) == [None]
    assert store.digest() == DIGESTS[profile]
    assert (store.classes, store.videos) == (("road", "käfer"), ("city/0001",))
    assert (store.values, store.info.provenance) == (
        ("logits" if profile == "compact" else "scores"),
        {"seed": 3},
    )
    assert (store.frames("city/0001"), store.describe("city/0001").size) == (("f1", "f2"), (4, 6))
    kept = GapCodec().encode(CLIP) if profile == "compact" else abs(CLIP).astype(np.float16)
    assert store.codes("city/0001").tobytes() == kept.tobytes()


@pytest.mark.parametrize("profile", DIGESTS)
def test_the_same_store_is_written_today(released, tmp_path, profile):
    """Group and commit to the byte; the rest is zarr's, whose words may change with its version."""
    options = {} if profile == "compact" else {"profile": "exact", "values": "scores"}
    clip = CLIP if profile == "compact" else abs(CLIP)
    path = write(
        tmp_path / f"{profile}.zarr",
        {"city/0001": clip},
        frames=["f1", "f2"],
        size=(4, 6),
        classes=["road", "käfer"],
        provenance={"seed": 3},
        **options,
    )
    ours, theirs = tree(path), tree(released / path.name)
    assert ours.keys() == theirs.keys()
    assert ours["zarr.json"] == theirs["zarr.json"]
    for name in ours:
        if name.endswith(".json"):
            one, two = json.loads(ours[name]), json.loads(theirs[name])
            assert one.keys() == two.keys()
            for key in {"attributes", "shape", "crc32c", "dtype", "data_type"} & one.keys():
                assert one[key] == two[key]
