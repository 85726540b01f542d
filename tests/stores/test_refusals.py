"""Bad frames, bad videos, bad stores: refused by name, and nothing is committed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusion.errors import InputError
from fusion.stores import LogitStore, LogitWriter
from tests.stores.common import CLIP, nothing_but_the_group, write


def spoilt(index, value, dtype=np.float32):
    frame = CLIP[0].astype(dtype)
    frame[index] = value
    return frame


REFUSED = {
    "nan": (
        spoilt((1, 2, 3), np.nan),
        {},
        r"frame 1 \('1'\): 1 NaN or \+inf, the first at \[class, y, x\] = \[1, 2, 3\]",
    ),
    "many nan": (
        spoilt((slice(2, 4), 0), np.nan),
        {},
        r"12 NaN or \+inf, the first at \[class, y, x\] = \[2, 0, 0\]",
    ),
    "inf": (
        spoilt((0, 4, 5), np.inf),
        {},
        r"1 NaN or \+inf, the first at \[class, y, x\] = \[0, 4, 5\]",
    ),
    "float64 beyond float32": (spoilt((0, 0, 0), 1e300, np.float64), {}, "beyond float32"),
    "float64 far below": (spoilt((0, 0, 0), -1e300, np.float64), {}, "beyond float32"),
    "torch float64": (
        torch.from_numpy(spoilt((0, 0, 0), -1e300, np.float64)),
        {},
        "beyond float32",
    ),
    "beyond float16": (
        spoilt((1, 0, 0), 65520.0),
        {"profile": "exact"},
        "1 values beyond float16's 65504",
    ),
    "far below float16": (
        spoilt((1, 0, 0), -1e5),
        {"profile": "exact"},
        "1 values beyond float16's 65504",
    ),
    "dead pixel": (
        spoilt((slice(None), 2, 1), -np.inf),
        {},
        r"1 pixels have no class .* \[y, x\] = \[2, 1\]",
    ),
    "dead probability": (
        spoilt(slice(None), 0.0),
        {"values": "probabilities"},
        r"30 pixels have no class .* \[0, 0\]",
    ),
    "negative probability": (
        spoilt(slice(None), -0.5),
        {"values": "probabilities"},
        "120 negative probabilities",
    ),
    "nan score": (spoilt((0, 0, 0), np.nan), {"values": "scores", "profile": "exact"}, "1 NaN"),
    "integers": (CLIP[0].astype(np.int32), {}, "got dtype int32; give floating-point logits"),
    "torch integers": (
        torch.zeros(4, 5, 6, dtype=torch.uint8),
        {},
        "got torch.uint8; give floating-point",
    ),
    "complex": (CLIP[0].astype(np.complex64), {}, "got dtype complex64"),
    "strings": (np.full((4, 5, 6), "x"), {}, "got dtype <U1"),
    "objects": (np.full((4, 5, 6), None), {}, "got dtype object"),
    "class count": (CLIP[0, :3], {}, r"got shape \[3, 5, 6\], expected \[4, h, w\]"),
    "clip": (CLIP, {}, r"got shape \[3, 4, 5, 6\], expected \[4, h, w\]"),
    "flat": (CLIP[0, :, 0], {}, r"got shape \[4, 6\]"),
    "zero height": (CLIP[0, :, :0], {}, r"got shape \[4, 0, 6\]"),
    "other size": (CLIP[0, :, :4], {}, r"got \[4, 4, 6\], the first frame \[4, 5, 6\]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_frame_is_refused_by_name_and_nothing_is_committed(tmp_path, case):
    frame, options, message = REFUSED[case]
    good = np.abs(CLIP[0])
    with pytest.raises(InputError, match=message) as caught:
        write(tmp_path / "s.zarr", {"v": [good, frame]}, **options)
    assert str(caught.value).startswith("s.zarr: video 'v', frame 1")
    assert "\n" not in str(caught.value)
    assert nothing_but_the_group(tmp_path / "s.zarr")


def test_65504_fits_in_float16(store_of):
    clip = np.full((1, 1, 1, 2), [[[[65504, -65519]]]], np.float32)
    stored = LogitStore(store_of({"v": clip}, profile="exact")).read("v")
    assert stored.ravel().tolist() == [65504, -65504]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": []}, "at least one"),
        ({"frames": "abc"}, "give a list"),
        ({"frames": None}, "give a list"),
        ({"frames": [1, 2]}, "give a list of str"),
        ({"frames": ["a", "b", "a"]}, r"\['a'\] stand in the list twice"),
        ({"video": 5}, r"video: got 5 \(int\); give a str"),
        ({"size": (0, 5)}, "both at least 1"),
        ({"size": (480,)}, "size: .*give .(height, width. in pixels|int, int.)"),
        ({"size": "480x853"}, "size: .*give .(height, width. in pixels|int, int.)"),
        ({"size": 480}, "size: .*give .(height, width. in pixels|int, int.)"),
        ({"size": (1.5, 2)}, "size: .*give .(height, width. in pixels|int, int.)"),
    ],
)
def test_bad_arguments_of_a_video(tmp_path, change, message):
    writer = LogitWriter(tmp_path / "s.zarr", ["a"])
    arguments = {"video": "v", "frames": ["0"], **change}
    with pytest.raises(InputError, match=message):
        writer.video(arguments.pop("video"), **arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": []}, "classes: .* at least one"),
        ({"classes": "road"}, "classes: got 'road' .str.; give a list"),
        ({"classes": None}, "classes: got None"),
        ({"classes": [1, 2]}, "give a list of str"),
        ({"classes": ["sky", "road", "sky"]}, r"\['sky'\] stand in the list twice"),
        ({"profile": "tiny"}, "profile 'tiny'"),
        ({"values": "votes"}, "values 'votes'"),
        ({"model": 5}, "model: got 5"),
        ({"provenance": {"seed": {1, 2}}}, "provenance: not JSON"),
        ({"provenance": {"loss": float("nan")}}, "provenance: not JSON"),
        ({"provenance": ["seed"]}, "provenance: got .*give a dict"),
        ({"provenance": {"log": "x" * (16 << 20)}}, "below 16777216 bytes"),
    ],
)
def test_bad_arguments_of_a_store(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        LogitWriter(tmp_path / "s.zarr", **{"classes": ["a"], **change})
    assert not (tmp_path / "s.zarr").exists()


def test_too_many_and_too_few_frames(tmp_path):
    with pytest.raises(InputError, match="got more frames than the 1 announced"):
        write(tmp_path / "s.zarr", {"v": CLIP[:2]}, frames=["0"])
    with pytest.raises(InputError, match="got 2 frames, 3 announced"):
        write(tmp_path / "s.zarr", {"v": CLIP[:2]}, frames=["0", "1", "2"])
    assert nothing_but_the_group(tmp_path / "s.zarr")


def test_an_unknown_durability_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"durability 'maybe'; choose one of \('commit', 'none'\)"):
        LogitWriter(tmp_path / "s.zarr", ["x"], durability="maybe")
    assert not (tmp_path / "s.zarr").exists()


def test_a_store_that_does_not_wait_for_the_disk_has_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("fusion.stores.video_writer.facts", lambda array: {})
    trees = []
    for level in ("commit", "none"):
        place = tmp_path / level / "s.zarr"
        writer = LogitWriter(place, [f"class {c}" for c in range(CLIP.shape[1])], durability=level)
        with writer.video("a", frames=[str(t) for t in range(len(CLIP))]) as out:
            out.extend(CLIP)
        files = (path for path in sorted(place.rglob("*")) if path.is_file())
        trees.append({path.relative_to(place): path.read_bytes() for path in files})
    assert trees[0] == trees[1]
