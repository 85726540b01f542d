"""A network over a loader's batches, into a store: what every loop for inference looks like."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fusion.arguments import checked
from fusion.integrations.batches import Batches, Pick
from fusion.integrations.inference import fill
from fusion.integrations.units import Size, Units
from fusion.stores import LogitStore


@checked
def cache_predictions(
    net: Callable[[Tensor], Any],
    loader: Iterable[Any],
    path: str | Path,
    *,
    classes: Sequence[str],
    unit: Pick,
    frame: Pick | None = None,
    size: Pick | Size | None = None,
    images: Pick | None = None,
    output: Pick | None = None,
    device: str | None = None,
    amp: bool | torch.dtype = False,
    **store: Any,
) -> LogitStore:
    """Predicts what a store lacks. Run it again to go on: batches that are committed are passed by.

    A batch goes through the network whole or not at all, so that a resumed run gives the same bits.
    Frames of one unit arrive one after another (shuffle=False) and are held until it is whole.

    Args:
        net: a torch module, which is in eval mode meanwhile, or any function of images.
        loader: batches: a tensor, a dict, or a tuple of images and more.
        path: the store.
        classes: C names in channel order.
        unit: key or function of a batch of N images: their N ids of videos, images or cases.
        frame: the same for N frame ids; default: every image is a unit, its frame has its id.
        size: the same for N (height, width) in pixels of the source images, which labels have; or
            one pair for all; default: as the network sees them.
        images: key or function of a batch: [N, ..., H, W]; default: found by type and name.
        output: key or function of what the network returns: [N, C, h, w]; default: the tensor, the
            first of a tuple, "logits" or "out" of a dict.
        device: "auto", "cpu", "cuda", ...: where the network is put; default: where it is.
        amp: autocast, in the device's own type or the one given.
        store: more of `LogitWriter`: values, profile, model, provenance.

    Returns:
        The store.

    Raises:
        InputError: numbers that cannot be kept, ids that are missing, doubled or apart; names the
            unit. Units before it are committed, it is not.
        StoreConflictError: the store is another model's, or holds other frames of a unit.
    """
    batches = Batches(unit, frame, size, images, output)
    with Units(path, classes, pack=True, **store) as units:
        fill(net, loader, units, batches, device=device, amp=amp)
    return LogitStore(path)
