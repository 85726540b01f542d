"""A first minute with what a search is for, on simulated streets whose truth is known.

Five networks of two families label clips of eight classes. They are made up; how they err is not:
what 22 real networks do on video that they were not trained for was measured (`measured`), and the
simulation is held to it by a test: how often networks agree, and err alike within a family and
across; which class is taken for which; rare classes, borders, whole patches, confidence, flicker.

Why fusing helps there is what helps in reality. A part of every error is shared by all networks,
and nothing removes it. A part is shared by a family, and a part is a network's own: means over
networks lessen these. Networks differ in skill, so a mean of all may well be worse than the best.
They were trained elsewhere, so some classes are overrated and some rare ones are hardly seen, by
all of them and on every video: multipliers of classes mend part of that. And what a network takes a
class for is its habit: a head learns habits, as far as they hold on other videos. Nothing here
knows what the search will try. The fit to the real networks knew of no gain but that of the mean of
all; by what multipliers and heads gain, README's table of these networks is alike.

`scenes` what is on the street; `networks` what networks make of it; `known` what is true of all
such videos; `pictures` frames to look at; `ending` what the demo says when it is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fusion.demo.networks import FAMILIES, evidence, networks
from fusion.demo.scenes import CLASSES, SIZE, Scene, random
from fusion.labels import write_labels
from fusion.parallel import one_thread
from fusion.stores import LogitWriter

__all__ = [
    "FAMILIES",
    "FOLDS",
    "FRAMES",
    "GROUPS",
    "MODELS",
    "OPENING",
    "VIDEOS",
    "random",
    "scenes_of",
    "write",
]

# Large enough for folds to judge heads (8 videos and more), small enough for a minute on two cores.
# With 124 classes and 22 models, as the paper has, a minute sees so few videos that most classes
# hardly occur in them, and nothing can be told from chance.
VIDEOS, FRAMES = 12, 8  # of a split; of a video
FOLDS = 3  # each trains heads again, which takes most of the time
MODELS = sum(FAMILIES.values())
BASIC, OTHER = FAMILIES
GROUPS = {"strong": 2, "auxiliary": 2}  # sizes; the basic family's others are weak
OPENING = (
    f"{MODELS} simulated networks of two families label street scenes: {VIDEOS} clips to search on "
    f"(val) and {VIDEOS} more (test). They are made up; how often, where and how alike they err "
    "is not: it was measured on 22 real networks."
)


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
    with one_thread():
        seen = {scene.video: evidence(scene) for scene in scenes}
    for network in networks():
        path = folder / split / f"{network.name}.zarr"
        writer = LogitWriter(path, CLASSES, provenance={"simulated": True})
        for scene in scenes:
            with one_thread(), writer.video(scene.video, frames=frames, size=SIZE) as out:
                for logits in () if out.committed else network.logits(scene, seen[scene.video]):
                    out.append(logits)
            yield scene.video
