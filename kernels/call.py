"""One call of fusion, checked once and with every default written out: what each backend gets.

The callers' mistakes are named here and nowhere else; backends see only sound values.
M models, G groups, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from fusion.errors import InputError, KindError
from fusion.kernels.arithmetic import (
    CHANNEL_OUTPUTS,
    HEAD_OUTPUTS,
    KINDS,
    OUTPUTS,
    PROBABILITIES,
    Fused,
    label_dtype,
    normalised,
    normalised_multipliers,
)
from fusion.kernels.numbers import MOST_CLASSES, MOST_PIXELS, TEMPERATURES, is_temperature

VALUES = ("logits", "probabilities")
RESIZES = ("probabilities", "logits")
Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Maps:
    """What every operation over maps is given.

    logits: M tensors [C, ...]. temperatures, values [M]. outputs: names of what is wanted.
    """

    logits: tuple[Tensor, ...]
    temperatures: tuple[float, ...]
    values: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def classes(self) -> int:
        return self.logits[0].shape[0]

    @property
    def device(self) -> torch.device:
        return self.logits[0].device

    @property
    def shape(self) -> tuple[int, ...]:
        """The pixel axes of the outputs."""
        return tuple(self.logits[0].shape[1:])

    @cached_property
    def kinds(self) -> list[int]:
        """The kind of value of every model, as kernels number them."""
        plain = [PROBABILITIES * (value == "probabilities") for value in self.values]
        return [KINDS[z.dtype] + extra for z, extra in zip(self.logits, plain, strict=True)]

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the outputs that have more axes than pixels have."""
        return dict.fromkeys(("probabilities", "scores"), (self.classes, *self.shape))

    @property
    def label_count(self) -> int:
        """How many labels there are, the void one aside."""
        return self.classes

    def allocate(self) -> Fused:
        """Uninitialised tensors for the outputs that are asked for."""
        sizes = self.sizes

        def empty(name: str) -> Tensor:
            dtype = label_dtype(self.label_count) if name == "labels" else torch.float32
            return torch.empty(sizes.get(name, self.shape), dtype=dtype, device=self.device)

        return Fused(**{name: empty(name) for name in self.outputs})


