"""A saved ensemble with a head: the same bits again, and every damage in a sentence."""

from __future__ import annotations

import contextlib
import json
import shutil

import numpy as np
import pytest

import fusion
from fusion import tensors
from fusion.errors import StoreError
from tests.ensemble.test_heads import HEADS, RAISED, head_of


@pytest.fixture
def saved(stores, tmp_path):
    """A saved ensemble of three models under a small head: (file, file of its head)."""
    groups = {f"g{k}": [store] for k, store in enumerate(stores[:3])}
    ensemble = fusion.HierarchicalEnsemble(groups, head=head_of(groups, "log"))
    ensemble.save(tmp_path / "best.json")
    (beside,) = tmp_path.glob("*.safetensors")
    return tmp_path / "best.json", beside


@pytest.mark.parametrize("form", HEADS)
def test_it_loads_with_the_same_bits(stores, tmp_path, form):
    groups = {"s": stores[:2], "w": stores[2:]}
    head = head_of(groups, form)
    ensemble = fusion.HierarchicalEnsemble(
        groups, head=head, multipliers=RAISED, temperatures={"m1": 1.5}
    )
    path = tmp_path / "deep" / "best.json"
    ensemble.save(path)
    again = fusion.HierarchicalEnsemble.load(path)
    assert again.head == head
    assert all(np.array_equal(a, again.head.arrays[n]) for n, a in head.arrays.items())
    assert np.array_equal(again.predict_proba("a"), ensemble.predict_proba("a"))
    assert np.array_equal(again.predict("a"), ensemble.predict("a"))
    document = json.loads(path.read_text())
    assert document["version"] == 2
    assert document["head"]["form"] == form
    ensemble.save(path)  # over itself
    assert len(list(path.parent.iterdir())) == 2


def test_only_files_with_a_head_are_of_version_2(stores, tmp_path):
    fusion.HierarchicalEnsemble({"g": stores}).save(tmp_path / "best.json")
    document = json.loads((tmp_path / "best.json").read_text())
    assert document["version"] == 1
    assert "head" not in document
    assert not list(tmp_path.glob("*.safetensors"))


def test_it_moves_with_the_file(saved, tmp_path, stores):
    """A copy elsewhere, with the head beside it, on stores found by name."""
    there = tmp_path / "there"
    there.mkdir()
    for path in saved:
        shutil.move(path, there)
    moved = fusion.HierarchicalEnsemble.load(there / "best.json", stores=stores[0].parent)
    assert moved.head is not None


def refused(path) -> str:
    with pytest.raises(StoreError, match=r"; search again") as caught:
        fusion.HierarchicalEnsemble.load(path)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(str(path.parent / "head-"))
    return said


def test_a_head_that_is_gone_is_refused(saved):
    path, beside = saved
    beside.unlink()
    assert "cannot be read (" in refused(path)


@pytest.mark.parametrize("kept", [0, 4, 40, -1])
def test_a_truncated_head_is_refused(saved, kept):
    path, beside = saved
    beside.write_bytes(beside.read_bytes()[:kept])
    assert "damaged, or not of this library" in refused(path)


@pytest.mark.parametrize("other", ["numbers", "units", "form"])
def test_the_head_of_another_search_is_refused(saved, other):
    path, beside = saved
    arrays, config = tensors.read(beside, "")
    if other == "numbers":
        arrays["bias"] = arrays["bias"] + np.float32(1e-6)
    elif other == "units":
        config["units"] = config["units"][::-1]
    else:
        config["form"] = "mix"
    tensors.write(beside, arrays, config)
    assert f"not the head that {path} was saved with; search again" in refused(path)


def test_a_flipped_bit_is_refused_wherever_it_is(saved):
    """Every eighth byte, a bit of it in turn; a flip that no reader can see leaves the head."""
    path, beside = saved
    whole, seen = beside.read_bytes(), 0
    head = fusion.HierarchicalEnsemble.load(path).head
    for place in range(0, len(whole), 8):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << (place // 8 % 8)
        beside.write_bytes(flipped)
        with contextlib.suppress(StoreError):
            again = fusion.HierarchicalEnsemble.load(path, check=False)
            assert again.head == head
            continue
        refused(path)
        seen += 1
    assert seen > 0.9 * len(range(0, len(whole), 8))
