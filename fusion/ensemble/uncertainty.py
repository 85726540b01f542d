"""How sure an ensemble is of a pixel, as maps; models one after the other.

H W label pixels, F the fused probabilities, p_m those of member m as it alone would give them at
the labels' resolution, H(p) = -sum_c p_c log p_c in nats.

    entropy         H(F), 0 .. log C
    margin          largest minus second of F, 0 .. 1
    confidence      largest of F, 0 .. 1
    disagreement    H(sum_m w_m p_m) - sum_m w_m H(p_m), 0 .. log C: the mutual information between
                    the class and the model that is asked; 0 where all members say the same

A member of group g weighs w_m = w_g / (n_g sum_g w_g), n_g the number of its models; one that
stands in several groups weighs the sum. So disagreement inside a group counts by the weight of the
group. It is that of the weighted mixture, whatever mean the ensemble takes over groups; what a head
makes is no mixture and has none.

Source: Houlsby et al., "Bayesian Active Learning for Classification and Preference Learning"
(2011), equation 1, over an ensemble as in Lakshminarayanan et al., "Simple and Scalable Predictive
Uncertainty Estimation using Deep Ensembles" (2017).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fusion.ensemble.plan import make_plan
from fusion.errors import InputError
from fusion.text import did_you_mean

if TYPE_CHECKING:
    from fusion.ensemble.ensemble import Ensemble
    from fusion.ensemble.stream import Band, Fusion
    from fusion.stores import Store

DISAGREEMENT = "disagreement"
OF_FUSED = ("entropy", "margin", "confidence")
KINDS = (*OF_FUSED, DISAGREEMENT)
Named = Iterator[tuple[str, dict[str, np.ndarray]]]  # frame id, [H, W] by name


def uncertainty_maps(
    ensemble: Ensemble,
    video: str,
    frames: Sequence[str] | None = None,
    kinds: Sequence[str] = KINDS,
) -> Named:
    """(frame id, float32 [H, W] by kind) one after the other.

    Args:
        ensemble: of classes that exclude each other.
        video: its id.
        frames: ids; default all.
        kinds: of KINDS.

    Returns:
        An iterator that holds the maps of one frame beside what the memory plan says.

    Raises:
        InputError: another kind; independent channels, scores, disagreement of a head; memory in
        which a frame does not fit, of which disagreement beside other maps takes twice.
    """
    check_kinds(ensemble, kinds)
    wanted = list(ensemble.frames(video) if frames is None else frames)
    fused, both = [kind for kind in kinds if kind != DISAGREEMENT], DISAGREEMENT in kinds
    if not both:
        return whole_frames(ensemble.stream(video, wanted, fused), ensemble.size(video), fused)
    if not fused:
        return _disagreement(ensemble, video, wanted, ensemble.memory)
    half = ensemble.sharing("synchronous")
    half.memory, half.workers = ensemble.memory // 2, ensemble.workers
    try:
        half.plan(video, fused)
    except InputError:
        got = f"{ensemble.memory} bytes are too few for disagreement beside other maps"
        raise InputError(f"memory: {got}; give more, or ask for it alone") from None
    one = whole_frames(half.stream(video, wanted, fused), ensemble.size(video), fused)
    other = _disagreement(ensemble, video, wanted, half.memory)
    return ((name, a | b) for (name, a), (_, b) in zip(one, other, strict=True))


def check_kinds(ensemble: Ensemble, kinds: Sequence[str]) -> None:
    """InputError where an ensemble has no maps of a kind."""
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise InputError(f"uncertainty: no map {unknown[0]!r}{did_you_mean(unknown[0], KINDS)}")
    if not kinds or len(set(kinds)) < len(kinds):
        raise InputError(f"uncertainty: got {list(kinds)}; give kinds of {KINDS}, each once")
    check_exclusive(ensemble, "uncertainty")
    if DISAGREEMENT in kinds and ensemble.head is not None:
        got = "a head weighs no models, so there is no mixture to disagree with"
        raise InputError(f"uncertainty: {got}; leave out {DISAGREEMENT!r}")


def check_exclusive(ensemble: Ensemble, where: str) -> None:
    """InputError where a pixel has no one distribution over classes."""
    if ensemble.channels is not None:
        got = "independent channels have no distribution over classes"
        raise InputError(f"{where}: {got}; write their probabilities (npy or npz) instead")
    odd = [s for s in ensemble.stores if getattr(s, "kernel_values", "logits") != "logits"]
    if odd:
        got = f"{odd[0].place} holds scores, which are no probabilities"
        raise InputError(f"{where}: {got}; write it with values='probabilities'")


def largest(kind: str, classes: int) -> float:
    """What a map's values cannot exceed."""
    return math.log(classes) if kind in ("entropy", DISAGREEMENT) else 1.0


def whole_frames(bands: Iterator[Band], size: tuple[int, int], outputs: Sequence[str]) -> Named:
    """Bands of [H, W] outputs put together."""
    made: dict[str, np.ndarray] = {}
    for frame, (first, end), fused in bands:
        for name in outputs:
            rows = getattr(fused, name).cpu().numpy()
            if first == 0:
                made[name] = np.empty(size, rows.dtype)
            made[name][first:end] = rows
        if end == size[0]:
            yield frame, made
            made = {}


def shares(ensemble: Ensemble) -> dict[Store, float]:
    """What every member weighs in the mixture, summing to 1; members of weight 0 left out."""
    found: dict[Store, float] = {}
    for name, stores in ensemble.groups.items():
        for store in stores if ensemble.weights[name] > 0 else ():
            found[store] = found.get(store, 0.0) + ensemble.weights[name] / len(stores)
    total = math.fsum(found.values())
    return {store: share / total for store, share in found.items()}


def _disagreement(ensemble: Ensemble, video: str, frames: Sequence[str], memory: int) -> Named:
    """Frame by frame; of each the mixture first, then its members, each within `memory`."""
    mixture = replace(ensemble.recipe, mean="arithmetic", multipliers=None)
    weights = shares(ensemble)
    for frame in frames:
        made = _entropy(ensemble, mixture, video, frame, memory)
        for store, share in weights.items():
            alone = replace(mixture, groups={"": [store]}, weights={"": 1.0})
            made -= share * _entropy(ensemble, alone, video, frame, memory)
        yield frame, {DISAGREEMENT: np.maximum(made, 0).astype(np.float32)}


def _entropy(ensemble: Ensemble, fusion: Fusion, video: str, frame: str, memory: int) -> np.ndarray:
    """Of a fusion's own probabilities, float64 [H, W]."""
    stores = {store for group in fusion.groups.values() for store in group}
    used = [store for store in ensemble.stores if store in stores]
    shapes = [store.describe(video).frame_shape for store in used]
    items, size = [store.item_bytes for store in used], ensemble.size(video)
    outputs = ("entropy",)
    plan = make_plan(shapes, items, len(fusion.groups), size, outputs, memory, ensemble.workers)
    ((_, made),) = whole_frames(fusion.bands(video, [frame], plan), size, outputs)
    return made["entropy"].astype(np.float64)
