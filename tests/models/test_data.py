"""Readers of images and masks, random views, folds, and what damaged data say."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import scenes
from fusion.errors import InputError, StoreError
from fusion.labels import write_labels
from fusion.models.data.clips import (
    DEVIATION,
    MEAN,
    Augment,
    Batches,
    Clips,
    Samples,
    folds,
    read_image,
    standardised,
)
from fusion.models.data.source import open_clips, read_names

PLAIN = Augment(crop=32, scale=(1.0, 1.0), flip=0.0, colour=0.0)


@pytest.fixture
def folder(tmp_path):
    """A folder layout of one video of two frames, 40 x 50, and its class names."""
    for t in range(2):
        path = tmp_path / "images" / "clip" / f"{t}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(
            np.random.default_rng(t).integers(0, 256, (40, 50, 3)).astype(np.uint8)
        ).save(path)
        mask = (np.indices((40, 50)).sum(axis=0) // 7 % 3).astype(np.uint8)
        mask[0] = 255
        write_labels(tmp_path / "labels" / "clip" / f"{t}.png", mask)
    return tmp_path


def clips_of(folder, classes=("a", "b", "c")):
    return Clips.folder(folder / "images", folder / "labels", classes=classes)


def test_vspw_is_read_as_its_masks_say(vspw):
    clips = Clips.vspw(vspw, "train")
    assert len(clips.videos) == 6
    assert len(clips.classes) == 124
    video, frame = clips.labelled()[0]
    image, mask = clips.pair(video, frame)
    stored = np.array(Image.open(vspw / "data" / video / "mask" / f"{frame}.png"))
    assert image.size == mask.shape[::-1] == (96, 64)
    np.testing.assert_array_equal(
        mask, np.where((stored == 0) | (stored == 255), 255, stored.astype(int) - 1)
    )
    assert Clips.vspw(vspw, "test", labelled=False).videos == Clips.vspw(vspw, "test").videos


def test_folders_read_the_same_as_vspw(vspw, tmp_path):
    clips = Clips.vspw(vspw, "val")
    for video in clips.videos:
        shutil.copytree(vspw / "data" / video / "origin", tmp_path / "images" / video)
        for frame in clips.frames(video):
            write_labels(tmp_path / "labels" / video / f"{frame}.png", clips.pair(video, frame)[1])
    other = Clips.folder(tmp_path / "images", tmp_path / "labels", classes=clips.classes)
    assert other.labelled() == clips.labelled()
    for video, frame in clips.labelled():
        (left, mask), (right, twin) = other.pair(video, frame), clips.pair(video, frame)
        assert left.tobytes() == right.tobytes()
        np.testing.assert_array_equal(mask, twin)


def test_standardised_by_hand():
    found = standardised(Image.new("RGB", (2, 1), (255, 0, 51)))
    expected = [
        (value - mean) / deviation
        for value, mean, deviation in zip((1.0, 0.0, 0.2), MEAN, DEVIATION, strict=True)
    ]
    torch.testing.assert_close(found[:, 0, 1], torch.tensor(expected))


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_image_and_mask_stay_together(folder, flip):
    """A view without scale and colour is a window of the pair, mirrored together."""
    image, mask = clips_of(folder).pair("clip", "0")
    view, target = Augment(crop=32, scale=(1.0, 1.0), flip=flip, colour=0.0)(
        image, mask, np.random.default_rng(4)
    )
    if flip:
        view, target = view.flip(-1), target.flip(-1)
    whole = standardised(image)
    places = [
        (y, x)
        for y in range(9)
        for x in range(19)
        if torch.equal(whole[:, y : y + 32, x : x + 32], view)
    ]
    assert len(places) == 1
    y, x = places[0]
    np.testing.assert_array_equal(target.numpy(), mask[y : y + 32, x : x + 32])


def test_beyond_the_image_is_void(folder):
    image, mask = clips_of(folder).pair("clip", "0")
    view, target = Augment(crop=64, scale=(1.0, 1.0), flip=0.0, colour=0.0)(
        image, mask, np.random.default_rng(0)
    )
    assert view.shape == (3, 64, 64)
    assert target[40:].eq(255).all()
    assert target[:, 50:].eq(255).all()
    assert not view[:, 40:].any()
    np.testing.assert_array_equal(target[:40, :50].numpy(), mask)


def test_scaled_masks_hold_their_own_values_only(folder):
    image, mask = clips_of(folder).pair("clip", "0")
    for seed in range(20):
        view, target = Augment(crop=32, scale=(0.4, 2.5))(image, mask, np.random.default_rng(seed))
        assert set(target.unique().tolist()) <= {0, 1, 2, 255}
        assert view.shape == (3, 32, 32)
        assert torch.isfinite(view).all()


def test_colour_changes_the_image_only(folder):
    image, mask = clips_of(folder).pair("clip", "0")
    plain = PLAIN(image, mask, np.random.default_rng(1))
    coloured = Augment(crop=32, scale=(1.0, 1.0), flip=0.0, colour=0.5)(
        image, mask, np.random.default_rng(1)
    )
    assert torch.equal(plain[1], coloured[1])
    assert not torch.equal(plain[0], coloured[0])


def test_samples_are_functions_of_their_number(vspw):
    clips = Clips.vspw(vspw, "train")
    one, other = Samples(clips, Augment(crop=32), 5), Samples(clips, Augment(crop=32), 5)
    numbers = [3, 40, 0, 17]
    wanted = {k: one[k] for k in numbers}
    for k in reversed(numbers):
        for left, right in zip(wanted[k], other[k], strict=True):
            assert torch.equal(left, right)
    assert not torch.equal(one[0][0], Samples(clips, Augment(crop=32), 6)[0][0])


def test_every_sample_draws_its_own_view(vspw):
    samples = Samples(Clips.vspw(vspw, "train"), lambda image, mask, draw, void: draw.random(), 5)
    assert len({samples[k] for k in range(50)}) == 50


def test_an_epoch_has_every_frame_once(vspw, monkeypatch):
    seen, original = [], Clips.pair
    monkeypatch.setattr(
        Clips, "pair", lambda self, *names: seen.append(names) or original(self, *names)
    )
    samples = Samples(Clips.vspw(vspw, "train"), PLAIN, 0)
    count = len(samples.pairs)
    for k in range(2 * count):
        samples[k]
    assert sorted(seen[:count]) == sorted(seen[count:]) == sorted(samples.pairs)
    assert seen[:count] != seen[count:]


def test_processes_share_the_numbers_out():
    parts = [list(Batches(2, 5, 3, rank, 2)) for rank in range(2)]
    assert [
        numbers for pair in zip(*parts, strict=True) for batch in pair for numbers in batch
    ] == list(range(12, 30))
    assert len(Batches(2, 5, 3)) == 3


def test_folds_partition_the_videos():
    videos = [f"v{k}" for k in range(11)]
    parts = folds(videos, 4, seed=1)
    assert sorted(sum(parts, ())) == sorted(videos)
    assert sorted(map(len, parts)) == [2, 3, 3, 3]
    assert parts == folds(videos, 4, seed=1) != folds(videos, 4, seed=2)
    for count in (1, 12):
        with pytest.raises(InputError, match=f"folds: got {count} for 11 videos"):
            folds(videos, count)


def test_missing_image(folder):
    (folder / "images" / "clip" / "1.png").unlink()
    with pytest.raises(
        InputError, match=r"video 'clip' has 1 masks without an image in .*, the first '1'"
    ):
        clips_of(folder).labelled()
    with pytest.raises(InputError, match="has no frame '1'"):
        clips_of(folder).image("clip", "1")


def test_missing_mask_is_only_left_out_of_training(folder):
    (folder / "labels" / "clip" / "1.png").unlink()
    assert clips_of(folder).labelled() == [("clip", "0")]
    assert clips_of(folder).frames("clip") == ["0", "1"]


def test_sizes_differ(folder):
    write_labels(folder / "labels" / "clip" / "0.png", np.zeros((40, 49), np.uint8), overwrite=True)
    with pytest.raises(InputError, match="video 'clip', frame '0': image 40x50, mask 40x49"):
        clips_of(folder).pair("clip", "0")


def test_unknown_class(folder):
    with pytest.raises(InputError, match=r"0\.png holds 2 outside 0\.\.1"):
        clips_of(folder, ("a", "b")).pair("clip", "0")


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty"])
def test_corrupted_jpeg(vspw, tmp_path, damage):
    video = Clips.vspw(vspw, "val").videos[0]
    content = next((vspw / "data" / video / "origin").glob("*.jpg")).read_bytes()
    path = tmp_path / "broken.jpg"
    path.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "garbage": b"\xff\xd8" + bytes(100),
            "empty": b"",
        }[damage]
    )
    with pytest.raises(
        StoreError, match=r"images: .*broken\.jpg cannot be decoded .*; restore the file"
    ):
        read_image(path)


def test_two_files_of_one_frame(folder):
    shutil.copy(folder / "images" / "clip" / "0.png", folder / "images" / "clip" / "0.jpg")
    with pytest.raises(StoreError, match="3 images, 2 different ids"):
        clips_of(folder).frames("clip")


def test_sources_are_named_once(folder):
    for vspw, images in ((None, None), ("a", "b")):
        with pytest.raises(InputError, match="one of the two"):
            open_clips(vspw, "train", images, None, None, labelled=True)
    with pytest.raises(InputError, match="needs class names"):
        open_clips(None, "train", folder / "images", None, None, labelled=True)
    with pytest.raises(InputError, match="masks are needed"):
        open_clips(None, "train", folder / "images", None, ("a",), labelled=True)
    with pytest.raises(StoreError, match="nowhere is no directory"):
        Clips.folder(folder / "nowhere", classes=("a",))
    with pytest.raises(StoreError, match="holds one folder of images a video"):
        Clips.folder(folder / "images" / "clip", classes=("a",))


def test_class_names(tmp_path, vspw):
    path = tmp_path / "classes.txt"
    path.write_text("wall\n\n floor \n")
    assert read_names(path) == ("wall", "floor")
    path.write_text("wall\nwall\n")
    with pytest.raises(InputError, match="2 names, 1 different"):
        read_names(path)
    with pytest.raises(StoreError, match="cannot be read"):
        read_names(tmp_path / "none.txt")
    with pytest.raises(InputError, match="got 2 names, VSPW has 124"):
        Clips.vspw(vspw, classes=("a", "b"))


def test_scenes_are_repeatable_and_shifted(tmp_path, vspw):
    scenes.write(tmp_path, scenes.Sizes((64, 96), {"val": 1}, regions=5, frames=(2, 3)), seed=1)
    for file in sorted((tmp_path / "data").rglob("*.*")):
        assert file.read_bytes() == (vspw / file.relative_to(tmp_path)).read_bytes()
    frequencies = {split: scenes.class_frequencies(split, 1) for split in ("train", "val", "test")}
    np.testing.assert_array_equal(frequencies["train"], frequencies["val"])
    assert np.abs(frequencies["test"] - frequencies["val"]).sum() > 0.1
    assert frequencies["val"].max() / frequencies["val"].min() == pytest.approx(125 / 2)
