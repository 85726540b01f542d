"""A first minute with what a search is for, on simulated streets whose truth is known.

Five networks of two families label clips of eight classes. They are made up; how they err is not:
what 22 real networks do on video that they were not trained for was measured (`measured`), and the
simulation is held to it by a test: how often networks agree, and err alike within a family and
across; which class is taken for which; rare classes, borders, whole patches, confidence, flicker.

Why fusing helps there is what helps in reality. A part of every error is shared by all networks,
and nothing removes it. A part is shared by a family, and a part is a network's own: means over
networks lessen these. Networks differ in skill, so a mean of all may well be worse than the best.
All of them were trained elsewhere, so all overrate the same classes, on every video: multipliers of
classes mend that. And what a network takes a class for is its habit on every video: a head learns
the habits. Nothing here knows what the search will try.

`scenes` what is on the street; `networks` what networks make of it; `known` what is true of all
such videos; `pictures` frames to look at; `ending` what the demo says when it is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fusion.demo.networks import FAMILIES, evidence, networks
from fusion.demo.scenes import CLASSES, SIZE, Scene, random
from fusion.labels import write_labels
from fusion.stores import LogitWriter

__all__ = [
    "FAMILIES",
    "FRAMES",
    "GROUPS",
    "MODELS",
    "OPENING",
    "VIDEOS",
    "random",
    "scenes_of",
    "write",
]

# Large enough for folds to judge heads (8 videos), small enough for a minute on two cores: 124
# classes, as the paper has, take longer, and with few videos most of them hardly occur.
VIDEOS, FRAMES = 10, 8  # of a split; of a video
MODELS = sum(FAMILIES.values())
BASIC, OTHER = FAMILIES
OPENING = f"""\
{MODELS} simulated networks of two families label street scenes, {VIDEOS} clips to search on (val)
and {VIDEOS} more (test). They are made up; how often and how alike they err is not: it was
measured on 22 real networks."""
GROUPS = {"strong": 2, "auxiliary": 2}  # sizes; the basic family's others are weak


def scenes_of(split: str) -> list[Scene]:
    """The clips of a split."""
    return [Scene(split, index, FRAMES) for index in range(VIDEOS)]


def write(folder: Path, split: str) -> Iterator[str]:
    """Fills folder/<split>/<model>.zarr and folder/labels/<split>, keeps what is there already.

    Yields the name of each video of each model.
    """
    scenes = scenes_of(split)
    frames = [f"{t:05d}" for t in range(FRAMES)]
    for scene in scenes:
        for frame, target in zip(frames, scene.targets, strict=True):
            path = folder / "labels" / split / scene.video / f"{frame}.png"
            write_labels(path, target, overwrite=True)
    seen = {scene.video: evidence(scene) for scene in scenes}
    for network in networks():
        path = folder / split / f"{network.name}.zarr"
        writer = LogitWriter(path, CLASSES, provenance={"simulated": True})
        for scene in scenes:
            with writer.video(scene.video, frames=frames, size=SIZE) as out:
                for logits in () if out.committed else network.logits(scene, seen[scene.video]):
                    out.append(logits)
            yield scene.video
