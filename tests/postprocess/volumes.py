"""Volumes of labels, and their components by scipy: what tests of components share."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from fusion.kernels.arithmetic import Fused
from fusion.postprocess import Frame, Video
from tests.postprocess.contract import CLASSES, frames_of, make_video

ORDER = {4: (2, 1), 8: (2, 2), 6: (3, 1), 18: (3, 2), 26: (3, 3)}  # scipy's ranks
VOID = 255
VOLUMES = arrays.arrays(
    np.uint8,
    arrays.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6),
    elements=st.sampled_from([0, 0, 0, 1, 1, 2, VOID]),
)


def video_of(volume, classes=CLASSES[:3], independent=False):
    size = volume.shape[-2:]
    return Video("v", tuple(f"{z:03d}" for z in range(len(volume))), size, classes, independent)


def run(operation, volume, video=None):
    """A volume [Z, Y, X], or [Z, C, Y, X] of channels, through an operation."""
    video = video_of(volume) if video is None else video
    frames = [Frame(name, values) for name, values in zip(video.frames, volume, strict=True)]
    made = list(operation.apply(iter(frames), video))
    assert [frame.name for frame in made] == list(video.frames)
    assert all(frame.values.dtype == volume.dtype for frame in made)
    return np.stack([frame.values for frame in made])


def blocks(operation, volume):
    """What components are of: the volume, or slice by slice; as [Z, Y, X] each."""
    return [volume] if operation.dimensions == 3 else [plane[None] for plane in volume]


def structure(connectivity):
    rank, order = ORDER[connectivity]
    made = ndimage.generate_binary_structure(rank, order)
    return made if rank == 3 else np.stack([np.zeros_like(made), made, np.zeros_like(made)])


def components(block, connectivity, labels):
    """[(label, mask)] of every component, by scipy."""
    found = []
    for label in labels:
        ids, number = ndimage.label(block == label, structure(connectivity))
        found += [(label, ids == k) for k in range(1, number + 1)]
    return found


def make_operation(kind, connectivity, **options):
    dimensions = ORDER[connectivity][0]
    return kind(dimensions=dimensions, connectivity=connectivity, **options)


class HeldThroughout:
    """Contract of operations that read the whole video first: what lies in memory is counted."""

    def test_it_holds_no_more_frames_than_it_says(self, tmp_path):
        video, alive, most = make_video(frames=40), set(), 0

        def source():
            nonlocal most
            for k, frame in enumerate(frames_of(self.operation, video)):
                values = frame.values.copy()
                alive.add(k)
                weakref.finalize(values, alive.discard, k)
                fresh = Frame(frame.name, values, frame.beside)
                del values
                yield fresh
                del fresh
                gc.collect()
                most = max(most, len(alive))

        assert sum(1 for _ in self.operation.apply(source(), video)) == 40
        assert most <= self.operation.holds(video)

    def test_what_lies_beside_comes_back(self):
        video = make_video(frames=3)
        soft = [torch.rand(5, 24, 32) for _ in range(3)]
        frames = [
            Frame(frame.name, frame.values, Fused(probabilities=p, confidence=p[0]))
            for frame, p in zip(frames_of(self.operation, video), soft, strict=True)
        ]
        for frame, expected in zip(self.operation.apply(iter(frames), video), soft, strict=True):
            assert torch.equal(frame.beside.probabilities, expected)
            assert torch.equal(frame.beside.confidence, expected[0])
            assert frame.beside.margin is None

    def test_it_looks_at_other_frames(self):
        assert self.operation.temporal
