"""Small scenes in VSPW's format, made once a session, and configurations of short runs on them."""

from __future__ import annotations

import pytest
import torch

from benchmarks import scenes
from fusion.models.training import config

SIZES = scenes.Sizes((64, 96), {"train": 6, "val": 3, "test": 2}, regions=5, frames=(2, 3))


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Small tensors are slower on several threads, and the same bits are promised for the same number of them."""
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


@pytest.fixture
def configure(vspw, tmp_path):
    """Makes a configuration: configure("out", section={...}) over a short run of the plain network."""

    def make(out: str = "run", **sections):
        document = {
            "out": str(tmp_path / out),
            "seed": 3,
            "data": {"vspw": str(vspw)},
            "network": {"name": "plain", "preset": "micro"},
            "augment": {"crop": 32},
            "train": {
                "steps": 4,
                "batch": 2,
                "learning_rate": 1e-3,
                "warmup": 2,
                "checkpoint_every": 1,
            },
        }
        for name, values in sections.items():
            document[name] = (
                {**document.get(name, {}), **values} if isinstance(values, dict) else values
            )
        return config.parse(document)

    return make