@dataclass(frozen=True, eq=False)
class Call(Maps):
    """Arguments of `fusion.kernels.softmax_average` in full.

    weights [G] as given, not normalised. groups: per group its models. multipliers [C] normalised,
    of channels [2 C], or None. channels: whether classes are independent.
    """

    weights: tuple[float, ...]
    groups: tuple[tuple[int, ...], ...]
    multipliers: tuple[float, ...] | None
    channels: bool

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Group means, and a label a channel, beside what all operations have."""
        made = {**super().sizes, "group_means": (len(self.groups), self.classes, *self.shape)}
        return {**made, "labels": (self.classes, *self.shape)} if self.channels else made

    @property
    def label_count(self) -> int:
        return 2 if self.channels else self.classes

    def subset(self, groups: Sequence[Sequence[int]], **changes: Any) -> Self:
        """The same call over these groups of some of its models, numbered anew; with `changes`."""
        members = [m for group in groups for m in group]
        place = {m: k for k, m in enumerate(members)}
        for name in ("logits", "temperatures", "values"):
            changes.setdefault(name, tuple(getattr(self, name)[m] for m in members))
        chosen = tuple(tuple(place[m] for m in group) for group in groups)
        return replace(self, groups=chosen, **changes)

    def used(self) -> Self:
        """Without groups of weight 0, which are not even read, unless group means are wanted."""
        if "group_means" in self.outputs or all(self.weights):
            return self
        kept = [(g, w) for g, w in zip(self.groups, self.weights, strict=True) if w > 0]
        groups, weights = zip(*kept, strict=True)
        return self.subset(groups, weights=weights)


@dataclass(frozen=True, eq=False)
class Upsampling(Call):
    """Arguments of `fusion.kernels.upsample_softmax_average` in full; logits [C, h, w], or [C, T,
    h, w] of T frames.

    size: (H, W). resize: "probabilities" or "logits". rows: first label row, one past the last.
    """

    size: Pair
    resize: str
    rows: Pair

    @property
    def frames(self) -> int | None:
        """T, or None where maps are of one frame and have no axis of frames."""
        return self.logits[0].shape[1] if self.logits[0].ndim == 4 else None

    @property
    def shape(self) -> tuple[int, ...]:
        frames = self.logits[0].shape[1:-2]
        return (*frames, self.rows[1] - self.rows[0], self.size[1])

    def frame(self, t: int) -> Self:
        """The call of one of T frames."""
        return replace(self, logits=tuple(z[:, t] for z in self.logits))

    def native(self) -> Call:
        """The average of the maps as they are, at their own size."""
        return Call(*(getattr(self, field.name) for field in fields(Call)))

    def over_maps(self, count: int) -> Call:
        """The native call over `count` maps of probabilities instead, each a group of its own."""
        alone, ones = tuple((m,) for m in range(count)), (1.0,) * count
        values = ("probabilities",) * count
        return replace(self.native(), groups=alone, temperatures=ones, values=values)


@dataclass(frozen=True, eq=False)
class Head(Maps):
    """Arguments of `fusion.kernels.head` in full.

    mixing: [M, C] or [M, C, C], bias [C]: contiguous float32 tensors on the maps' device.
    """

    mixing: Tensor
    bias: Tensor

    @property
    def mixes(self) -> bool:
        """Whether a score takes in the other classes too."""
        return self.mixing.ndim == 3


def check(logits: Sequence[Tensor], weights: Sequence[float], **options: Any) -> Call:
    """The call in full; TypeError or ValueError with one sentence that names the argument."""
    made = _check(logits, weights, **options)
    _check_shapes("logits", made.logits)
    return made


def check_head(
    maps: Sequence[Tensor],
    mixing: Any,
    bias: Any,
    *,
    temperatures: Sequence[float] | None = None,
    values: Sequence[str] | str = "logits",
    outputs: Sequence[str] | str = ("probabilities",),
) -> Head:
    """The call of a head in full; TypeError or ValueError with one sentence as in `check`."""
    tensors, meanings = _check_maps("maps", maps, values)
    _check_shapes("maps", tensors)
    models, classes = len(tensors), tensors[0].shape[0]
    scales = _check_temperatures(temperatures, models)
    names = _check_outputs(outputs, HEAD_OUTPUTS)
    shapes = [(models, classes), (models, classes, classes)]
    device = tensors[0].device
    weights = _check_numbers("mixing", mixing, shapes, "[M, C] or [M, C, C]").to(device)
    offsets = _check_numbers("bias", bias, [(classes,)], "[C]").to(device)
    return Head(tensors, scales, meanings, names, weights, offsets)


def check_upsampling(
    logits: Sequence[Tensor],
    weights: Sequence[float],
    size: Sequence[int],
    *,
    resize: str = "probabilities",
    rows: Sequence[int] | None = None,
    **options: Any,
) -> Upsampling:
    """As `check`, for maps [C, h, w], or [C, T, h, w], whose h and w may differ."""
    made = _check(logits, weights, **options)
    for m, z in enumerate(made.logits):
        if z.ndim not in (3, 4) or 0 in z.shape[-2:]:
            given = f"got shape {tuple(z.shape)}"
            wanted = "give [C, h, w], or [C, T, h, w] of T frames, with h and w above 0"
            raise InputError(f"logits[{m}]: {given}; {wanted}")
        if z.shape[1:-2] != made.logits[0].shape[1:-2]:
            given = f"got shape {tuple(z.shape)} beside {tuple(made.logits[0].shape)} of logits[0]"
            raise InputError(f"logits[{m}]: {given}; all must have as many frames")
    if resize not in RESIZES:
        raise InputError(f"resize: got {resize!r}; give one of {RESIZES}")
    if len(size) != 2 or min(size) < 0 or math.prod(size) > MOST_PIXELS:
        raise InputError(f"size: got {tuple(size)}; give (height, width) of the labels")
    height, width = map(int, size)
    first, last = (0, height) if rows is None else map(int, rows)
    if not 0 <= first <= last <= height:
        given = f"got {(first, last)} for {height} rows"
        raise InputError(f"rows: {given}; give (first, one past the last)")
    return Upsampling(**vars(made), size=(height, width), resize=resize, rows=(first, last))


def _check(
    logits: Sequence[Tensor],
    weights: Sequence[float],
    *,
    groups: Sequence[Sequence[int]] | None = None,
    temperatures: Sequence[float] | None = None,
    values: Sequence[str] | str = "logits",
    outputs: Sequence[str] | str = ("labels",),
    multipliers: Sequence[float] | None = None,
    channels: bool = False,
) -> Call:
    tensors, meanings = _check_maps("logits", logits, values)
    models = len(tensors)
    alone = [(m,) for m in range(models)]
    chosen = tuple(tuple(int(m) for m in group) for group in (alone if groups is None else groups))
    if not all(chosen) or sorted(m for group in chosen for m in group) != list(range(models)):
        wanted = f"every index 0..{models - 1} must be in exactly one group, no group empty"
        raise InputError(f"groups: got {[list(group) for group in chosen]}; {wanted}")
    scales = _check_temperatures(temperatures, models)
    numbers = tuple(float(w) for w in weights)
    if len(numbers) != len(chosen):
        wanted = "give one per group, or per model where there are no groups"
        raise InputError(f"weights: got {len(numbers)} for {len(chosen)} groups; {wanted}")
    normalised(numbers)  # refuses what no weights can be
    names, scaled = _check_outputs(outputs, OUTPUTS), None
    if channels and not set(names) <= set(CHANNEL_OUTPUTS):
        wanted = f"independent channels have no ranks, give some of {CHANNEL_OUTPUTS}"
        raise InputError(f"outputs: got {outputs!r} with channels=True; {wanted}")
    if multipliers is not None:
        count = tensors[0].shape[0] * (2 if channels else 1)
        scaled = tuple(normalised_multipliers(multipliers, count))
    return Call(tensors, scales, meanings, names, numbers, chosen, scaled, bool(channels))


def _check_maps(
    name: str, maps: Sequence[Tensor], values: Sequence[str] | str
) -> tuple[tuple[Tensor, ...], tuple[str, ...]]:
    """The maps of an argument, detached, and what each one's values are."""
    models = len(maps := tuple(maps))
    if models == 0:
        raise InputError(f"{name}: got no models; give at least one tensor [C, ...]")
    meanings = (values,) * models if isinstance(values, str) else tuple(values)
    if len(meanings) != models or not set(meanings) <= set(VALUES):
        wanted = f"give one of {VALUES} or a sequence of {models} of them"
        raise InputError(f"values: got {values!r}; {wanted}")
    for m, meaning in enumerate(meanings):
        _check_tensor(name, m, maps, meaning)
    return tuple(_aligned(z.detach()) for z in maps), meanings


