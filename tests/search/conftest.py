"""Stores and labels on disk, made once for all tests of the search."""

from __future__ import annotations

import numpy as np
import pytest

import fusion
from fusion.labels import write_labels
from tests.samples import CLASSES, FRAMES, NATIVE, SIZE, VIDEOS
from tests.search.simulated import groups_of


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Six stores of models of different skill in two families, and their labels; two splits."""
    folder = tmp_path_factory.mktemp("data")
    for split, seed in (("val", 0), ("test", 100)):
        draw = np.random.default_rng(seed)
        coarse = {(v, f): draw.integers(0, 4, NATIVE) for v in VIDEOS for f in FRAMES}
        for (video, frame), classes in coarse.items():
            target = np.kron(classes, np.ones((4, 4))).astype(np.uint8)
            target[0] = 255
            write_labels(folder / "labels" / split / video / f"{frame}.png", target)
        for k in range(6):
            name = f"{'net' if k < 4 else 'other'}_{k}"
            with fusion.LogitWriter(folder / split / f"{name}.zarr", CLASSES) as writer:
                for video in VIDEOS:
                    with writer.video(video, frames=FRAMES, size=SIZE) as out:
                        for frame in FRAMES:
                            truth = np.eye(4)[coarse[video, frame]].transpose(2, 0, 1)
                            out.append(1.5 * truth + draw.normal(0, 0.7 + 0.25 * k, truth.shape))
    return folder


@pytest.fixture(scope="session")
def truth(data):
    return fusion.Labels.folder(data / "labels" / "val")


@pytest.fixture(scope="session")
def ensemble(data):
    return fusion.HierarchicalEnsemble(groups_of(data))


@pytest.fixture(scope="session")
def drives(tmp_path_factory):
    """Eight clips of four drives, in one of which each model is bad; "tree" is underrated."""
    folder, draw = tmp_path_factory.mktemp("drives"), np.random.default_rng(0)
    names = [f"drive{d}_clip{c}" for d in range(4) for c in range(2)]
    coarse = {}
    for video in names:
        for frame in ("0", "1"):
            coarse[video, frame] = draw.choice(4, (12, 16), p=[0.32, 0.32, 0.32, 0.04])
            target = coarse[video, frame].astype(np.uint8)
            target[0] = 255
            write_labels(folder / "labels" / video / f"{frame}.png", target)
    for k in range(4):
        with fusion.LogitWriter(folder / f"net_{k}.zarr", CLASSES) as writer:
            for video in names:
                with writer.video(video, frames=("0", "1"), size=(12, 16)) as out:
                    for frame in ("0", "1"):
                        truth = np.eye(4)[coarse[video, frame]].transpose(2, 0, 1)
                        noise = 1.6 if video.startswith(f"drive{k}") else 0.9
                        logits = 3.0 * truth + draw.normal(0, noise, truth.shape)
                        logits[3] -= 3.0
                        out.append(logits)
    stores = [folder / f"net_{k}.zarr" for k in range(4)]
    ensemble = fusion.HierarchicalEnsemble({"strong": stores[:2], "weak": stores[2:]})
    return ensemble, fusion.Labels.folder(folder / "labels")
