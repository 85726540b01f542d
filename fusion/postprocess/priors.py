"""Other class priors than those that models were trained under: given, uniform, or estimated.

    P'_c = P_c (target_c / source_c)^tau / sum_k P_k (target_k / source_k)^tau

`estimated` finds the priors of the data that an ensemble is run on, without their labels.
N pixels, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from fusion.errors import InputError
from fusion.postprocess.classes import ByClass, by_class
from fusion.postprocess.operation import MAPS, Operation, Stream, Video, parameter
from fusion.postprocess.pipeline import Pipeline

LEAST = 1e-12  # a prior that is smaller counts as this
FRAMES = 20  # of a video that are looked at for an estimate
ROUNDS, CLOSE = 2000, 1e-8  # of EM: the most, and the change of priors that ends it


@dataclass(frozen=True)
class Priors(Operation):
    """Probabilities under target priors: P'_c proportional to P_c (target_c / source_c)^tau.

    A uniform target divides by source^tau, which raises rare classes: post-hoc logit adjustment.
    """

    name: ClassVar = "priors"
    about: ClassVar = "probabilities under other class priors than the training's"
    stage: ClassVar = MAPS
    channels: ClassVar = False
    reference: ClassVar = (
        "Saerens, Latinne and Decaestecker, Neural Computation 2002, equation 2.4; "
        "Menon et al., Long-tail learning via logit adjustment, ICLR 2021, section 4.1"
    )

    tau: float = parameter(
        1.0, "power of the ratios, 0 for none", low=0, high=2, grid=(0.1, 0.25, 0.5, 1.0)
    )
    source: Mapping[str, float] | tuple[float, ...] = parameter(
        {}, "priors of the training, of every class; tuning takes them from labels"
    )
    target: Mapping[str, float] | tuple[float, ...] = parameter(
        {}, "priors to be, of every class; none: uniform"
    )

    def check(self, classes: Sequence[str], *, independent: bool) -> None:
        super().check(classes, independent=independent)
        if not self.source:
            do = "give source={class: share of pixels}, or tune it on labels"
            raise InputError(f"priors: no source, the priors that models were trained under; {do}")
        _shares("priors: source", self.source, classes)
        if self.target:
            _shares("priors: target", self.target, classes)

    def fitted(self, rows: Sequence[int] | Mapping[str, int]) -> Self:
        """With the labels' frequencies as source, unless it has one.

        Args:
            rows: labelled pixels of every class, in their order or by name; each counts as one
                more (Laplace), so that none is 0.
        """
        if self.source:
            return self
        names = list(rows) if isinstance(rows, Mapping) else None
        counts = np.asarray(list(rows.values()) if isinstance(rows, Mapping) else rows, np.float64)
        shares = ((counts + 1) / (counts + 1).sum()).tolist()
        source = tuple(shares) if names is None else dict(zip(names, shares, strict=True))
        return replace(self, source=source)

    def factors(self, classes: Sequence[str]) -> NDArray[np.float64]:
        """What the probability of each class is multiplied by, the largest 1."""
        target = _shares("priors: target", self.target or (1.0,) * len(classes), classes)
        ratios = np.log(target) - np.log(_shares("priors: source", self.source, classes))
        return np.asarray(np.exp(self.tau * (ratios - ratios.max())), np.float64)

    def apply(self, stream: Stream, video: Video) -> Stream:
        plain = torch.from_numpy(self.factors(video.classes).astype(np.float32))[:, None, None]
        for frame in stream:
            scaled = frame.values * plain.to(frame.values.device)
            yield frame.having(scaled / scaled.sum(0, keepdim=True))


def _shares(what: str, given: ByClass, classes: Sequence[str]) -> NDArray[np.float64]:
    """Priors [C] that sum to 1; InputError: a class without one, or all 0."""
    if isinstance(given, Mapping):
        missing = [name for name in classes if name not in given]
        if missing and len(given):
            by_class(what, given, classes, 0, 0, np.inf)  # a name misspelt is said first
            raise InputError(f"{what}: none of {missing[0]!r}; give one of every class")
    shares = np.array(by_class(what, given, classes, 0, 0, np.inf))
    if not shares.sum() > 0:
        raise InputError(f"{what}: all are 0; give shares of pixels")
    return np.maximum(shares / shares.sum(), LEAST)


def estimate_priors(samples: NDArray[np.floating], source: Sequence[float]) -> NDArray[np.float64]:
    """The priors that make probabilities of unlabelled samples most likely, by EM.

    Saerens, Latinne and Decaestecker, Neural Computation 2002, equation 2.9; it starts at `source`
    and cannot find a class that has no probability anywhere. Probabilities must be calibrated for
    the estimate to be worth anything.

    Args:
        samples: [N, C] probabilities under the source priors.
        source: C priors, each above 0.

    Returns:
        Target priors [C], which sum to 1.

    Raises:
        InputError: other shapes, no samples, or numbers that are no probabilities.
    """
    some, old = np.asarray(samples, np.float64), np.asarray(source, np.float64)
    if some.ndim != 2 or not len(some) or old.shape != some.shape[1:]:
        got = f"samples {list(some.shape)}, source {list(old.shape)}"
        raise InputError(f"priors: got {got}; give [N, C] and [C], N above 0")
    if not (np.isfinite(some).all() and (some >= 0).all() and (some.sum(1) > 0).all()):
        raise InputError("priors: samples hold what is no probability; give softmaxes")
    if not (np.isfinite(old).all() and (old > 0).all()):
        raise InputError(f"priors: source is {old.tolist()!r:.60}; give numbers above 0")
    old = old / old.sum()
    likelihood, new = some / old, old  # up to a factor a sample, which cancels
    for _ in range(ROUNDS):
        before = new
        # mean over samples of P_k new_k / sum: products with a vector, no [N, C] in between
        new = new * (likelihood.T @ (1 / (likelihood @ new))) / len(some)
        new = new / new.sum()
        if np.abs(new - before).max() < CLOSE:
            break
    return np.asarray(new, np.float64)


class Fusing(Protocol):
    """What is asked of an ensemble."""

    classes: tuple[str, ...]
    channels: tuple[str, ...] | None
    videos: tuple[str, ...]
    postprocess: Pipeline

    def frames(self, video: str) -> tuple[str, ...]: ...
    def size(self, video: str) -> tuple[int, int]: ...
    def stream(
        self, video: str, frames: Sequence[str] | None = None, outputs: Sequence[str] = ...
    ) -> Iterable[Any]: ...
    def with_postprocess(self, postprocess: Pipeline) -> Self: ...


Some = TypeVar("Some", bound=Fusing)


def estimated(
    ensemble: Fusing,
    source: ByClass,
    videos: Sequence[str] | None = None,
    pixels: int = 100_000,
) -> dict[str, float]:
    """The class priors of the data that an ensemble is run on, without labels of these.

    Args:
        ensemble: whose fused probabilities are looked at, after those of its operations that come
            before `priors`.
        source: priors of the training, by class or in their order.
        videos: which; default all, and none is refused.
        pixels: about how many are drawn, from at most 20 frames a video, each as often as its size
            and length say; the same every time.

    Returns:
        Target priors by class, for `Priors(source=source, target=...)`.

    Raises:
        InputError: independent channels, no videos, or priors that are none.
    """
    if ensemble.channels is not None:
        raise InputError("priors: independent channels have none that sum to 1; leave it out")
    some = list(ensemble.videos if videos is None else videos)
    if not some:
        raise InputError("priors: got videos=[], nothing to look at; leave it out for all of them")
    prior = _shares("priors: source", source, ensemble.classes)
    before: list[Operation] = []
    for each in ensemble.postprocess:
        if isinstance(each, Priors) or each.stage != MAPS:
            break
        before.append(each)
    plain = ensemble.with_postprocess(Pipeline(tuple(before)))
    found = estimate_priors(_drawn(plain, some, pixels), prior.tolist())
    return dict(zip(ensemble.classes, found.tolist(), strict=True))


def with_estimated(
    ensemble: Some, videos: Sequence[str] | None = None, pixels: int = 100_000
) -> Some:
    """The ensemble with estimated target priors in its `priors`, as numbers that are saved.

    Args:
        ensemble: with an operation `priors` that has a source.
        videos, pixels: as `estimated` takes them.

    Raises:
        InputError: no such operation.
    """
    operations = list(ensemble.postprocess)
    places = [k for k, each in enumerate(operations) if isinstance(each, Priors)]
    if not places:
        do = "give postprocess=[{'operation': 'priors', 'source': {...}}]"
        raise InputError(f"priors: the ensemble's postprocess is {ensemble.postprocess}; {do}")
    own = operations[places[0]]
    assert isinstance(own, Priors)
    target = estimated(ensemble, own.source, videos, pixels)
    operations[places[0]] = replace(own, target=target)
    return ensemble.with_postprocess(Pipeline(tuple(operations)))


def _drawn(ensemble: Fusing, videos: Sequence[str], pixels: int) -> NDArray[np.float32]:
    """About so many pixels' probabilities [N, C], band by band."""
    draw, some = np.random.default_rng(0), []
    weight = {v: len(ensemble.frames(v)) * int(np.prod(ensemble.size(v))) for v in videos}
    whole = sum(weight.values())
    for video in videos:
        names = ensemble.frames(video)
        every = max(1, -(-len(names) // FRAMES))
        frames, size = names[::every], int(np.prod(ensemble.size(video)))
        share = pixels * weight[video] / max(whole, 1) / max(len(frames) * size, 1)
        for _, _, fused in ensemble.stream(video, frames, ("probabilities",)):
            flat = fused.probabilities.flatten(1)
            number = draw.binomial(flat.shape[1], min(1.0, share))
            chosen = torch.from_numpy(np.sort(draw.choice(flat.shape[1], number, replace=False)))
            values = flat[:, chosen.to(flat.device)].T.cpu().numpy()
            some.append(values[np.isfinite(values).all(1)])  # void ones are left out
    return np.concatenate(some) if some else np.zeros((0, len(ensemble.classes)), np.float32)
