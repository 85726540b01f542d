"""`search_weights`: predictions and labels in memory as stores and labels, searched."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from fusion.arguments import checked
from fusion.arrays.images import Predictions, named
from fusion.errors import InputError
from fusion.folds import Units
from fusion.geometry import slice_ids
from fusion.hierarchical import HierarchicalEnsemble
from fusion.kernels.numbers import NARROW_VOID, void_label
from fusion.labels import Labels
from fusion.search.result import SearchResult
from fusion.stores import MemoryStore
from fusion.stores.codec import CHANNELS
from fusion.stores.memory import units_of
from fusion.text import listed


@checked
def search_weights(
    predictions: Predictions,
    labels: Any,
    *,
    method: str = "auto",
    values: str = "probabilities",
    classes: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    ignore: int | None = 255,
    units: str | Units | Sequence[str] | Sequence[int] | None = None,
    device: str = "auto",
    memory: str | int = "4GB",
    **options: Any,
) -> SearchResult:
    """Weights that maximise mIoU, or another objective, of predictions in memory; each is a group.

    Args:
        predictions: of M models, a list or name -> arrays: [N, C, h, w], a list of N images
            [C, h, w], or unit (an image, a video, a case) -> [C, h, w] or [T, C, h, w].
        labels: as the predictions, without C: class ids, integers. Of independent channels with it:
            masks of 0, 1 and `ignore`.
        method: as `fusion.search.search` takes it.
        values: as `fuse` takes them.
        classes: C names; default "0", "1", ...
        names: of the models in a list; default "0", "1", ...
        ignore: the label of pixels that never count; None for none.
        units: what is held out together: N names, such as each image's patient, or as
            `fusion.search.search` takes it; default every unit by itself.
        device, memory: as `HierarchicalEnsemble` takes them.
        options: as `fusion.search.search` takes them.

    Returns:
        What `HierarchicalEnsemble.search` does. Its `ensemble` has copies of the predictions.

    Raises:
        InputError: predictions and labels that do not fit together, or are none.
    """
    given = named(predictions, names)
    by_name = units is not None and not isinstance(units, str | Units)
    belongs = [str(unit) for unit in units] if by_name else None  # type: ignore[union-attr]
    if units is not None and not by_name:
        options["units"] = units
    clips = {name: _clips(f"model {name!r}", array, 3, belongs) for name, array in given.items()}
    first = next(iter(next(iter(clips.values())).values()))
    number, channels = first.shape[-3], values in CHANNELS
    axes = 3 if channels and not (number == 1 and _has_flat_masks(labels)) else 2
    maps = {
        unit: _label_maps(f"labels: unit {unit!r}", array, number, channels, ignore)
        for unit, array in _clips("labels", labels, axes, belongs).items()
    }
    sizes = _sizes(clips.values()) | {unit: clip.shape[-2:] for unit, clip in maps.items()}
    how: dict[str, Any] = {"values": values, "size": sizes}
    stores = {
        name: MemoryStore(some, classes, model=name, **how, frames=_ids(some, belongs))
        for name, some in clips.items()
    }
    ensemble = HierarchicalEnsemble(stores, device=device, memory=memory)
    truth = Labels.from_arrays(maps, frames=_ids(maps, belongs))
    return ensemble.search(truth, method, **options)


def _clips(where: str, arrays: Any, axes: int, belongs: Sequence[str] | None) -> dict[str, Any]:
    """Arrays by unit, [T, ...] each; `belongs` names the unit of each image."""
    try:
        units = units_of(arrays, axes)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    wrong = [u for u, array in units.items() if len(array.shape) not in (axes, axes + 1)]
    if wrong:
        got = f"unit {wrong[0]!r} has shape {list(units[wrong[0]].shape)}"
        raise InputError(f"{where}: {got}; give {axes} axes, or {axes + 1} with frames first")
    clips = {u: a if len(a.shape) > axes else a[None] for u, a in units.items()}
    if belongs is None:
        return clips
    if isinstance(arrays, Mapping) or len(belongs) != len(clips):
        got = f"{len(belongs)} names for {len(clips)} images"
        raise InputError(f"units: got {got} of {where}; give a name for each of a list's images")
    images = [_on_host(clip) for clip in clips.values()]
    try:  # the images of a unit are its frames
        return {u: np.concatenate([images[n] for n in at]) for u, at in _gathered(belongs).items()}
    except ValueError as error:
        raise InputError(f"{where}: {error}; images of one unit have one size") from error


def _gathered(belongs: Sequence[str]) -> dict[str, list[int]]:
    """The images of every unit."""
    found: dict[str, list[int]] = {}
    for image, unit in enumerate(belongs):
        found.setdefault(unit, []).append(image)
    return found


def _ids(clips: Mapping[str, Any], belongs: Sequence[str] | None) -> dict[str, list[str]]:
    """Frame ids by unit: the numbers of its images; from 0 on, or the unit's where it has one."""
    if belongs is None:
        return {u: [u] if len(clip) == 1 else slice_ids(len(clip)) for u, clip in clips.items()}
    return {unit: [f"{n:04d}" for n in some] for unit, some in _gathered(belongs).items()}


def _sizes(models: Iterable[Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """The largest (h, w) of every unit."""
    found: dict[str, tuple[int, int]] = {}
    for clips in models:
        for unit, clip in clips.items():
            height, width = clip.shape[-2:]
            found[unit] = max(found.get(unit, (0, 0)), (height, width), key=math.prod)
    return found


def _on_host(array: Any) -> np.ndarray:
    """A NumPy array of any framework's numbers."""
    if hasattr(array, "detach"):
        array = array.detach().to("cpu")
        array = array.float() if array.dtype == torch.bfloat16 else array
    return np.asarray(array)


def _has_flat_masks(labels: Any) -> bool:
    """Whether masks of a single channel come as [H, W]."""
    first = next(iter(labels.values() if isinstance(labels, Mapping) else labels), None)
    return np.ndim(_on_host(first)) == 2


def _label_maps(
    where: str, array: Any, classes: int, channels: bool, ignore: int | None
) -> np.ndarray:
    """Labels [T, H, W], or masks [T, C, H, W], whose void is the library's own."""
    found, limit = _on_host(array), 2 if channels else classes
    if found.dtype.kind not in "biu":
        raise InputError(f"{where}: got dtype {found.dtype}; give integers, ids of classes")
    if channels and found.ndim == 3:
        found = found[:, None]
    if channels and found.shape[1] != classes:
        got = f"got {found.shape[1]} channels, the predictions have {classes}"
        raise InputError(f"{where}: {got}; give a mask for each")
    void = void_label(limit)
    if ignore == NARROW_VOID < limit:
        do = "give ignore=None, or the number that stands for void"
        raise InputError(f"ignore: {ignore} is one of {limit} classes; {do}")
    ids = found.astype(np.int64)
    ignored = ids == ignore if ignore is not None else np.zeros(ids.shape, bool)
    if (outside := ((ids < 0) | (ids >= limit)) & ~ignored).any():
        got = f"holds {listed(np.unique(ids[outside]))} outside 0..{limit - 1}"
        raise InputError(f"{where} {got}; correct it, or name the void label with ignore=")
    return np.where(ignored, void, ids).astype(np.min_scalar_type(void))