def _aligned(z: Tensor) -> Tensor:
    """The tensor, or a copy of one that a file or buffer left at an odd address."""
    return z if z.device.type == "meta" or z.data_ptr() % z.element_size() == 0 else z.clone()


def _check_temperatures(temperatures: Sequence[float] | None, models: int) -> tuple[float, ...]:
    scales = (1.0,) * models if temperatures is None else tuple(float(t) for t in temperatures)
    if len(scales) != models or not all(map(is_temperature, scales)):
        wanted = f"give {models} numbers {TEMPERATURES}, one per model"
        raise InputError(f"temperatures: got {list(scales)}; {wanted}")
    return scales


def _check_outputs(outputs: Sequence[str] | str, known: tuple[str, ...]) -> tuple[str, ...]:
    names = (outputs,) if isinstance(outputs, str) else tuple(outputs)
    if not names or not set(names) <= set(known):
        raise InputError(f"outputs: got {outputs!r}; give some of {known}")
    return names


def _check_shapes(name: str, maps: Sequence[Tensor]) -> None:
    for m, z in enumerate(maps):
        if z.shape != maps[0].shape:
            given = f"got shape {tuple(z.shape)} beside {tuple(maps[0].shape)} of {name}[0]"
            raise InputError(f"{name}[{m}]: {given}; all must agree")


