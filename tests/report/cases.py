"""Small searches whose folders are reported on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

import fusion
from fusion import cli
from fusion.labels import write_labels
from fusion.report.facts import Facts
from fusion.search.__main__ import main
from tests.samples import CLASSES, FRAMES, NATIVE, SIZE, VIDEOS, write_sample

QUICK = ("--method", "grid", "--range", "weak=0:2:0.5", "--range", "auxiliary=0:2:0.5")


def write_data(folder: Path) -> Path:
    """The sample, its groups as the paper's, and the labels of a second split."""
    write_sample(folder)
    groups = {"strong": ["net_0"], "weak": ["net_1", "net_2"], "auxiliary": ["net_3"]}
    lines = [f"{group} = {[f'{name}.zarr' for name in some]}" for group, some in groups.items()]
    (folder / "three.toml").write_text("[groups]\n" + "\n".join(lines) + "\n")
    for video in VIDEOS:
        for frame in FRAMES:
            target = fusion.Labels.folder(folder / "labels").read(video, frame)
            target[:, 9:14] = (target[:, 9:14] + 1) % 4
            target[2:4] = 255
            write_labels(folder / "second" / video / f"{frame}.png", target)
    return folder


def write_underrated(folder: Path) -> Path:
    """Three models of which each underrates the class "tree", which is rare, in eight videos."""
    draw = np.random.default_rng(0)
    ids = {f"v{k}": draw.choice(4, NATIVE, p=[0.32, 0.32, 0.28, 0.08]) for k in range(8)}
    for video, some in ids.items():
        write_labels(
            folder / "labels" / video / "0.png", np.kron(some, np.ones((4, 4))).astype(np.uint8)
        )
    for k, name in enumerate(("strong", "weak", "auxiliary")):
        with fusion.LogitWriter(folder / f"{name}.zarr", CLASSES) as writer:
            for video, some in ids.items():
                with writer.video(video, frames=("0",), size=SIZE) as out:
                    truth = np.eye(4)[some].transpose(2, 0, 1)
                    logits = 3.0 * truth + draw.normal(0, 0.9 + 0.1 * k, truth.shape)
                    logits[3] -= 3.0
                    out.append(logits)
    lines = [f'{name} = ["{name}.zarr"]' for name in ("strong", "weak", "auxiliary")]
    (folder / "three.toml").write_text("[groups]\n" + "\n".join(lines) + "\n")
    return folder


def write_channels(folder: Path) -> Path:
    """Two models of two overlapping regions of three ids, and a class map that says so."""
    draw = np.random.default_rng(3)
    ids = {(v, f): draw.integers(0, 3, NATIVE) for v in VIDEOS for f in FRAMES}
    for (video, frame), some in ids.items():
        target = np.kron(some, np.ones((4, 4))).astype(np.uint8)
        write_labels(folder / "labels" / video / f"{frame}.png", target)
    regions = {"core": [1], "whole": [1, 2]}
    (folder / "map.json").write_text(json.dumps({"regions": regions}))
    for k in range(2):
        path = folder / f"net_{k}.zarr"
        with fusion.LogitWriter(path, [*regions], values="sigmoid") as writer:
            for video in VIDEOS:
                with writer.video(video, frames=FRAMES, size=SIZE) as out:
                    for frame in FRAMES:
                        there = np.stack([np.isin(ids[video, frame], r) for r in regions.values()])
                        out.append(3.0 * there - 1 + draw.normal(0, 1.0 + k, there.shape))
    lines = [f'{name} = ["net_{k}.zarr"]' for k, name in enumerate(("strong", "weak"))]
    (folder / "ensemble.toml").write_text("[groups]\n" + "\n".join(lines) + "\n")
    return folder


def search(folder: Path, *said: str, groups: str = "three.toml", out: str = "results") -> Path:
    """Runs the command on a folder of data; returns that of the results."""
    given = ["--ensemble", folder / groups, "--labels", folder / "labels", "--out", folder / out]
    assert cli.run(main, [*map(str, given), *said]) == 0
    return folder / out


def same_facts(mine: Facts, facts: Facts) -> None:
    """Equal in every number, nan to nan."""
    np.testing.assert_equal(asdict(mine), asdict(facts))
