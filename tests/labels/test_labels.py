"""Labels: names, values and digests of label maps on disk."""

from __future__ import annotations

import numpy as np
import pytest

from fusion.errors import InputError, StoreError
from fusion.labels import Labels, write_labels
from tests.labels.contract import maps


def test_folder(folder):
    labels = Labels.folder(folder, classes=11)
    assert (labels.videos, labels.void) == (("clip_2", "clip_10"), 255)
    assert labels.frames("clip_2") == ["f1", "f2", "f10"]
    assert labels.size("clip_2") == labels.size("clip_10", "f10") == (6, 9)


def test_folder_stray_values(folder):
    message = r"clip_2/f1\.png holds 9, 10 outside 0\.\.8 \(void is 255\)"
    with pytest.raises(InputError, match=message):
        Labels.folder(folder).read("clip_2", "f1", classes=9)
    loose = Labels.folder(folder, stray="void").read("clip_2", "f1", classes=9)
    np.testing.assert_array_equal(loose, np.where(maps(1) < 9, maps(1), 255))
    np.testing.assert_array_equal(Labels.folder(folder).read("clip_2", "f1"), maps(1))
    with pytest.raises(InputError, match="stray: got 'ignore'"):
        Labels.folder(folder, stray="ignore")


def test_beyond_255_classes(tmp_path):
    wide = np.array([[0, 255, 256], [999, 65535, 1]], dtype=np.uint16)
    write_labels(tmp_path / "v" / "1.png", wide)
    labels = Labels.folder(tmp_path, classes=1000)
    read = labels.read("v", "1")
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, wide)
    assert labels.void == 65535
    np.testing.assert_array_equal(Labels.folder(tmp_path).read("v", "1", classes=1000), wide)
    with pytest.raises(InputError, match=r"holds 999 outside 0\.\.998"):
        labels.read("v", "1", classes=999)
    with pytest.raises(StoreError, match=r"1\.png is 16-bit greyscale.*announce"):
        Labels.folder(tmp_path).read("v", "1")
    write_labels(tmp_path / "v" / "2.png", maps())
    with pytest.raises(StoreError, match=r"2\.png is 8-bit palette; beyond 255"):
        labels.read("v", "2")


def test_wrong_size_names_the_file(folder):
    with pytest.raises(InputError, match=r"f1\.png is \[6, 9\] \[H, W\], expected \[9, 6\]"):
        Labels.folder(folder).read("clip_2", "f1", size=(9, 6))


def test_names_that_are_not_there(folder):
    labels = Labels.folder(folder)
    with pytest.raises(InputError, match=r"no video 'clip_3'.*did you mean 'clip_2'"):
        labels.frames("clip_3")
    with pytest.raises(InputError, match=r"no frame 'f3'.*did you mean 'f2'"):
        labels.read("clip_2", "f3")
    for frame in ("../clip_10/f1", "", "/f1", "f1.png", ".."):
        with pytest.raises(InputError, match="has no frame"):
            labels.path("clip_2", frame)
    for video in ("..", "", ".hidden", "empty"):
        with pytest.raises(InputError, match="no video"):
            labels.path(video, "f1")


def test_digest_follows_the_data(folder):
    labels = Labels.folder(folder, classes=11)
    digest = labels.digest()
    again = Labels.folder(folder, classes=11)
    assert digest == labels.digest(reversed(labels.videos)) == again.digest()
    frames = {video: labels.frames(video)[::-1] for video in labels.videos}
    assert digest == labels.digest(frames=frames)
    others = [
        labels.digest(["clip_2"]),
        labels.digest(frames={**frames, "clip_2": ["f1"]}),
        Labels.folder(folder, classes=12).digest(),
        Labels.folder(folder, classes=11, stray="void").digest(),
    ]
    (folder / "clip_2" / "f2.png").rename(folder / "clip_2" / "f3.png")
    others.append(labels.digest())
    (folder / "clip_2" / "f3.png").rename(folder / "clip_2" / "f2.png")
    write_labels(folder / "clip_2" / "f1.png", maps(5), overwrite=True)
    others.append(labels.digest())
    assert len({digest, *others}) == 7
