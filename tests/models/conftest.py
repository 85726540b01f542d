"""Small scenes in VSPW's format, made once a session, and configurations of short runs on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import scenes
from fusion.labels import write_labels
from fusion.models.data.clips import Clips
from fusion.models.training import config

SIZES = scenes.Sizes((64, 96), {"train": 6, "val": 3, "test": 2}, regions=5, frames=(2, 3))


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Small tensors are slower on several threads, and bits are promised for a number of them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def vspw(tmp_path_factory):
    """The root of a small VSPW release."""
    root = tmp_path_factory.mktemp("scenes")
    scenes.write(root, SIZES, seed=1)
    return root


@pytest.fixture(scope="session")
def transformers():
    """The extra 'models'; imported once, its start takes seconds."""
    pytest.importorskip("scipy")
    return pytest.importorskip("transformers")


@pytest.fixture
def folder(tmp_path):
    """A folder layout of one video of two frames, 40 x 50, of three classes."""
    for t in range(2):
        path = tmp_path / "images" / "clip" / f"{t}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(t).integers(0, 256, (40, 50, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
        mask = (np.indices((40, 50)).sum(axis=0) // 7 % 3).astype(np.uint8)
        mask[0] = 255
        write_labels(tmp_path / "labels" / "clip" / f"{t}.png", mask)
    return tmp_path


@pytest.fixture
def clips(folder):
    """The clips of `folder`."""
    return Clips.folder(folder / "images", folder / "labels", classes=("a", "b", "c"))


@pytest.fixture
def configure(vspw, tmp_path):
    """Makes a configuration, configure("out", section={...}), of a short run of `plain`."""

    def make(out: str = "run", **sections):
        document = {
            "out": str(tmp_path / out),
            "seed": 3,
            "data": {"vspw": str(vspw)},
            "network": {"name": "plain", "preset": "micro"},
            "augment": {"crop": 32},
            "train": {"steps": 4, "learning_rate": 1e-3, "warmup": 2, "checkpoint_every": 1},
        }
        for name, keys in sections.items():
            document[name] = {**document.get(name, {}), **keys}
        return config.parse(document)

    return make
