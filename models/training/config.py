"""The configuration of a training run: a TOML file with the paper's numbers as defaults, checked key by key.

out = "runs/swin_640_ohem"           # relative paths count from the file's folder
[data]
vspw = "VSPW_480p"                   # or images = DIR, labels = DIR, classes = FILE
folds = 5                            # train on all folds but one ...
fold = 0                             # ... this one
[network]
name = "swin-upernet"                # further keys are the network's own: preset, pretrained, ...
preset = "large"
# start = "runs/other/baseline.safetensors"   # weights to start from
[augment]
crop = 640
[loss]
ohem = true
[swa]
cycles = 10
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fusion.errors import InputError, StoreError
from fusion.models.data.clips import Augment
from fusion.models.registry import nearest
from fusion.models.training.losses import OHEM_MIN_KEPT, OHEM_THRESHOLD, TAU


@dataclass(frozen=True)
class Data:
    """Where clips are (`locate.open_clips`). folds: 0 trains on every video, else on all but fold number `fold`."""

    vspw: str = ""
    split: str = "train"
    images: str = ""
    labels: str = ""
    classes: str = ""
    folds: int = 0
    fold: int = 0
    fold_seed: int = 0

    def __post_init__(self) -> None:
        if self.folds and not 0 <= self.fold < self.folds:
            raise InputError(f"data: fold is {self.fold} of {self.folds}; folds count from 0")


@dataclass(frozen=True)
class Loss:
    """ohem, threshold, min_kept: `losses.hard_pixels`. adjust, tau, scale: logit adjustment, `losses.CosineClassifier`. teacher: weights
    file that the student starts from and is distilled from, of the same architecture; kl: factor of that term."""

    ohem: bool = False
    threshold: float = OHEM_THRESHOLD
    min_kept: int = OHEM_MIN_KEPT
    adjust: bool = False
    tau: float = TAU
    scale: float = 1.0
    teacher: str = ""
    kl: float = 1.0

    def __post_init__(self) -> None:
        factors = self.min_kept >= 0 and 0 <= self.tau < math.inf and 0 <= self.kl < math.inf
        if not (factors and 0 < self.threshold <= 1 and 0 < self.scale < math.inf):
            raise InputError(
                f"loss: got {self}; threshold is in 0..1, scale above 0, min_kept, tau and kl are 0 or more"
            )


@dataclass(frozen=True)
class Train:
    """Step counts are of the optimiser; a step sees batch x accumulate x processes images. warmup: linear, then polynomial decay.
    clip: largest norm of the gradient, 0 for any. workers: processes that read images. checkpoint_every: steps between the points
    from which a stopped run goes on."""

    steps: int = 160_000
    batch: int = 2
    accumulate: int = 1
    learning_rate: float = 6e-5
    weight_decay: float = 0.01
    warmup: int = 1500
    power: float = 1.0
    clip: float = 0.0
    workers: int = 0
    checkpoint_every: int = 1000

    def __post_init__(self) -> None:
        if (
            min(self.steps, self.accumulate, self.checkpoint_every) < 1
            or min(self.warmup, self.workers) < 0
        ):
            raise InputError(
                f"train: got {self}; steps, accumulate and checkpoint_every are 1 or more, warmup and workers 0 or more"
            )
        if self.batch < 2:
            raise InputError(
                f"train: batch is {self.batch}; batch norm needs 2 images or more, use accumulate for larger steps"
            )
        finite = 0 < self.learning_rate < math.inf and 0 <= self.weight_decay < math.inf
        if not (finite and self.power >= 0 and self.clip >= 0):  # not min(): it lets NaN through
            raise InputError(
                f"train: got {self}; learning_rate is above 0, weight_decay, power and clip 0 or more"
            )


@dataclass(frozen=True)
class Swa:
    """Stochastic weight averaging (section 2.2): after the baseline `cycles` cycles of `every` steps, the learning rate falling from
    highest to lowest in each; the mean of the weights at their ends. refresh: batches for the batch norm statistics. cycles 0: none."""

    cycles: int = 0
    every: int = 2000
    highest: float = 3e-5
    lowest: float = 3e-7
    refresh: int = 100

    def __post_init__(self) -> None:
        if (
            self.cycles < 0
            or min(self.every, self.refresh) < 1
            or not 0 < self.lowest <= self.highest < math.inf
        ):
            raise InputError(
                f"swa: got {self}; cycles is 0 or more, every and refresh 1 or more, 0 < lowest <= highest"
            )


@dataclass(frozen=True)
class NetworkChoice:
    """name and module as in `registry.build`; options are the network's own keys. start: weights file to start from, of the same
    network and options; its last layer is taken where the classes are the same."""

    name: str = "swin-upernet"
    module: str = ""
    start: str = ""
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Config:
    """out: the run's folder. seed: of everything that is random."""

    out: str
    seed: int = 0
    data: Data = field(default_factory=Data)
    network: NetworkChoice = field(default_factory=NetworkChoice)
    augment: Augment = field(default_factory=Augment)
    loss: Loss = field(default_factory=Loss)
    train: Train = field(default_factory=Train)
    swa: Swa = field(default_factory=Swa)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


