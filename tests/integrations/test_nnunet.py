"""A folder that fills as nnUNetv2_predict fills it: the .npz, then the .pkl, case after case."""

from __future__ import annotations

import pickle
import threading
import time

import numpy as np
import pytest

import fusion
from fusion.errors import InputError
from fusion.integrations import nnunet
from fusion.stores.importers.nnunet import NnUnet
from tests.integrations.tools import CLASSES

QUICK = {"interval": 0.02, "profile": "exact"}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "predicted").mkdir()
    return tmp_path / "predicted"


def probabilities(seed: int) -> np.ndarray:
    """[C, Z, Y, X] float32, as nnU-Net saves them."""
    numbers = np.random.default_rng(seed).random((3, 4, 6, 5)).astype(np.float32)
    return numbers / numbers.sum(0)


def export(folder, case: str, seed: int) -> None:
    """What nnU-Net's export does, in its order."""
    np.savez_compressed(folder / f"{case}.npz", probabilities=probabilities(seed))
    (folder / f"{case}.pkl").write_bytes(pickle.dumps({"spacing": [1.0, 1.0, 1.0]}))


def check(path, case: str, seed: int) -> None:
    read = np.exp(fusion.LogitStore(path).read(case))
    assert np.allclose(read, probabilities(seed).swapaxes(0, 1), rtol=2e-3)


def test_what_is_complete(folder, tmp_path):
    export(folder, "case_2", 2)
    export(folder, "case_10", 10)
    np.savez_compressed(folder / "case_11.npz", probabilities=probabilities(11))  # no .pkl yet
    path = tmp_path / "unet.zarr"
    assert nnunet.watch(folder, path, CLASSES, once=True, **QUICK) == ["case_2", "case_10"]
    store = fusion.LogitStore(path)
    assert store.frames("case_2") == ("00000", "00001", "00002", "00003")
    assert store.describe("case_2").size == (6, 5)
    assert store.values == "probabilities"
    check(path, "case_2", 2)
    check(path, "case_10", 10)


def test_beside_a_program_that_predicts(folder, tmp_path):
    def program():
        for seed in range(3):
            time.sleep(0.05)
            export(folder, f"case_{seed}", seed)

    path, predicting = tmp_path / "unet.zarr", threading.Thread(target=program)
    predicting.start()
    done = nnunet.watch(folder, path, CLASSES, cases=3, **QUICK)
    predicting.join()
    assert sorted(done) == ["case_0", "case_1", "case_2"]
    for seed in range(3):
        check(path, f"case_{seed}", seed)


def test_files_that_grow_are_left_alone(folder, tmp_path, monkeypatch):
    export(folder, "case_0", 0)
    export(folder, "case_1", 1)

    def growing(_):
        with (folder / "case_1.pkl").open("ab") as file:
            file.write(b"more")

    monkeypatch.setattr(nnunet.time, "sleep", growing)
    path = tmp_path / "unet.zarr"
    assert nnunet.watch(folder, path, CLASSES, once=True, **QUICK) == ["case_0"]
    assert fusion.LogitStore(path).videos == ("case_0",)


def test_run_again_reads_only_what_is_lacking(folder, tmp_path, monkeypatch):
    export(folder, "case_0", 0)
    path, read = tmp_path / "unet.zarr", []
    nnunet.watch(folder, path, CLASSES, once=True, **QUICK)
    export(folder, "case_1", 1)
    frames = NnUnet.frames
    monkeypatch.setattr(
        NnUnet,
        "frames",
        lambda self, source, names: (
            read.append(source.files[0].name) or frames(self, source, names)
        ),
    )
    assert nnunet.watch(folder, path, CLASSES, once=True, **QUICK) == ["case_0", "case_1"]
    assert read == ["case_1.npz"]


def test_a_damaged_case_stops_no_other(folder, tmp_path):
    for seed in range(3):
        export(folder, f"case_{seed}", seed)
    (folder / "case_0.npz").write_bytes((folder / "case_0.npz").read_bytes()[:100])
    path = tmp_path / "unet.zarr"
    with pytest.raises(InputError, match=r"case_0\.npz: not a readable array"):
        nnunet.watch(folder, path, CLASSES, once=True, **QUICK)
    assert fusion.LogitStore(path).videos == ("case_1", "case_2")
    export(folder, "case_0", 0)
    assert len(nnunet.watch(folder, path, CLASSES, once=True, **QUICK)) == 3


def test_interrupted(folder, tmp_path, monkeypatch):
    export(folder, "case_0", 0)
    naps = iter(range(3))

    def nap(_):
        if next(naps) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(nnunet.time, "sleep", nap)
    with pytest.raises(KeyboardInterrupt):
        nnunet.watch(folder, tmp_path / "unet.zarr", CLASSES, **QUICK)
    check(tmp_path / "unet.zarr", "case_0", 0)


def test_what_cannot_be_watched(folder, tmp_path):
    path = tmp_path / "unet.zarr"
    with pytest.raises(InputError, match="elsewhere: no such folder; give nnUNetv2_predict's"):
        nnunet.watch(tmp_path / "elsewhere", path, CLASSES, once=True, **QUICK)
    assert not path.exists()
    export(folder, "case_0", 0)
    with pytest.raises(InputError, match=r"case_0\.npz: shape .* with C = 2 classes"):
        nnunet.watch(folder, tmp_path / "two.zarr", CLASSES[:2], once=True, **QUICK)
    np.savez_compressed(folder / "case_0.npz", labels=np.zeros(3))
    with pytest.raises(InputError, match=r"holds \['labels'\]; choose one with key="):
        nnunet.watch(folder, path, CLASSES, once=True, **QUICK)
