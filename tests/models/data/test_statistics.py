"""Class statistics beside a loop over the masks, their cache, and the command."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from fusion.errors import InputError, StoreError
from fusion.labels import write_labels
from fusion.models import statistics as command
from fusion.models.data import statistics
from fusion.models.data.clips import Clips


@pytest.fixture
def clips(tmp_path):
    """Two videos of two frames, three classes; class 2 never occurs."""
    for video in ("one", "two"):
        for t in range(2):
            mask = np.zeros((4, 5), np.uint8)
            mask[0] = 255
            mask[1, : t + 1] = 1 if video == "two" else 0
            write_labels(tmp_path / "labels" / video / f"{t}.png", mask)
            (tmp_path / "images" / video).mkdir(parents=True, exist_ok=True)
    return Clips.folder(tmp_path / "images", tmp_path / "labels", classes=("a", "b", "c"))


def test_counts_by_hand(clips):
    found = statistics.class_statistics(clips)
    assert found.videos.tolist() == [2, 1, 0]
    assert found.pixels.tolist() == [57, 3, 0]
    held = [[1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 0]]
    assert found.present.astype(int).tolist() == held
    expected = np.log(np.array([57, 3, 1]) / 61)
    np.testing.assert_allclose(found.log_prior().numpy(), expected, rtol=1e-6)


def test_damaged_masks_count_nothing_where_they_are_skipped(clips):
    clips.labels.path("two", "1").write_bytes(b"")
    with pytest.raises(StoreError, match=r"two/1\.png"):
        statistics.class_statistics(clips)
    found = statistics.class_statistics(clips, damaged="skip")
    assert found.pixels.tolist() == [44, 1, 0]
    assert found.present.astype(int).tolist() == [[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]]


def test_the_cache_is_used_and_not_believed_blindly(clips, tmp_path, monkeypatch):
    cache = tmp_path / "deep" / "statistics.json"
    first = statistics.class_statistics(clips, cache)
    monkeypatch.setattr(statistics, "_count", lambda *_: pytest.fail("counted again"))
    again = statistics.class_statistics(clips, cache)
    assert again.pixels.tolist() == first.pixels.tolist()
    np.testing.assert_array_equal(again.present, first.present)
    monkeypatch.undo()
    write_labels(clips.labels.path("one", "0"), np.full((4, 5), 2, np.uint8), overwrite=True)
    assert statistics.class_statistics(clips, cache).pixels.tolist() == [42, 3, 20]
    document = json.loads(cache.read_text())
    assert document["classes"][2] == {"name": "c", "videos": 1, "pixels": 20}
    cache.write_text("{")
    assert statistics.class_statistics(clips, cache).pixels.tolist() == [42, 3, 20]


def test_a_file_is_read_as_it_was_written(clips, tmp_path):
    cache = tmp_path / "statistics.json"
    first = statistics.class_statistics(clips, cache)
    again = statistics.read(cache, ("a", "b", "c"))
    assert torch.equal(again.log_prior(), first.log_prior())
    with pytest.raises(InputError, match="counts a, b, c, not a, b; count the labels that the net"):
        statistics.read(cache, ("a", "b"))
    text = cache.read_text()
    for changed in (text.replace("57", "58"), "{}", "{", "[]"):
        cache.write_text(changed)
        with pytest.raises(
            StoreError, match=r"statistics.json cannot be read .*; give one that py"
        ):
            statistics.read(cache, ("a", "b", "c"))
    with pytest.raises(StoreError, match="No such file"):
        statistics.read(tmp_path / "none", ("a",))


def test_picture(clips):
    found = statistics.class_statistics(clips)
    pixels = np.array(statistics.picture(found))
    bars = (pixels == (70, 110, 170)).all(axis=-1)
    # three bars 330 wide: full height, log(2) / log(3) of it and none for videos
    heights = [int(bars[40:241, 40 + place * 330 + 5].sum()) for place in range(3)]
    assert heights[0] == pytest.approx(200, abs=2)
    assert heights[1] == pytest.approx(200 * np.log(2) / np.log(3), abs=2)
    assert heights[2] <= 1


def test_masks_are_needed(clips):
    Image.new("RGB", (5, 4)).save(clips.root / "one" / "0.png")
    with pytest.raises(InputError, match="opened without masks"):
        statistics.class_statistics(Clips.folder(clips.root, classes=clips.classes))


def test_command(vspw, tmp_path, capsys):
    assert command.main(["--vspw", str(vspw), "--split", "val", "--out", str(tmp_path / "s")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 126
    with Image.open(tmp_path / "s" / "statistics.png") as picture:
        assert picture.size[0] > 900
