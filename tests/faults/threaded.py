"""Work that many threads do at once on the same inputs: THREADED[name]() makes it, what it returns
does it and gives arrays, flips in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fusion import kernels
from fusion.kernels import contested, resized, sweep
from fusion.kernels.arithmetic import HEAD_OUTPUTS, OUTPUTS, Fused
from fusion.kernels.contested import layout, naive
from fusion.kernels.contested.layout import Parts
from tests.contested.cases import probabilities, some_targets
from tests.kernels.inputs import make
from tests.kernels.resized.test_resized import frames_of, vectors

Work = Callable[[], Sequence[Any]]
CLASSES = 7


def arrays(fused: Fused) -> list[np.ndarray]:
    return [tensor.numpy() for tensor in fused.asked().values()]


def average(kind: str, outputs: Sequence[str]) -> Work:
    maps, values = make(kind, 3, CLASSES, (3, 50, 160))
    how = {"values": values, "outputs": outputs, "groups": [[0, 2], [1]]}
    return lambda: arrays(kernels.softmax_average(maps, [1.0, 2.0], **how))


def upsample(resize: str, outputs: Sequence[str]) -> Work:
    maps, _ = make("float16", 3, CLASSES, (20, 30))
    how = {"resize": resize, "outputs": outputs}
    size = (80, 120)
    return lambda: arrays(kernels.upsample_softmax_average(maps, [1.0, 2.0, 1.0], size, **how))


def head() -> Work:
    maps, _ = make("float32", 2, CLASSES, (9000,))
    mixing, bias = np.ones((2, CLASSES, CLASSES)) / 9, np.ones(CLASSES)
    return lambda: arrays(kernels.head(maps, mixing, bias, outputs=HEAD_OUTPUTS))


def confusion(kind: str) -> Work:
    ids = np.random.default_rng(0).integers(0, CLASSES, (2, 300_000)).astype(kind)
    return lambda: [kernels.confusion(*ids, CLASSES)]


def pixels() -> tuple[np.ndarray, np.ndarray]:
    return probabilities(3, CLASSES, 4000, agree=1.0), some_targets(CLASSES, 4000).astype(np.uint16)


def condense() -> Work:
    means, targets = pixels()
    names = ("constant", "counts", "targets", "classes", "means")

    def work() -> list[np.ndarray]:
        block = contested.condense(means, targets, 255)
        return [getattr(block, name) for name in names]

    return work


def parts() -> Parts:
    runs = layout.runs(naive.condense(*pixels(), 255))
    cut = [piece for run in runs for piece in run.cut(3, 8)]
    return Parts([(k % 2, run) for k, run in enumerate(cut)])


def counts() -> Work:
    some, weights = parts(), np.random.default_rng(0).dirichlet(np.ones(3), 9)
    factors = np.ones((9, CLASSES), np.float32)
    how = {"videos": 2, "multipliers": factors}
    return lambda: [contested.count(some, weights, CLASSES, **how)]


def flips(found: sweep.Flips) -> list[np.ndarray]:
    return [np.sort(found.flips), found.statistics]


def along() -> Work:
    some, ends = parts(), tuple(np.random.default_rng(0).dirichlet(np.ones(3), 2))
    return lambda: flips(sweep.flips(some, ends, CLASSES, 0.1, 0.9, 10**5, 2))


def to_a_class() -> Work:
    some, weights, ones = parts(), np.ones(3) / 3, np.ones(CLASSES)
    return lambda: flips(sweep.class_flips(some, weights, ones, 2, -2.0, 2.0, 10**5, 2))


def sums() -> Work:
    frames = frames_of((9, 13), (36, 52), classes=CLASSES, frames=6)
    weights, ones = vectors(9, 4), np.ones((9, CLASSES), np.float32)
    return lambda: [
        resized.count(frames, weights, ones),
        *flips(resized.flips(frames, (weights[0], weights[1]), ones[0], 0.1, 0.9, 10**5)),
    ]


THREADED: dict[str, Callable[[], Work]] = {
    "average, floats": lambda: average("float32", OUTPUTS[:4]),
    "average, labels of codes": lambda: average("codes", ("labels",)),
    "average, labels of mixed": lambda: average("mixed", ("labels", "group_means")),
    "average, labels of halves": lambda: average("float16", ("labels",)),
    "head": head,
    "logits, labels": lambda: upsample("logits", ("labels",)),
    "logits, maps": lambda: upsample("logits", ("probabilities",)),
    "probabilities, labels": lambda: upsample("probabilities", ("labels",)),
    "confusion, bytes": lambda: confusion("u1"),
    "confusion, others": lambda: confusion("i4"),
    **{"condense": condense, "count": counts, "flips": along, "flips to a class": to_a_class},
    "sums": sums,
}