_PATHS = {
    "out": None,
    "data": ("vspw", "images", "labels", "classes"),
    "network": ("start",),
    "loss": ("teacher",),
}


def read(path: str | Path) -> Config:
    """The configuration in a TOML file. StoreError: no such file. InputError: no TOML, an unknown key (names the closest), a value
    of another type or out of range."""
    path = Path(path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(
            f"config: {path} cannot be read ({error.strerror}); give a TOML file"
        ) from error
    except ValueError as error:
        raise InputError(f"config: {path} is no TOML ({error})") from error
    try:
        return parse(document, path.parent)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def parse(document: Mapping[str, Any], folder: Path = Path()) -> Config:
    """A configuration from a document such as TOML gives; its relative paths count from `folder`."""
    if "out" not in document:
        raise InputError("config: no 'out'; name the folder that the run writes to")
    document = {**document, "network": _network(document.get("network", {}))}
    for section, keys in _PATHS.items():
        if keys is None:
            document[section] = str((folder / str(document[section])).absolute())
        elif isinstance(document.get(section), Mapping):
            values = document[section]
            document[section] = {
                **values,
                **{
                    key: str((folder / str(values[key])).absolute())
                    for key in keys
                    if values.get(key)
                },
            }
    return _build(Config, document, "")


def _network(table: Any) -> Any:
    """name, module and start stay, every other key becomes an option of the network."""
    if not isinstance(table, Mapping):
        return table
    known = {key: table[key] for key in ("name", "module", "start") if key in table}
    return {**known, "options": {key: value for key, value in table.items() if key not in known}}


def _build(kind: Any, table: Any, where: str) -> Any:
    """A dataclass from a table, field by field."""
    if not isinstance(table, Mapping):
        raise InputError(f"config: [{where}] is {table!r}; give a section of keys")
    hints, fields = typing.get_type_hints(kind), [f.name for f in dataclasses.fields(kind)]
    for key in table:
        if key not in fields:
            raise InputError(
                f"config: {f'[{where}]' if where else 'no section'} has no key {key!r}{nearest(key, fields)}"
            )
    return kind(
        **{
            key: _value(hints[key], value, f"{where}.{key}" if where else key)
            for key, value in table.items()
        }
    )


def _value(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, where)
    if typing.get_origin(kind) is tuple:
        members = typing.get_args(kind)
        if not isinstance(value, list) or len(value) != len(members):
            raise InputError(f"config: {where} is {value!r}; give a list of {len(members)} numbers")
        return tuple(
            _value(member, item, where) for member, item in zip(members, value, strict=True)
        )
    if isinstance(kind, types.GenericAlias):
        return dict(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise InputError(f"config: {where} is {value!r}; give a value of type {kind.__name__}")
    return value
