"""Fused probabilities at the stores' own resolution, of which label maps are interpolations.

Interpolation is linear: that of a weighted sum is the weighted sum of interpolations, and what a
head makes is interpolated anyway. So a store of these, 16 times smaller than one at the labels'
resolution where stores keep a quarter of the sides, gives the ensemble's own label maps again, but
for its codes. Where it would not, there is an InputError.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fusion.errors import InputError
from fusion.postprocess.operation import PROBABILITIES
from fusion.text import listed

if TYPE_CHECKING:
    from fusion.ensemble.ensemble import Ensemble

AT = ("labels", "stores")
LABELS, STORES = AT
DO = "use at='labels'"


def native_size(ensemble: Ensemble, video: str) -> tuple[int, int]:
    """(h, w) of a video's fused probabilities, if label maps are interpolations of them.

    InputError: groups, or logits, are fused after they were interpolated, or postprocessed then.
    """
    if after := ensemble.postprocess.of(PROBABILITIES):
        got = f"{after[0].name!r} works on what is interpolated already"
        raise InputError(f"at='stores': postprocess {got}; {DO}")
    if ensemble.mean != "arithmetic" or ensemble.resize != "probabilities":
        how = f"mean={ensemble.mean!r}, resize={ensemble.resize!r}"
        raise InputError(f"at='stores': {how} fuse what is interpolated already; {DO}")
    sizes = ensemble.native_sizes(video)
    if len(sizes) > 1 and ensemble.head is None:
        got = f"video {video!r} is kept in {listed(f'{h}x{w}' for h, w in sorted(sizes))}"
        raise InputError(f"at='stores': {got}, which interpolating twice would change; {DO}")
    return ensemble.grid(video)


def native_maps(
    ensemble: Ensemble, video: str, frames: Sequence[str] | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    """(frame id, fused probabilities float32 [C, h, w]) one after the other.

    Args:
        ensemble: what fuses.
        video: its id.
        frames: ids; default all.

    Raises:
        InputError: as `native_size`.
    """
    native_size(ensemble, video)
    plan = ensemble.plan(video, ("probabilities",))
    wanted = list(ensemble.frames(video) if frames is None else frames)
    if ensemble.postprocess:
        maps = ensemble.postprocessed(video, plan).maps(wanted)
    else:
        maps = ensemble.recipe.maps(video, wanted, plan)
    return ((frame, fused.cpu().numpy()) for frame, fused in maps)
