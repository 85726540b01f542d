"""Lightning's real trainer with a prediction writer that fills a store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import fusion
from fusion.errors import InputError
from fusion.integrations.lightning import StoreWriter
from tests.integrations.ranks import EXACT, IMAGES, NAMES, Module, loader, trainer
from tests.integrations.tools import expected

ROOT = Path(__file__).parents[2]

pytestmark = [
    # of the trainer, about this machine and small loaders
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated"),
]


def test_predictions_become_a_store(tmp_path):
    writer = StoreWriter(tmp_path / "net.zarr", unit="name", size=(32, 48), **EXACT)
    trainer(writer).predict(Module(), loader(), return_predictions=False)
    store = fusion.LogitStore(tmp_path / "net.zarr")
    assert store.videos == tuple(NAMES)
    assert store.describe("image 3").size == (32, 48)
    assert np.array_equal(np.concatenate([store.read(n) for n in NAMES]), expected(IMAGES))


def test_clips_and_dicts(tmp_path):
    times = iter(range(10))

    def frames(batch):
        return [next(times) for _ in batch["name"]]

    writer = StoreWriter(tmp_path / "net.zarr", unit="clip", frame=frames, **EXACT)
    module = Module(lambda logits: {"logits": logits, "loss": 0.0})
    trainer(writer).predict(module, loader(clip="a"), return_predictions=False)
    store = fusion.LogitStore(tmp_path / "net.zarr")
    assert store.frames("a") == tuple("0123456789")
    assert store.describe("a").size == (16, 24)
    assert np.array_equal(store.read("a"), expected(IMAGES))


def test_resumed_after_an_error(tmp_path):
    class Failing(Module):
        def predict_step(self, batch, batch_idx):
            if batch_idx == 2:
                raise RuntimeError("out of memory")
            return super().predict_step(batch, batch_idx)

    writer = StoreWriter(tmp_path / "net.zarr", unit="name", **EXACT)
    with pytest.raises(RuntimeError, match="out of memory"):
        trainer(writer).predict(Failing(), loader(), return_predictions=False)
    assert fusion.LogitStore(tmp_path / "net.zarr").videos == tuple(NAMES[:8])
    module = Module()
    trainer(writer).predict(module, loader(), return_predictions=False)
    assert module.batches == [2]
    assert module.net.calls == [2]
    assert "predict_step" not in vars(module)
    store = fusion.LogitStore(tmp_path / "net.zarr")
    assert np.array_equal(np.concatenate([store.read(n) for n in NAMES]), expected(IMAGES))


def test_an_open_clip_is_not_committed(tmp_path):
    class Failing(Module):
        def predict_step(self, batch, batch_idx):
            if batch_idx == 1:
                raise KeyError("batch")
            return super().predict_step(batch, batch_idx)

    writer = StoreWriter(tmp_path / "net.zarr", unit="clip", frame="name", **EXACT)
    with pytest.raises(KeyError):
        trainer(writer).predict(Failing(), loader(clip="a"), return_predictions=False)
    assert fusion.LogitStore(tmp_path / "net.zarr").videos == ()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """A folder with what two processes under DDP made; a program: a fork of pytest might hang."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "tests.integrations.ranks", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, timeout=300, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def test_ranks_write_disjoint_units(ranks):
    store = fusion.LogitStore(ranks / "images.zarr")
    assert store.videos == tuple(NAMES)
    assert np.array_equal(np.concatenate([store.read(n) for n in NAMES]), expected(IMAGES))


def test_clips_are_not_torn_apart_between_ranks(ranks):
    sentence = "the sampler deals the frames of a unit to several ranks; use Trainer("
    assert sentence in (ranks / "error.txt").read_text()
    assert not (ranks / "clips.zarr").exists()


def refused(tmp_path, sentence: str, module=None, **options) -> None:
    writer = StoreWriter(tmp_path / "net.zarr", **{"unit": "name", **EXACT, **options})
    with pytest.raises(InputError, match=sentence):
        trainer(writer).predict(module or Module(), loader(), return_predictions=False)


def test_what_cannot_be_written(tmp_path):
    def broken(logits):
        return torch.where(torch.arange(len(logits))[:, None, None, None] == 1, torch.nan, logits)

    refused(tmp_path, r"unit: 'file' is not in a dict of \['image', 'name'\]", unit="file")
    refused(tmp_path, r"'image 0'.* returned a dict of \['loss'\]", Module(lambda x: {"loss": x}))
    refused(tmp_path, r"'image 0'.* returned a tensor \[3\]", Module(lambda x: x[0, :, 0, 0]))
    refused(tmp_path, r"'image 0'.* expected \[3, h, w\]", Module(lambda x: x[:, :2]))
    refused(tmp_path, r"video 'image 1'.* NaN or \+inf", Module(broken))
    assert fusion.LogitStore(tmp_path / "net.zarr").videos == ("image 0",)
