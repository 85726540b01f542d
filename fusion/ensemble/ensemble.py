"""Ensemble: mean inside a group, weighted sum over groups, labels at the resolution of the ground truth.

    P_final = sum_g w_g P_g,   P_g = mean over the group's models of softmax(logits / T)

"5th Place Solution for VSPW 2021 Challenge", section 2.3, equation 1 (there G = 3, weights 1, alpha = 1.4, beta = 1.0). Any number
of groups, models and resolutions; frames are aligned by id; memory is bounded by a few frames whatever the clip length.

Inside a group models are summed in the order of (model name, path), so that no result depends on the order they were listed in.
Shape letters: M models, G groups, T frames, C classes, H W label pixels, h w store pixels.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from fusion import kernels
from fusion.ensemble import file as config
from fusion.ensemble.plan import Plan, make_plan
from fusion.errors import InputError
from fusion.kernels.arithmetic import Fused
from fusion.stores import LogitStore
from fusion.text import parse_bytes

if TYPE_CHECKING:
    from fusion.labels import Labels

RESIZE = ("probabilities", "logits")
StoreLike = str | Path | LogitStore


class Ensemble:
    """Groups of logit stores with a weight each.

    groups: name -> stores (paths or LogitStore), G >= 1 groups of at least one. weights: name -> number >= 0, missing ones 1;
    only ratios matter. resize: "probabilities" fuses at store resolution and interpolates the G group means; "logits"
    interpolates every model's logits first, which costs M / G times more (measured difference: benchmarks/README.md).
    temperatures: store (path, file name or model name) -> T > 0 that divides its logits; default 1. device: "auto" takes a GPU
    where there is one. memory: most bytes for pixels, such as "4GB". align: "strict" refuses stores that lack a video or frame of
    another; "intersect" keeps what all have (see `.left_out`).

    Raises InputError, before any pixel is read, for bad weights or names and for stores that do not fit together.
    """

    def __init__(
        self,
        groups: Mapping[str, Sequence[StoreLike]],
        weights: Mapping[str, float] | None = None,
        *,
        resize: str = "probabilities",
        temperatures: Mapping[str, float] | None = None,
        device: str = "auto",
        memory: str | int = "4GB",
        align: str = "strict",
    ) -> None:
        if resize not in RESIZE or align not in ("strict", "intersect"):
            raise InputError(
                f"resize {resize!r}, align {align!r}; choose one of {RESIZE} and one of ('strict', 'intersect')"
            )
        self.weights = _checked_weights(groups, weights)
        self.resize, self.align, self.memory = resize, align, parse_bytes(memory)
        self.device, self.workers = _device(device), 1
        opened = {name: _open_group(name, stores) for name, stores in groups.items()}
        self.groups: dict[str, tuple[LogitStore, ...]] = opened
        unique = {store.path.absolute(): store for stores in opened.values() for store in stores}
        self.stores: tuple[LogitStore, ...] = tuple(unique.values())
        place = {path: index for index, path in enumerate(unique)}
        self._members = {
            name: tuple(place[store.path.absolute()] for store in stores)
            for name, stores in opened.items()
        }
        self.temperatures = _temperatures(self.stores, temperatures or {})
        self.classes = _same_classes(self.stores)
        self._frames, self.left_out = _align(self.stores, align)

    def __repr__(self) -> str:
        parts = [
            f"{self.weights[name]:g} x {name} ({len(stores)})"
            for name, stores in self.groups.items()
        ]
        return f"{type(self).__name__}({' + '.join(parts)}; {len(self.classes)} classes, {len(self.videos)} videos, resize={self.resize!r})"

    @property
    def videos(self) -> tuple[str, ...]:
        return tuple(self._frames)

    def frames(self, video: str) -> tuple[str, ...]:
        """Frame ids of a video, in stored order."""
        if video not in self._frames:
            self.stores[0].describe(video)  # names the closest
            raise InputError(
                f"video {video!r} is not in every store; see left_out for who lacks it"
            )
        return self._frames[video]

    def size(self, video: str) -> tuple[int, int]:
        """(H, W) of a video's labels: the source size that its stores agree on."""
        return self.stores[0].describe(video).size

    def plan(self, video: str, outputs: Sequence[str] = ("labels",)) -> Plan:
        """How `video` will be worked through within the memory budget."""
        shapes = [store.describe(video).frame_shape for store in self.stores]
        item = [1 if store.profile == "compact" else 2 for store in self.stores]
        return make_plan(
            shapes, item, len(self.groups), self.size(video), outputs, self.memory, self.workers
        )

    def stream(
        self, video: str, frames: Sequence[str] | None = None, outputs: Sequence[str] = ("labels",)
    ) -> Iterator[tuple[str, tuple[int, int], Fused]]:
        """Fuses frame by frame: yields (frame id, rows of the label map, outputs of those rows as tensors)."""
        plan, size, wanted = (
            self.plan(video, outputs),
            self.size(video),
            list(frames or self.frames(video)),
        )
        names = [
            name for name in self.groups if self.weights[name] > 0 or "group_means" in outputs
        ]  # a weight of 0 is not read
        used = sorted({index for name in names for index in self._members[name]})
        arguments: dict[str, Any] = {
            "groups": [[used.index(index) for index in self._members[name]] for name in names],
            "temperatures": [self.temperatures[index] for index in used],
            "values": [
                "probabilities" if self.stores[index].values == "scores" else "logits"
                for index in used
            ],
            "resize": self.resize,
            "outputs": tuple(outputs),
        }
        weights = [self.weights[name] for name in names]
        for first in range(0, len(wanted), plan.frames):
            batch = wanted[first : first + plan.frames]
            codes = [self._to_device(self.stores[index].codes(video, batch)) for index in used]
            for position, frame in enumerate(batch):
                logits = [code[position] for code in codes]
                for rows in plan.bands:
                    yield (
                        frame,
                        rows,
                        kernels.upsample_softmax_average(
                            logits, weights, size, rows=rows, **arguments
                        ),
                    )

    def _to_device(self, codes: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(codes)
        return (
            tensor
            if self.device.type == "cpu"
            else tensor.pin_memory().to(self.device, non_blocking=True)
        )

    def label_maps(
        self, video: str, frames: Sequence[str] | None = None
    ) -> Iterator[tuple[str, np.ndarray]]:
        """(frame id, labels [H, W]) one after the other: uint8, uint16 beyond 255 classes."""
        return self._assemble(video, frames, "labels")

    def predict(self, video: str, frames: Sequence[str] | None = None) -> np.ndarray:
        """Labels [T, H, W] of a video (or of some of its frames, by id): uint8, uint16 beyond 255 classes."""
        return np.stack([labels for _, labels in self.label_maps(video, frames)])

    def predict_proba(self, video: str, frames: Sequence[str] | None = None) -> np.ndarray:
        """Fused class probabilities, float32 [T, C, H, W], summing to 1 over C (weights are divided by their sum)."""
        return np.stack(
            [probabilities for _, probabilities in self._assemble(video, frames, "probabilities")]
        )

    def _assemble(
        self, video: str, frames: Sequence[str] | None, output: str
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Puts the bands of each frame together."""
        bands: list[np.ndarray] = []
        for frame, (_, end), fused in self.stream(video, frames, (output,)):
            bands.append(getattr(fused, output).cpu().numpy())
            if end == self.size(video)[0]:
                yield frame, bands[0] if len(bands) == 1 else np.concatenate(bands, axis=-2)
                bands = []

    def scored_videos(self, truth: Labels, videos: Sequence[str] | None = None) -> tuple[str, ...]:
        """The videos that are scored against `truth`; InputError where a store lacks one of them."""
        wanted = tuple(truth.videos if videos is None else videos)
        lacking = [video for video in wanted if video not in self._frames]
        if lacking and self.align == "strict":
            message = (
                f"labels hold {len(lacking)} videos that no store has, the first {lacking[0]!r}"
            )
            raise InputError(f"{message}; give stores of this split, or align='intersect'")
        kept = tuple(video for video in wanted if video in self._frames)
        if not kept:
            raise InputError(
                f"stores and labels share no video: stores have {self.videos[:3]}, labels {wanted[:3]}; give this split's labels"
            )
        return kept

    def labelled_frames(self, truth: Labels, video: str) -> list[str]:
        """Frames of a video that have labels, in stored order; InputError for labels of a frame that was never predicted."""
        labels, frames = set(truth.frames(video)), self.frames(video)
        lacking = sorted(labels - set(frames))
        if lacking and self.align == "strict":
            message = (
                f"labels hold {len(lacking)} frames that the stores lack, the first {lacking[0]!r}"
            )
            raise InputError(
                f"video {video!r}: {message}; predict them too, or use align='intersect'"
            )
        if not labels & set(frames):
            raise InputError(
                f"video {video!r}: no frame id of the labels ({lacking[0]!r}, ...) is one of the stores' ({frames[0]!r}, ...)"
            )
        return [frame for frame in frames if frame in labels]

    def target(self, truth: Labels, video: str, frame: str) -> np.ndarray:
        """Ground truth [H, W] of a frame, checked against the classes and the stores' source size."""
        target = truth.read(video, frame, classes=len(self.classes))
        if target.shape != self.size(video):
            message = f"labels are {target.shape[0]}x{target.shape[1]}, the stores say {self.size(video)[0]}x{self.size(video)[1]}"
            raise InputError(
                f"video {video!r}, frame {frame!r}: {message}; write the stores with size= of the labels"
            )
        return target

    def with_weights(self, weights: Mapping[str, float]) -> Self:
        """The same groups under other weights."""
        return self.regrouped(self.groups, weights)

    def singles(self) -> Self:
        """Every store as a group of its own, named by its model, for what looks at models one by one."""
        return self.regrouped(single_groups(self.stores))

    def regrouped(
        self,
        groups: Mapping[str, Sequence[LogitStore]],
        weights: Mapping[str, float] | None = None,
        **changed: Any,
    ) -> Self:
        """Other groups of the same stores, or of some of them. changed: constructor options that shall differ."""
        used = {store for stores in groups.values() for store in stores}
        return type(self)(groups, weights, **{**self._options(used), **changed})

    def sharing(self, scheduler: str) -> Self:
        """The same for one of the videos that a Dask scheduler has under way at once: each gets its share of the memory."""
        from fusion.parallel import worker_count

        shared = copy.copy(self)
        shared.workers = worker_count(scheduler)
        return shared

    def _options(self, used: Collection[LogitStore]) -> dict[str, Any]:
        pairs = zip(self.stores, self.temperatures, strict=True)
        return {
            "resize": self.resize,
            "temperatures": {str(store.path): value for store, value in pairs if store in used},
            "device": str(self.device),
            "memory": self.memory,
            "align": self.align,
        }

    def save(self, path: str | Path) -> None:
        """Writes groups, weights and the digest of every store as JSON, atomically; paths are kept relative to the file."""
        path = Path(path)
        document = {
            "format": config.FORMAT,
            "version": config.VERSION,
            "groups": {
                name: [self._member(store, path.parent) for store in stores]
                for name, stores in self.groups.items()
            },
            "weights": self.weights,
            "resize": self.resize,
            "classes": list(self.classes),
            "videos": list(self.videos),
        }
        config.write_json(path, document)

    def _member(self, store: LogitStore, folder: Path) -> dict[str, Any]:
        relative = os.path.relpath(store.path.resolve(), folder.resolve())
        temperature = self.temperatures[self.stores.index(store)]
        return {
            "path": relative,
            "model": store.model,
            "digest": store.digest(self.videos),
            "temperature": temperature,
        }

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        stores: str | Path | None = None,
        check: bool = True,
        **options: Any,
    ) -> Self:
        """An ensemble from ensemble.toml or a saved JSON. stores: a folder with stores of the same names, for another split.

        check: refuse stores whose content differs from what was saved. options: device, memory, align, as the constructor's.
        """
        path = Path(path)
        if path.suffix == ".toml":
            return cls(**config.read_toml(path), **options)
        return cls(
            **config.read_json(path, None if stores is None else Path(stores), check), **options
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels to other processes as paths and options; stores are opened again there."""
        groups = {
            name: [str(store.path) for store in stores] for name, stores in self.groups.items()
        }
        return _rebuild, (
            type(self),
            groups,
            self.weights,
            self._options(self.stores),
            self.workers,
        )

    def __copy__(self) -> Self:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin


def single_groups(stores: Sequence[LogitStore]) -> dict[str, list[LogitStore]]:
    """Group names for single stores: the model's name, with the path where two models share one."""
    names = [store.model for store in stores]
    return {
        (store.model if names.count(store.model) == 1 else str(store.path)): [store]
        for store in stores
    }


def _rebuild(
    kind: type[Ensemble],
    groups: dict[str, list[str]],
    weights: dict[str, float],
    options: dict[str, Any],
    workers: int,
) -> Ensemble:
    ensemble = kind(groups, weights, **options)
    ensemble.workers = workers
    return ensemble


def _checked_weights(
    groups: Mapping[str, Sequence[StoreLike]], weights: Mapping[str, float] | None
) -> dict[str, float]:
    if not isinstance(groups, Mapping) or not groups:
        raise InputError(
            f"groups: got {groups!r:.80}; give a dict of name -> list of stores, at least one"
        )
    if weights is not None and not isinstance(weights, Mapping):
        raise InputError(f"weights: got {weights!r:.80}; give a dict of group name -> number")
    unknown = sorted(set(weights or {}) - set(groups))
    if unknown:
        raise InputError(f"weights: unknown group {unknown[0]!r}; the groups are {list(groups)}")
    try:
        full = {name: float((weights or {}).get(name, 1.0)) for name in groups}
    except (TypeError, ValueError) as error:
        raise InputError(f"weights: {error}; give a number per group") from error
    bad = {name: value for name, value in full.items() if not math.isfinite(value) or value < 0}
    if bad or not any(full.values()):
        raise InputError(
            f"weights: got {bad or full}; give finite numbers >= 0, at least one of them above 0"
        )
    return full


def _open_group(name: str, stores: Sequence[StoreLike]) -> tuple[LogitStore, ...]:
    if isinstance(stores, str | Path | LogitStore) or len(stores) == 0:
        raise InputError(f"group {name!r}: got {stores!r:.60}; give a list of at least one store")
    opened = [store if isinstance(store, LogitStore) else LogitStore(store) for store in stores]
    paths = [store.path.absolute() for store in opened]
    twice = [path for path in paths if paths.count(path) > 1]
    if twice:
        raise InputError(
            f"group {name!r}: store {twice[0]} stands in it twice; list each store once"
        )
    return tuple(sorted(opened, key=lambda store: (store.model, str(store.path.absolute()))))


def _temperatures(stores: Sequence[LogitStore], given: Mapping[str, float]) -> tuple[float, ...]:
    found = dict.fromkeys(range(len(stores)), 1.0)
    for key, value in given.items():
        fits = [
            i
            for i, s in enumerate(stores)
            if key in (str(s.path), s.path.name, s.model)
            or Path(key).absolute() == s.path.absolute()
        ]
        if not fits:
            raise InputError(
                f"temperatures: {key!r} names no store of the ensemble; use its path, file name or model name"
            )
        if not (math.isfinite(value) and value > 0):
            raise InputError(
                f"temperatures: {key!r} is {value!r}; give a finite number above 0 (logits are divided by it)"
            )
        found.update(dict.fromkeys(fits, float(value)))
    return tuple(found.values())


def _same_classes(stores: Sequence[LogitStore]) -> tuple[str, ...]:
    first = stores[0]
    for store in stores[1:]:
        if store.classes != first.classes:
            if len(store.classes) != len(first.classes):
                how = f"{len(store.classes)} classes, {first.path} has {len(first.classes)}"
            else:
                at = next(
                    i
                    for i, (a, b) in enumerate(zip(store.classes, first.classes, strict=True))
                    if a != b
                )
                how = f"class {at} is {store.classes[at]!r}, in {first.path} {first.classes[at]!r}"
            raise InputError(
                f"{store.path}: {how}; write all stores with one class list in one order"
            )
    return first.classes


def _align(
    stores: Sequence[LogitStore], align: str
) -> tuple[dict[str, tuple[str, ...]], dict[str, list[str]]]:
    """Videos and frames by id. Returns what all stores have, and per store what was left out (empty unless intersecting)."""
    kept: dict[str, tuple[str, ...]] = {}
    left_out: dict[str, list[str]] = {}
    for video in sorted({video for store in stores for video in store.videos}):
        lacking = [store for store in stores if video not in store.videos]
        if lacking:
            if align == "strict":
                message = f"has no video {video!r}, other stores have it"
                raise InputError(
                    f"{lacking[0].path}: {message}; predict it too, or use align='intersect'"
                )
            left_out.setdefault(video, []).extend(str(store.path) for store in lacking)
            continue
        common = set.intersection(*(set(store.frames(video)) for store in stores))
        for store in stores:
            other = set(store.frames(video)) - common
            if other and align == "strict":
                which = next(s for s in stores if not other <= set(s.frames(video)))
                message = f"video {video!r} lacks frame {sorted(other - set(which.frames(video)))[0]!r} that {store.path} has"
                raise InputError(
                    f"{which.path}: {message}; predict it too, or use align='intersect'"
                )
            if other:
                left_out.setdefault(f"{video} ({len(other)} frames)", []).append(str(store.path))
            size, first = store.describe(video).size, stores[0].describe(video).size
            if size != first:
                message = f"video {video!r} is of {size[0]}x{size[1]} images, in {stores[0].path} of {first[0]}x{first[1]}"
                raise InputError(f"{store.path}: {message}; write both with one size=")
        if common:
            kept[video] = tuple(frame for frame in stores[0].frames(video) if frame in common)
    if not kept:
        raise InputError(
            f"{stores[0].path}: the {len(stores)} stores share no video and frame; check that they are of one split"
        )
    return kept, left_out


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device: got {name!r}; give 'auto', 'cpu' or 'cuda'") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device: got {name!r}, torch sees no GPU; use 'auto' or 'cpu'")
    return device
