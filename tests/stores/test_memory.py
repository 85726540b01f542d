"""MemoryStore against stores on disk: the same numbers, checks, sentences and names."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from fusion import LogitStore
from fusion.errors import InputError
from fusion.stores import LogitWriter, MemoryStore
from fusion.stores.format import VALUES
from tests.conftest import class_names, random_logits, save_store

CLIP = random_logits(2, 3, 4, 5)


def numbers(values: str, *shape: int) -> np.ndarray:
    """Such numbers, exact in float16 where a store on disk has them as they are."""
    drawn = random_logits(*shape).astype(np.float16).astype(np.float32)
    if values in ("logits", "sigmoid"):
        return drawn
    return np.random.default_rng(1).integers(0, 65, shape).astype(np.float32) / 64


@pytest.mark.parametrize("values", VALUES)
def test_equals_a_store_of_the_exact_profile_minus_float16(tmp_path, values):
    clip = numbers(values, 2, 3, 4, 5)
    clip[:, 0] += 0.25 if values == "probabilities" else 0.0  # no pixel without a class
    path = save_store(tmp_path / "s.zarr", {"v": clip}, profile="exact", values=values)
    disk, held = LogitStore(path), MemoryStore({"v": clip}, class_names(3), values=values)
    for name in ("classes", "values", "channels", "kernel_values", "videos"):
        assert getattr(held, name) == getattr(disk, name)
    codes, kept = held.codes("v"), disk.codes("v")
    assert codes.dtype == np.float32
    assert np.array_equal(codes.astype(np.float16), kept)
    if values in ("logits", "scores"):
        assert np.array_equal(codes, kept.astype(np.float32))
    (one,), (other,) = (store.codes("v", [store.frames("v")[1]]) for store in (held, disk))
    assert np.array_equal(one.astype(np.float16), other)
    assert np.array_equal(held.read("v"), codes)


def spoilt(change) -> np.ndarray:
    frame = np.full((3, 4, 5), 0.25, np.float32)
    change(frame)
    return frame


@pytest.mark.parametrize(
    ("values", "frame"),
    [
        ("logits", spoilt(lambda f: f.__setitem__((1, 2, 3), np.nan))),
        ("logits", spoilt(lambda f: f.__setitem__((1, 2, 3), np.inf))),
        ("logits", spoilt(lambda f: f.__setitem__((slice(None), 2, 3), -np.inf))),
        ("logits", np.ones((3, 4, 5), np.int64)),
        ("logits", np.full((3, 4, 5), 1e300)),
        ("logits", np.ones((2, 4, 5))),
        ("probabilities", spoilt(lambda f: f.__setitem__((0, 0, 0), -0.1))),
        ("probabilities", spoilt(lambda f: f.__setitem__((slice(None), 1, 1), 0))),
        ("sigmoid-probabilities", spoilt(lambda f: f.__setitem__((2, 0, 1), 1.5))),
        ("sigmoid", spoilt(lambda f: f.__setitem__((2, 0, 1), np.nan))),
    ],
)
def test_refuses_what_the_writer_refuses_in_its_words(tmp_path, values, frame):
    writer = LogitWriter(tmp_path / "net.zarr", class_names(3), "exact", values=values)
    with (
        pytest.raises(InputError) as theirs,
        writer.video("v", frames=["00000"]) as out,
    ):
        out.append(frame)
    with pytest.raises(InputError) as ours:
        MemoryStore({"v": frame}, class_names(3), values=values, model="net")
    assert str(ours.value).startswith("net: video 'v', frame 'v': ")
    assert str(ours.value).split(": ", 2)[2] == str(theirs.value).split(": ", 2)[2]


def test_units_come_as_a_dict_an_array_or_a_list():
    batch = random_logits(11, 3, 4, 5)
    held = MemoryStore(batch)
    assert held.videos == tuple(f"{n:04d}" for n in range(11))
    assert held.classes == ("0", "1", "2")
    assert held.frames("0007") == ("0007",)
    assert np.array_equal(held.codes("0007")[0], batch[7])
    assert held.digest() == MemoryStore(torch.from_numpy(batch)).digest()
    sizes = MemoryStore([batch[0], batch[1, :, :3]])
    assert [sizes.describe(v).size for v in sizes.videos] == [(4, 5), (3, 5)]
    named = MemoryStore({"b": CLIP, "a": batch[0]}, size={"a": (8, 10), "b": (4, 5)}, frames=None)
    assert named.videos == ("a", "b")
    assert named.frames("b") == ("00000", "00001")
    assert named.describe("a").size == (8, 10)
    assert MemoryStore({"b": CLIP}, frames=["x", "y"]).frames("b") == ("x", "y")
    nested = MemoryStore({"a": batch[0].tolist()})
    assert np.array_equal(nested.codes("a")[0], batch[0])


def test_other_types_and_layouts_are_the_same_numbers():
    clip = CLIP.astype(np.float16).astype(np.float32)
    plain = MemoryStore({"v": clip}).digest()
    turned = np.asfortranarray(clip)
    for same in (clip.astype(np.float16), clip.astype(">f8"), turned):
        assert MemoryStore({"v": same}).digest() == plain
    tensor = torch.from_numpy(clip).requires_grad_()
    assert MemoryStore({"v": tensor}).digest() == plain
    halves = torch.from_numpy(clip).bfloat16()
    kept = MemoryStore({"v": halves}).codes("v")
    assert np.array_equal(kept, halves.float().numpy())


def test_what_it_is_called_follows_from_the_content():
    one, same, other = MemoryStore({"v": CLIP}), MemoryStore({"v": CLIP}), MemoryStore({"v": -CLIP})
    assert one.place == same.place
    assert one.digest() == same.digest()
    assert len({one.place, other.place, MemoryStore({"w": CLIP}).place}) == 3
    named = MemoryStore({"v": CLIP}, model="swin")
    assert named.model == "swin"
    assert named.place.startswith("memory:swin-")
    assert named.is_called("swin")
    assert not named.is_called("swin-")


def test_later_changes_of_an_array_change_nothing():
    clip = CLIP.copy()
    held = MemoryStore({"v": clip})
    before = held.digest()
    clip += 1
    held.codes("v")[...] = 0
    assert np.array_equal(held.codes("v"), CLIP)
    assert held.digest() == before
    again = pickle.loads(pickle.dumps(held))
    assert np.array_equal(again.codes("v"), CLIP)
    assert (again.place, again.digest()) == (held.place, before)


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        (CLIP[0], {}, r"got shape \[3, 4, 5\]; give 4 axes with the units first"),
        ({}, {}, "got none; give at least one unit"),
        ([[[1.0], [2.0, 3.0]]], {}, "arrays: .*; give arrays, or lists of equal lengths"),
        ({1: CLIP}, {}, "unit 1; give a string"),
        ({"v": CLIP[0, 0]}, {}, r"video 'v' has shape \[4, 5\]; give \[C, h, w\]"),
        ({"v": CLIP[:0]}, {}, "nothing empty"),
        ({"v": CLIP}, {"values": "votes"}, "values 'votes'; choose one of"),
        ({"v": CLIP}, {"classes": ["a", "b"]}, r"expected \[2, h, w\]"),
        ({"v": CLIP}, {"classes": ["a", "a", "b"]}, "stand in the list twice"),
        ({"v": CLIP}, {"frames": ["x"]}, "got 2 frames and 1 ids"),
        ({"v": CLIP}, {"frames": {"w": ["x", "y"]}}, "video 'v': no entry among w"),
        ({"v": CLIP}, {"size": (0, 3)}, "give \\(height, width\\) in pixels"),
    ],
)
def test_mistakes_are_one_sentence(arrays, options, message):
    with pytest.raises(InputError, match=message):
        MemoryStore(arrays, **options)


def test_it_has_no_folder_and_names_what_comes_near():
    held = MemoryStore({"video": CLIP}, model="net")
    with pytest.raises(InputError, match=r"memory:net-.*: lies in memory.*LogitWriter"):
        held.folder  # noqa: B018  # the property raises
    with pytest.raises(InputError, match="no video 'vide'; did you mean 'video'"):
        held.codes("vide")
    with pytest.raises(InputError, match=r"no frame 'x' \(1 missing of 2\)"):
        held.codes("video", ["x"])


def test_notebooks_show_names_escaped():
    shown = MemoryStore({"<b>": CLIP}, ["<i>", "b", "c"], model="<net>")._repr_html_()
    assert shown.startswith("<table>")
    assert "&lt;b&gt;" in shown
    assert "3x4x5" in shown
    assert not {"<b>", "<i>", "<net>"} & {shown[k : k + 5] for k in range(len(shown))}
    assert "<i>" not in shown
    many = MemoryStore(random_logits(12, 3, 2, 2))._repr_html_()
    assert "5 more videos" in many
