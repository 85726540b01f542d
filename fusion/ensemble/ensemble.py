"""Ensemble: mean inside a group, weighted sum over groups, labels at the ground truth's resolution.

    P_final = sum_g w_g P_g,   P_g = mean over the group's models of softmax(logits / T)

"5th Place Solution for VSPW 2021 Challenge", section 2.3, equation 1 (there G = 3, weights 1, alpha
= 1.4, beta = 1.0). With mean="geometric" P_final is the product of P_g ^ w_g over its sum, weights
summing to 1; with a head it is what the head makes of the P_g (fusion.ensemble.heads). Any number
of groups, models and resolutions; memory is bounded by a few frames whatever the clip length.

Inside a group models are summed in the order of (model name, path), so that no result depends on
how they were listed. Shape letters: M models, G groups, T frames, C classes, H W label pixels, h w
store pixels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from fusion import device as devices
from fusion.arguments import checked
from fusion.ensemble import file
from fusion.ensemble.alignment import common_classes, common_frames, store_temperatures
from fusion.ensemble.channels import (
    Thresholds,
    outcome_names,
    outcomes,
    thresholds_of,
    with_thresholds,
)
from fusion.ensemble.device_stream import DeviceFusion
from fusion.ensemble.factors import (
    Multipliers,
    Weights,
    checked_multipliers,
    checked_weights,
    said_factors,
)
from fusion.ensemble.groups import (
    Groups,
    Opened,
    named_groups,
    open_groups,
    said_groups,
    single_groups,
)
from fusion.ensemble.heads import Head
from fusion.ensemble.labelled import Labelled
from fusion.ensemble.plan import Plan
from fusion.ensemble.planning import plan_of, whole_bytes
from fusion.ensemble.postprocessed import Postprocessed, needed
from fusion.ensemble.stream import Band, Fusion, Means
from fusion.errors import InputError
from fusion.images import Images
from fusion.kernels.numbers import void_label
from fusion.parallel import worker_count
from fusion.postprocess import Pipeline, Video, pipeline_of
from fusion.postprocess.registry import Given
from fusion.stores import Store
from fusion.stores.locations import Address, is_url
from fusion.text import parse_bytes

RESIZE, ALIGN = ("probabilities", "logits"), ("strict", "intersect")
MEANS = ("arithmetic", "geometric")
PLAIN: dict[str, Any] = {"head": None, "multipliers": None, "postprocess": None}
OPTIONS = ("resize", "mean", "align", "head", "memory", "images", "multipliers", "postprocess")
Postprocess = Pipeline | Given | Sequence[Given] | None
Maps = Iterator[tuple[str, np.ndarray]]  # frame id, [..., H, W]


@checked
class Ensemble(Labelled):
    """Groups of logit stores with a weight each.

    Args:
        groups: name -> stores (paths, URLs, globs, LogitStore or MemoryStore), G >= 1 groups of at
            least one; a store may be in several groups. Or a list of stores, or one path or glob
            such as "cache/*.zarr": each store is then a group of its own, named by its model.
        weights: name -> number >= 0, missing ones 1; only ratios matter.
        multipliers: class name -> number > 0 for every class, or C numbers in their order; only
            ratios matter. Labels are argmax_c b_c F_c, F the fused probabilities, which themselves
            stay as they are. Default: none.
        resize: "probabilities" fuses at store resolution and interpolates the G group means;
            "logits" interpolates every model's logits first, which costs M / G times more (measured
            difference: benchmarks/README.md).
        mean: over groups, "arithmetic" or "geometric" (arithmetic: `fusion.kernels.arithmetic`);
            models inside a group always have their arithmetic mean.
        thresholds: of independent channels (stores of "sigmoid"), each above 0 and below 1: a
            channel is there where F_c > t_c; one number, or by name. Default: 0.5. They are
            multipliers of the two classes that each channel has (`fusion.ensemble.channels`).
        postprocess: what is done to fused frames: operations of `fusion.postprocess`, or what names
            them, such as ["window:radius=1", "vote"]; default nothing.
        images: a folder of the pictures, for operations that look at them.
        head: fuses the groups, its units, at store resolution in the place of weights; what it
            makes is interpolated. Multipliers apply to it as to any F.
        temperatures: store (path, file name or model name) -> T that divides its logits, from
            2^-64 to 2^64; default 1.
        device: "auto" takes a GPU where there is one.
        memory: most bytes for pixels, such as "4GB", on top of what the process holds already.
        align: "strict" refuses stores that lack a video or frame of another; "intersect" keeps what
            all have (see `left_out`).

    Raises:
        InputError: before any pixel is read, for bad weights or names and for stores that do not
            fit together.
    """

    def __init__(
        self,
        groups: Groups,
        weights: Weights = None,
        *,
        multipliers: Multipliers = None,
        thresholds: Thresholds = None,
        resize: str = "probabilities",
        mean: str = "arithmetic",
        head: Head | None = None,
        postprocess: Postprocess = None,
        images: Images | str | Path | None = None,
        temperatures: Mapping[str, float] | None = None,
        device: str = "auto",
        memory: str | int = "4GB",
        align: str = "strict",
    ) -> None:
        if resize not in RESIZE or align not in ALIGN:
            choices = f"choose one of {RESIZE} and one of {ALIGN}"
            raise InputError(f"resize {resize!r}, align {align!r}; {choices}")
        if mean not in MEANS:
            raise InputError(f"mean: got {mean!r}; choose one of {MEANS}")
        named = named_groups(groups)
        self.weights, self.mean = checked_weights(named, weights), mean
        self.resize, self.align, self.memory = resize, align, parse_bytes(memory)
        self.device, self._asked, self.workers = devices.chosen(device), device, 1  # a worker asks
        self.groups = open_groups(named)
        self.stores = tuple(dict.fromkeys(itertools.chain(*self.groups.values())))
        self._temperature = store_temperatures(self.stores, temperatures or {})
        self.temperatures = tuple(self._temperature.values())
        names, independent = common_classes(self.stores)
        self.channels = names if independent else None
        self.classes = outcome_names(names) if independent else names
        if independent and mean != "arithmetic":
            raise InputError(f"mean: {mean!r} of independent channels; use mean='arithmetic'")
        multipliers = with_thresholds(multipliers, thresholds, self.channels)
        self.multipliers = checked_multipliers(multipliers, self.classes)
        if self.multipliers is not None and mean != "arithmetic":
            raise InputError(f"multipliers: mean={mean!r} takes none; use mean='arithmetic'")
        self._frames, self.left_out = common_frames(self.stores, strict=align == "strict")
        self.videos = tuple(self._frames)
        self.head = self._checked_head(head)
        self.images = Images(Path(images)) if isinstance(images, str | Path) else images
        self.postprocess = pipeline_of(postprocess)
        how = {"independent": independent, "images": self.images is not None}
        self.postprocess.check(names, [len(some) for some in self._frames.values()], **how)

    def _checked_head(self, head: Head | None) -> Head | None:
        """The head, if it goes with these groups and options; InputError says why it does not."""
        if head is None:
            return None
        if self.channels is not None:
            raise InputError("head: heads fuse classes that exclude each other; give weights")
        head.check(list(self.groups), self.classes)
        if len(set(self.weights.values())) > 1:
            raise InputError("head: got weights beside it; a head has its own, give none")
        if (self.mean, self.resize) != (MEANS[0], RESIZE[0]):
            got = f"mean={self.mean!r}, resize={self.resize!r}"
            raise InputError(f"head: got {got}; use {MEANS[0]!r} and {RESIZE[0]!r}")
        self.groups = {unit: self.groups[unit] for unit in head.units}  # in the order of its sums
        return head

    def __repr__(self) -> str:
        head = self.head
        sums = said_groups(self.groups, self.weights) if head is None else repr(head)
        sums += said_factors(self.multipliers, self.thresholds)
        sums += f", then {self.postprocess}" if self.postprocess else ""
        number = len(self.channels or self.classes)
        kind = "classes" if self.channels is None else "independent channels"
        data = f"{number} {kind}, {len(self.videos)} videos, resize={self.resize!r}"
        mean = f", mean={self.mean!r}" if self.mean != MEANS[0] else ""
        return f"{type(self).__name__}({sums}; {data}{mean})"

    @property
    def thresholds(self) -> dict[str, float] | None:
        """Of independent channels, by name; None where classes exclude each other."""
        if self.channels is None:
            return None
        return thresholds_of(self.multipliers, self.channels)

    def frames(self, video: str) -> tuple[str, ...]:
        """Frame ids of a video, in stored order."""
        if video not in self._frames:
            self.stores[0].describe(video)  # names the closest
            raise InputError(f"video {video!r} is not in every store; left_out says who lacks it")
        return self._frames[video]

    def size(self, video: str) -> tuple[int, int]:
        """(H, W) of a video's labels: the source size that its stores agree on."""
        return self.stores[0].describe(video).size

    def plan(self, video: str, outputs: Sequence[str] = ("labels",), beside: int = 0) -> Plan:
        """How `video` is worked through within the memory; BudgetError says what would do."""
        return plan_of(self, video, outputs, beside)

    def spare(self, video: str, outputs: Sequence[str] = ("labels",)) -> int:
        """Bytes that working through `video` leaves of a worker's share."""
        plan = self.plan(video, needed(self.postprocess, outputs))
        return self.memory // self.workers - plan.bytes

    def facts(self, video: str) -> Video:
        """What operations may know of a video."""
        names, independent = self.channels or self.classes, self.channels is not None
        facts = self.frames(video), self.size(video), names, independent, self.images
        return Video(video, *facts)

    def stream(
        self,
        video: str,
        frames: Sequence[str] | None = None,
        outputs: Sequence[str] = ("labels",),
        beside: int = 0,
    ) -> Iterator[Band]:
        """Fused frames, band by band: (frame id, rows of the label map, tensors of those rows).

        `beside`: bytes of what is made of them meanwhile. Of a geometric mean the group means are
        scaled logarithms, which its weights multiply.
        """
        wanted = list(self.frames(video) if frames is None else frames)
        if not self.postprocess:
            return self.recipe.bands(video, wanted, self.plan(video, outputs, beside))
        plan = self.plan(video, needed(self.postprocess, outputs), beside)
        return self.postprocessed(video, plan).bands(wanted, outputs)

    def postprocessed(self, video: str, plan: Plan) -> Postprocessed:
        """What does the operations of `postprocess` on a video, within a plan."""
        return Postprocessed(self.recipe, self.postprocess, self.facts(video), plan)

    def native_means(self, video: str, frames: Sequence[str]) -> Means:
        """(frame id, group means [G, C, h, w]) at store resolution, the finest of the video."""
        if self.mean != "arithmetic":
            got = f"the {self.mean} mean of interpolated groups is not that of groups interpolated"
            raise InputError(f"native means: {got}; fuse at label resolution instead")
        return self.recipe.native_means(video, frames, self.plan(video))

    def native_sizes(self, video: str) -> set[tuple[int, int]]:
        """The resolutions (h, w) in which stores keep a video."""
        return {store.describe(video).frame_shape[1:] for store in self.stores}

    def grid(self, video: str) -> tuple[int, int]:
        """The finest of them, which heads fuse at."""
        return max(self.native_sizes(video), key=math.prod)

    @cached_property
    def recipe(self) -> Fusion:
        """How groups are fused, whatever their numbers come from."""
        multipliers = None if self.multipliers is None else tuple(self.multipliers.values())
        numbers = self.weights, self._temperature, multipliers
        how: dict[str, Any] = {"resize": self.resize, "mean": self.mean, "head": self.head}
        how |= {"device": self.device, "channels": self.channels is not None}
        kind = DeviceFusion if self.device.type == "cuda" else Fusion
        return kind(self.groups, *numbers, **how)

    def label_maps(self, video: str, frames: Sequence[str] | None = None) -> Maps:
        """(frame id, labels [H, W]) one after the other: uint8, uint16 beyond 255 classes.

        Of independent channels masks [C, H, W], uint8 of 0 and 1.
        """
        return self._whole_frames(video, frames, "labels")

    def predicted(self, video: str, frames: Sequence[str] | None = None) -> Maps:
        """The same as ids of `classes`, as `target` gives the ground truth."""
        for frame, labels in self.label_maps(video, frames):
            yield frame, labels if self.channels is None else outcomes(labels)

    def predict(self, video: str, frames: Sequence[str] | None = None) -> np.ndarray:
        """Labels [T, H, W] of a video, or of some of its frames, by id; dtype as `label_maps`.

        Of independent channels masks [T, C, H, W].
        """
        maps = [labels for _, labels in self.label_maps(video, frames)]
        if maps:
            return np.stack(maps)
        if self.channels is not None:
            return np.empty((0, len(self.channels), *self.size(video)), np.uint8)
        return np.empty((0, *self.size(video)), np.min_scalar_type(void_label(len(self.classes))))

    def predict_proba(self, video: str, frames: Sequence[str] | None = None) -> np.ndarray:
        """Fused class probabilities, float32 [T, C, H, W], that sum to 1 over C.

        Independent channels have each their own.

        Multipliers do not change them: labels are argmax_c b_c times these.
        """
        wanted = list(self.frames(video) if frames is None else frames)
        shape = (len(wanted), len(self.channels or self.classes), *self.size(video))
        whole = np.empty(shape, np.float32)
        for target, (_, fused) in zip(whole, self.probability_maps(video, wanted), strict=True):
            target[...] = fused
        return whole

    def probability_maps(self, video: str, frames: Sequence[str] | None = None) -> Maps:
        """(frame id, fused probabilities float32 [C, H, W]) one after the other.

        What `predict_proba` gives, in the memory of a frame.
        """
        return self._whole_frames(video, frames, "probabilities")

    def _whole_frames(self, video: str, frames: Sequence[str] | None, output: str) -> Maps:
        """Puts the bands of each frame together, in one copy."""
        whole, height, beside = np.empty(0), self.size(video)[0], whole_bytes(self, video, output)
        for frame, (first, end), fused in self.stream(video, frames, (output,), beside):
            band = getattr(fused, output).cpu().numpy()
            if end - first == height:
                yield frame, band
                continue
            if first == 0:
                whole = np.empty((*band.shape[:-2], height, band.shape[-1]), band.dtype)
            whole[..., first:end, :] = band
            if end == height:
                yield frame, whole

    def with_weights(self, weights: Mapping[str, float]) -> Self:
        """The same groups under other weights; InputError where none is given."""
        if not weights:
            raise InputError(f"weights: got {weights!r:.80}; give at least one, others have 1")
        return self.regrouped(self.groups, weights)

    def with_multipliers(self, multipliers: Multipliers) -> Self:
        """The same under other class multipliers, None for none."""
        return self.regrouped(self.groups, self.weights, multipliers=multipliers)

    def with_head(self, head: Head | None) -> Self:
        """The same groups fused by a head, None for by weights; without multipliers."""
        return self.regrouped(self.groups, head=head, multipliers=None)

    def with_postprocess(self, postprocess: Postprocess) -> Self:
        """The same with other postprocessing, None for none."""
        return self.regrouped(self.groups, self.weights, postprocess=postprocess)

    def plain(self) -> Self:
        """The same groups and weights, without multipliers, head and postprocessing."""
        return self.regrouped(self.groups, self.weights, **PLAIN)

    def singles(self) -> Self:
        """Every store as a group of its own, named by its model, and `plain`."""
        return self.regrouped(single_groups(self.stores), **PLAIN)

    def regrouped(self, groups: Opened, weights: Weights = None, **changed: Any) -> Self:
        """Other groups of these stores, or of some of them, and other constructor options."""
        used = {store for stores in groups.values() for store in stores}
        return type(self)(groups, weights, **{**self._options(used), **changed})

    def sharing(self, scheduler: str) -> Self:
        """The same with the memory of one of the videos that a scheduler has under way at once."""
        shared = object.__new__(type(self))
        shared.__dict__.update(self.__dict__, workers=worker_count(scheduler))
        return shared

    def _options(self, used: Collection[Store]) -> dict[str, Any]:
        temperatures = {s.identity: t for s, t in self._temperature.items() if s in used}
        kept = {name: getattr(self, name) for name in OPTIONS}
        return {**kept, "device": self._asked, "temperatures": temperatures}

    def save(self, path: str | Path) -> None:
        """Writes groups, weights and stores' digests as JSON, atomically; paths relative to it."""
        names = {"classes": list(self.classes), "videos": list(self.videos)}
        how: dict[str, Any] = {"weights": self.weights, "resize": self.resize, "mean": self.mean}
        if self.multipliers is not None:  # files without are read by older versions
            how["multipliers"] = self.multipliers
        if self.postprocess:
            how["postprocess"] = self.postprocess.get_config()
        groups = file.members(Path(path), self.groups, self.videos, self._temperature)
        file.write(Path(path), {"groups": groups, **how, **names}, self.head)

    @classmethod
    def load(
        cls, path: str | Path, *, stores: Address | None = None, check: bool = True, **options: Any
    ) -> Self:
        """An ensemble from ensemble.toml or a saved JSON.

        Args:
            path: the file.
            stores: a folder (or URL) with stores of the same names, for another split.
            check: refuse stores whose content differs from what was saved.
            options: device, memory, align, images, postprocess, as the constructor's.
        """
        path = Path(path)
        folder = Path(stores) if isinstance(stores, str) and not is_url(stores) else stores
        if path.suffix == ".toml":
            return cls(**{**file.read_toml(path, folder), **options})
        return cls(**{**file.read_json(path, folder, check=check), **options})

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels to other processes as stores, of which those on disk are opened again there."""
        make = partial(type(self), weights=self.weights, **self._options(self.stores))
        return make, (self.groups,), {"workers": self.workers}
