"""What the tests share: hypothesis settings, and small logits and stores."""

from __future__ import annotations

import os
from pathlib import Path

# bars come by the clock; what stderr says must not depend on how busy the machine is
os.environ["TQDM_DISABLE"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:  # a process a core: threads beside them would only wait
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import numpy as np
import pytest

from fusion.stores import LogitWriter

hypothesis.settings.register_profile("segfusion", deadline=None, database=None, max_examples=40)
hypothesis.settings.load_profile("segfusion")


def random_logits(*shape: int, seed: int = 0) -> np.ndarray:
    """float32 logits of a shape, spread so that gap codes use their whole range."""
    return np.random.default_rng(seed).normal(0.0, 6.0, shape).astype(np.float32)


def class_names(count: int) -> list[str]:
    return [f"class {c}" for c in range(count)]


def save_store(path: Path, clips: dict[str, np.ndarray], **options) -> Path:
    """A store of clips [T, C, h, w] with frame ids "0", "1", ...; options go to LogitWriter."""
    classes = class_names(next(iter(clips.values())).shape[1])
    writer = LogitWriter(path, classes, **options)
    for video, clip in clips.items():
        with writer.video(video, frames=[str(t) for t in range(len(clip))]) as out:
            for frame in clip:
                out.append(frame)
    return path


@pytest.fixture
def logits():
    return random_logits


@pytest.fixture
def store_of(tmp_path):
    """Makes a store in the test's folder from {video: clip}, as `save_store`; returns its path."""

    def make(clips: dict[str, np.ndarray], name: str = "s.zarr", **options) -> Path:
        return save_store(tmp_path / name, clips, **options)

    return make


@pytest.fixture(scope="module")  # its threads would draw random numbers beside tests that may not
def cluster():
    """The address of a Dask cluster of two workers in this process, to which all goes by TCP."""
    from distributed import LocalCluster

    how = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    with LocalCluster(**how, dashboard_address=":0", protocol="tcp://") as running:
        yield running.scheduler_address