def _check_numbers(
    name: str, numbers: Any, shapes: Sequence[tuple[int, ...]], letters: str
) -> Tensor:
    """A tensor, array or sequence as a contiguous float32 tensor of one of the shapes.

    By NumPy, on one thread: those of torch would go on spinning beside the kernels' own.
    """
    try:
        plain = numbers.detach().cpu().numpy() if isinstance(numbers, Tensor) else numbers
        made = np.array(plain, dtype=np.float64)
    except (TypeError, ValueError) as error:
        given = f"got what makes no array ({error})"
        raise KindError(f"{name}: {given}; give numbers {letters}") from error
    if made.shape not in shapes:
        wanted = f"give {letters}, here {' or '.join(map(str, shapes))}"
        raise InputError(f"{name}: got shape {made.shape}; {wanted}")
    if not (np.abs(made) <= np.finfo(np.float32).max).all():
        raise InputError(f"{name}: got numbers that are not finite float32; give finite ones")
    return torch.from_numpy(made.astype(np.float32))


def _check_tensor(of: str, m: int, maps: Sequence[Tensor], meaning: str) -> None:
    name, z, first = f"{of}[{m}]", maps[m], maps[0]
    if not isinstance(z, Tensor) or z.is_sparse:
        got = "a sparse tensor" if isinstance(z, Tensor) else type(z).__name__
        raise KindError(f"{name}: got {got}; give dense torch tensors")
    if z.dtype not in KINDS:
        raise KindError(f"{name}: got {z.dtype}; give float16, bfloat16, float32 or uint8 codes")
    if z.dtype == torch.uint8 and meaning == "probabilities":
        wanted = "uint8 means codes of logits, give probabilities as floats"
        raise KindError(f"{name}: got uint8 probabilities; {wanted}")
    if z.ndim < 1 or not 1 <= z.shape[0] <= MOST_CLASSES:
        wanted = f"the first axis must hold 1 to {MOST_CLASSES} classes"
        raise InputError(f"{name}: got shape {tuple(z.shape)}; {wanted}")
    if z.shape[0] != first.shape[0]:
        given = f"got {z.shape[0]} classes beside {first.shape[0]} in {of}[0]"
        raise InputError(f"{name}: {given}; all must agree")
    if z.device != first.device:
        given = f"on {z.device} beside {first.device} for {of}[0]"
        raise InputError(f"{name}: {given}; move all to one device")


def check_labels(
    targets: Tensor | np.ndarray, labels: Tensor | np.ndarray, classes: int
) -> torch.device:
    """Where two integer tensors, or arrays, of one shape are; TypeError or ValueError else."""
    for name, ids in (("targets", targets), ("labels", labels)):
        if not _are_integers(ids):
            given = getattr(ids, "dtype", type(ids).__name__)
            raise KindError(f"{name}: got {given}; give a tensor or NumPy array of integers")
    places = [torch.device(getattr(ids, "device", "cpu")) for ids in (targets, labels)]
    if tuple(targets.shape) != tuple(labels.shape) or places[0] != places[1]:
        given = f"{tuple(labels.shape)} on {places[1]}"
        beside = f"{tuple(targets.shape)} on {places[0]}"
        raise InputError(f"labels: got {given} beside targets {beside}; both must agree")
    if not 1 <= classes <= MOST_CLASSES:
        most = f"the number of classes, {MOST_CLASSES} at most"
        raise InputError(f"classes: got {classes}; give {most}")
    return places[1]


def _are_integers(ids: object) -> bool:
    if isinstance(ids, np.ndarray):
        return ids.dtype.kind in "iu"
    if not isinstance(ids, Tensor):
        return False
    return not (ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool)
