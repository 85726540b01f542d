"""Something with an ensemble's interface: any classes, channels and geometry, without stores."""

from __future__ import annotations

import copyreg
import hashlib
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import torch

from fusion.ensemble import Ensemble
from fusion.ensemble.channels import outcome_names
from fusion.postprocess import NOTHING

SIZES = {"case": (5, 6), "scan": (5, 6), "image": (7, 4), "long": (3, 8)}
FRAMES = {
    "case": ("f2", "f10", "f1"),  # stored order is no sorted one
    "scan": ("00000", "00001"),
    "image": ("image",),
    "long": tuple(f"{t:03d}" for t in range(5)),
}
AFFINE = [[0.0, -0.7, 0.1, 10.0], [0.8, 0.0, 0.0, -20.0], [0.0, 0.1, 2.5, 30.0], [0.0, 0, 0, 1]]
VOLUME = {"kind": "nifti", "affine": AFFINE, "spacing": [2.5, 0.7, 0.8]}
RASTER = {"kind": "geotiff", "crs": "EPSG:32633", "transform": [10.0, 0, 4e5, 0, -10.0, 5e6]}


@dataclass(eq=False)
class FakeStore:
    geometry: dict
    frames: dict
    seed: int

    def describe(self, video):
        return SimpleNamespace(geometry=self.geometry.get(video), frames=self.frames[video])

    def digest(self, videos):
        return f"{self.seed} {videos}"


@dataclass
class FakeEnsemble(Ensemble):
    """Random maps that depend on seed, video and frame alone.

    classes: their number. independent: whether they are channels. geometry: by video. stops: the
    frame at which it is interrupted, the `passes`-th time it is asked for. worked: frames that were
    asked for.
    """

    number: int = 4
    independent: bool = False
    geometry: dict = field(default_factory=dict)
    videos: tuple = ("case", "image", "long")
    frames_of: dict = field(default_factory=lambda: FRAMES)
    seed: int = 0
    stops: object = None
    passes: int = 1
    worked: list = field(default_factory=list)
    resize: str = "probabilities"
    mean: str = "arithmetic"
    weights: dict = field(default_factory=lambda: {"all": 1.0})
    multipliers: object = None
    head: object = None

    def __post_init__(self):
        names = tuple(f"class {c}" for c in range(self.number))
        self.channels = names if self.independent else None
        self.classes = outcome_names(names) if self.independent else names
        self.stores = (FakeStore(self.geometry, self.frames_of, self.seed),)
        self.temperatures, self.groups = (1.0,), {"all": list(self.stores)}
        self.postprocess = NOTHING

    def __reduce__(self):
        """As plain objects travel: there are no stores to open again."""
        return copyreg.__newobj__, (type(self),), vars(self)

    def __setstate__(self, state):
        vars(self).update(state)

    def sharing(self, scheduler):
        return self

    def frames(self, video):
        return self.frames_of[video]

    def size(self, video):
        return SIZES.get(video, (5, 6))

    def probabilities(self, video, frame):
        key = hashlib.sha256(repr((self.seed, video, frame)).encode()).digest()
        draw = np.random.default_rng(list(key))
        made = draw.random((self.number, *self.size(video))).astype(np.float32)
        return made if self.independent else made / made.sum(axis=0)

    def labels(self, video, frame):
        made = self.probabilities(video, frame)
        if self.independent:
            return (made > 0.5).astype(np.uint8)
        return made.argmax(axis=0).astype(np.uint8 if self.number <= 255 else np.uint16)

    def _asked(self, video, frame):
        if frame == self.stops:
            self.passes -= 1
            if self.passes == 0:
                raise KeyboardInterrupt
        self.worked.append((video, frame))

    def label_maps(self, video, frames=None):
        for frame in frames or self.frames(video):
            self._asked(video, frame)
            yield frame, self.labels(video, frame)

    def stream(self, video, frames=None, outputs=("labels",)):
        """In two bands a frame, as tensors."""
        for frame in frames or self.frames(video):
            self._asked(video, frame)
            p, (height, _) = self.probabilities(video, frame), self.size(video)
            top = np.sort(p, axis=0)
            made = {"labels": self.labels(video, frame), "confidence": top[-1]}
            made |= {"margin": top[-1] - top[-2], "entropy": -(p * np.log(p)).sum(axis=0)}
            for rows in ((0, height // 2), (height // 2, height)):
                parts = {name: torch.from_numpy(made[name][slice(*rows)]) for name in outputs}
                yield frame, rows, SimpleNamespace(**parts)

    def probability_maps(self, video, frames=None):
        for frame in frames or self.frames(video):
            self._asked(video, frame)
            yield frame, self.probabilities(video, frame)
