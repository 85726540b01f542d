"""MMSegmentation's dumps: .npy of seg_logits, and the pickle that only a trusted file gives."""

from __future__ import annotations

import os
import pickle
from typing import ClassVar

import numpy as np
import pytest
import torch

from fusion.errors import InputError
from fusion.stores import GapCodec, LogitStore
from fusion.stores.importers import choose, import_folder
from fusion.stores.importers.arrays import Arrays
from fusion.stores.importers.mmsegmentation import MmSegmentation
from tests.stores.common import CLIP, run, save
from tests.stores.contract import ImporterContract


class TestMmSegmentation(ImporterContract):
    importer = MmSegmentation
    images = True
    frames: ClassVar = ("00000",)

    def save(self, folder, clips):
        for video, clip in clips.items():
            save(folder / f"{video}_leftImg8bit.npy", clip["00000"])
        return folder

    def damage(self, folder, video):
        (folder / f"{video}_leftImg8bit.npy").write_bytes(b"hello")


class TestCities(TestMmSegmentation):
    """<city>/<image>_leftImg8bit.npy."""

    images = False
    frames: ClassVar = ("f10", "f9", "f1")

    def save(self, folder, clips):
        for video, clip in clips.items():
            for frame, array in clip.items():
                save(folder / video / f"{frame}_leftImg8bit.npy", array)
        return folder

    def damage(self, folder, video):
        (folder / video / "f1_leftImg8bit.npy").write_bytes(b"hello")


def samples() -> list:
    """What DumpResults writes: data samples as dicts, with torch's tensors."""
    return [
        {
            "img_path": f"/data/leftImg8bit/aachen_{t}_leftImg8bit.png",
            "seg_logits": {"data": torch.from_numpy(frame)},
            "pred_sem_seg": {"data": torch.from_numpy(frame.argmax(0)[None])},
        }
        for t, frame in enumerate(CLIP)
    ]


def test_a_pickle_is_read_only_where_it_is_trusted(tmp_path, capsys):
    (tmp_path / "source").mkdir()
    path = tmp_path / "source/results.pkl"
    path.write_bytes(pickle.dumps(samples()))
    command = ("import", tmp_path / "source", tmp_path / "s.zarr", "--classes", 4)
    code, _, err = run(capsys, *command)
    assert code == 2
    assert "results.pkl: a pickle, which runs whatever code it holds when it is read; " in err
    assert "numpy.save each data_sample.seg_logits.data as <image>.npy" in err
    assert err.endswith("pass --unsafe-pickle for a file that you trust\n")
    assert run(capsys, *command, "--unsafe-pickle")[0] == 0
    store = LogitStore(tmp_path / "s.zarr")
    assert store.videos == ("aachen_0", "aachen_1", "aachen_2")
    for t, video in enumerate(store.videos):
        assert np.array_equal(store.codes(video), GapCodec().encode(CLIP[t : t + 1]))


def test_a_pickle_that_is_refused_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "boom"),)

    (tmp_path / "results.pkl").write_bytes(pickle.dumps([Bomb()]))
    with pytest.raises(InputError, match="which runs whatever code it holds"):
        import_folder(tmp_path / "results.pkl", tmp_path / "s.zarr", 4)
    assert not (tmp_path / "boom").exists()


def test_trusted_pickles_of_something_else(tmp_path):
    path = tmp_path / "results.pkl"
    labels = [{"img_path": "a.png", "pred_sem_seg": {"data": np.zeros((1, 5, 6))}}]
    for content, problem in (
        ([np.zeros((5, 6))], "holds no list of data samples but ndarray"),
        ({"a": 1}, "holds no list of data samples but dict"),
        (labels, r"'a': holds \['img_path', 'pred_sem_seg'\], no seg_logits; numpy.save"),
    ):
        path.write_bytes(pickle.dumps(content))
        os.utime(path, ns=(0, hash(problem) % 10**9))
        with pytest.raises(InputError, match=problem):
            import_folder(path, tmp_path / "s.zarr", 4, unsafe_pickle=True)
    path.write_bytes(b"\x80")
    with pytest.raises(InputError, match=r"cannot be unpickled"):
        import_folder(path, tmp_path / "t.zarr", 4, unsafe_pickle=True)


def test_arrays_beside_a_pickle_are_arrays(tmp_path):
    save(tmp_path / "a.npy", CLIP)
    (tmp_path / "notes.pkl").write_bytes(pickle.dumps(1))
    assert choose(tmp_path) == Arrays()
