"""The configuration of a training run: TOML, checked by key; the paper's numbers are defaults.

out = "runs/swin_640_ohem"           # relative paths count from the file's folder
[data]
vspw = "VSPW_480p"                   # or root = DIR; or images, labels, classes = ...
folds = 5                            # train on all folds but one ...
fold = 0                             # ... this one
[network]
name = "swin-upernet"                # or another of models/networks, or one of your own
preset = "large"                     # further keys are the network's own: preset, pretrained, ...
# start = "runs/other/baseline.safetensors"   # weights to start from, others' checkpoints too
[augment]
crop = 640
[loss]
ohem = true
[swa]
cycles = 10
[val]
every = 4000                         # steps; of [data]'s left-out fold, or vspw = ..., split = ...

`python -m fusion.models.train --help` prints every key, and `--example` a file to begin with, from
the docstrings here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from fusion.errors import InputError, StoreError
from fusion.labels.known_maps import MAPS, NNUNET, NONE
from fusion.models.data.augment import Augment
from fusion.models.data.samples import Sampling
from fusion.models.data.source import Source
from fusion.models.section import (
    COUNT,
    FINITE,
    NATURAL,
    POSITIVE,
    Rule,
    Section,
    one_of,
    parsed,
    said,
    within,
)
from fusion.models.training.adjustment import COSINE, HEADS, TAU
from fusion.models.training.losses import OHEM_MIN_KEPT, OHEM_THRESHOLD
from fusion.parsing import parse_toml

CLIPS = tuple(key.name for key in fields(Source))  # where data are, and what their values mean
# relative ones count from the configuration's folder
_PLACES = ("root", "vspw", "images", "labels", "classes", "class_map")
_PATHS = {"data": _PLACES, "val": _PLACES, "network": ("start",), "loss": ("teacher",)}
_BATCH = "2 images or more, which batch norm needs (accumulate makes larger steps)"
BATCH = Rule(_BATCH, lambda value: value >= 2)
TEACHER, RANDOM = "teacher", "random"
PROBABILITY = Rule("a number above 0, at most 1", lambda value: 0 < value <= 1)
DECAY = Rule("a number in 0..<1, such as 0.999", lambda value: 0 <= value < 1)
LOGS = ("csv", "tensorboard")
_LOGS = Rule(f"a list of {', '.join(LOGS)}", lambda value: set(value) <= set(LOGS))


@dataclass(frozen=True)
class Data(Source, Sampling):
    """Where images and masks are, which of them are trained on, and how often each comes.

    folds: deals the videos to so many; 0 trains on all of them.

    fold: the one that is left out, from 0.

    fold_seed: of how they are dealt.
    """

    folds: int = 0
    fold: int = 0
    fold_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds and not 0 <= self.fold < self.folds:
            raise InputError(f"data: fold is {self.fold} of {self.folds}; folds count from 0")
        for key in () if self.folds else ("fold", "fold_seed"):
            if value := getattr(self, key):
                got = f"{key} is {value} and folds 0, so that all videos are trained on"
                raise InputError(f"data: {got}; give folds, or leave {key} out")


@dataclass(frozen=True)
class NetworkChoice(Section):
    """Which network is trained, and what it starts from; options are the network's own keys.

    name: plain, swin-upernet, maskformer, mask2former, segformer, huggingface, torch, or that of a
    network of one's own.

    module: file of such a network, without .py; it is imported, and so run.

    start: weights to begin with: a file of the same network and options, or its authors'
    checkpoint, whose names are converted.
    """

    name: str = "swin-upernet"
    module: str = ""
    start: str = ""
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Loss(Section):
    """What is minimised: cross-entropy, of hard pixels, with a prior, beside a teacher.

    ohem: counts hard pixels alone (online hard example mining, section 2.1; `losses.hard_pixels`).

    threshold: pixels whose label has a lower probability are hard.

    min_kept: the hardest pixels of each image of a batch count, whatever their probability.

    adjust: logit adjustment (section 3.1; `adjustment`): a prior of the classes' pixels in
    training, forgotten afterwards.

    tau: factor of the prior; 0 is the head alone.

    scale: factor of logits and prior; 1 / tau makes the prior count whole.

    head: cosine is the paper's last layer, own the network's.

    teacher: a weights file, or a logit store of the training frames, such as an ensemble's.

    begin: what the student of a file starts from: teacher, of the same architecture, as the
    paper's; random (or pretrained, or start) after a teacher of any.

    kl: factor of the divergence from the teacher.

    temperature: of teacher and student in it.

    labels: factor of the cross-entropy beside it, 0 to learn of the teacher alone.
    """

    ohem: bool = False
    threshold: float = within(PROBABILITY, OHEM_THRESHOLD)
    min_kept: int = within(NATURAL, OHEM_MIN_KEPT)
    adjust: bool = False
    tau: float = within(FINITE, TAU)
    scale: float = within(POSITIVE, 1.0)
    head: str = within(one_of(*HEADS), COSINE, later=True)
    teacher: str = ""
    begin: str = within(one_of(TEACHER, RANDOM), TEACHER, later=True)
    kl: float = within(FINITE, 1.0)
    temperature: float = within(POSITIVE, 1.0, later=True)
    labels: float = within(FINITE, 1.0, later=True)


@dataclass(frozen=True)
class Train(Section):
    """How a network is trained; steps are of the optimiser, AdamW.

    steps: of the schedule; may be raised later, also when the run is done.

    batch: images of a step's forward pass, in each process.

    accumulate: batches of a step, whose gradients are averaged; a step sees batch x accumulate x
    processes images.

    learning_rate: the highest, after the warm-up.

    weight_decay: of matrices and kernels, not of norms and biases.

    warmup: steps over which the rate rises linearly.

    schedule: how it falls to 0 at the last step: poly, (1 - step / steps)^power; or cosine, (1 +
    cos(pi step / steps)) / 2.

    power: of poly.

    clip: largest norm of a step's gradient; 0 for any.

    precision: of the forward pass: bf16 and fp16 where torch's autocast has them so, fp16 with a
    scaled loss; auto is bf16 on a GPU and float32 on a CPU. Weights stay float32.

    ema: decay of a moving average of the weights, saved as `ema`; 0 for none.

    workers: processes that read images; 0 reads in the training process.

    checkpoint_every: steps between checkpoints.

    log: of every step: csv writes log.csv, tensorboard its own folder (pip install tensorboard).
    """

    steps: int = within(COUNT, 160_000)
    batch: int = within(BATCH, 2)
    accumulate: int = within(COUNT, 1)
    learning_rate: float = within(POSITIVE, 6e-5)
    weight_decay: float = within(FINITE, 0.01)
    warmup: int = within(NATURAL, 1500)
    schedule: str = within(one_of("poly", "cosine"), "poly", later=True)
    power: float = within(NATURAL, 1.0)
    clip: float = within(NATURAL, 0.0)
    precision: str = within(one_of("auto", "float32", "bf16", "fp16"), "auto", later=True)
    ema: float = within(DECAY, 0.0, later=True)
    workers: int = within(NATURAL, 0)
    checkpoint_every: int = within(COUNT, 1000)
    log: tuple[str, ...] = within(_LOGS, ("csv",), later=True)


@dataclass(frozen=True)
class Swa(Section):
    """Stochastic weight averaging (Izmailov et al. 2018), a phase after the schedule's steps.

    cycles: how many; at the end of each its weights are saved, and the mean of all is `averaged`. 0
    for no such phase.

    every: steps of a cycle.

    rate: cyclical falls from highest to lowest in each cycle, cosine does along half a cosine, as
    snapshot ensembles have it, constant stays at highest.

    highest, lowest: learning rates of the phase.

    refresh: batches on which batch norm's statistics are counted anew, of `averaged` and `ema`.
    """

    cycles: int = within(NATURAL, 0)
    every: int = within(COUNT, 2000)
    rate: str = within(one_of("cyclical", "cosine", "constant"), "cyclical", later=True)
    highest: float = within(POSITIVE, 3e-5)
    lowest: float = within(POSITIVE, 3e-7)
    refresh: int = within(COUNT, 100)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lowest > self.highest:
            got = f"swa: lowest is {self.lowest}, highest {self.highest}"
            raise InputError(f"{got}; give 0 < lowest <= highest")


@dataclass(frozen=True)
class Val(Source):
    """Validation while training: dataset mIoU, and the weights that had the best as `best`.

    every: steps between validations; 0 for none. What is looked at are root, vspw or images here,
    as in [data], else the fold that [data] leaves out, else another split of its data set.

    patience: stops early after so many validations in a row without a better one; 0 never does.

    split: of the data set (default val), or a subfolder of images and labels.
    """

    every: int = within(NATURAL, 0)
    patience: int = within(NATURAL, 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.every and (self.patience or self.root or self.vspw or self.images):
            raise InputError("val: every is 0; give the steps between validations")


@dataclass(frozen=True)
class Config(Section):
    """What holds for all of a run.

    out: the run's folder; run again with the same one, it goes on.

    seed: of everything that is random.
    """

    out: str
    seed: int = 0
    data: Data = field(default_factory=Data)
    network: NetworkChoice = field(default_factory=NetworkChoice)
    augment: Augment = field(default_factory=Augment)
    loss: Loss = field(default_factory=Loss)
    train: Train = field(default_factory=Train)
    swa: Swa = field(default_factory=Swa)
    val: Val = field(default_factory=Val, metadata={"later": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.val.patience and self.swa.cycles:
            got = "val.patience stops before swa.cycles begin"
            raise InputError(f"config: {got}; leave one of them out")

    def to_json(self) -> dict[str, Any]:
        """Keys that came later only where they say something: earlier checkpoints know none."""
        return said(self)


def read(path: str | Path) -> Config:
    """The configuration in a TOML file.

    StoreError: no such file. InputError: no TOML, or what `section.parsed` refuses.
    """
    path = Path(path)
    try:
        return parse(parse_toml(path.read_bytes()), path.parent)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except OSError as error:
        reason = f"{path} cannot be read ({error.strerror})"
        raise StoreError(f"config: {reason}; give a TOML file") from error
    except ValueError as error:
        raise InputError(f"config: {path} is no TOML ({error})") from error


def parse(document: Mapping[str, Any], folder: Path = Path()) -> Config:
    """A configuration from a document such as TOML gives; relative paths count from `folder`."""
    if "out" not in document:
        raise InputError("config: no 'out'; name the folder that the run writes to")

    def placed(path: Any) -> str:
        return str((folder / str(path)).absolute())

    document = {**document, "out": placed(document["out"])}
    for section, keys in _PATHS.items():
        if isinstance(table := document.get(section), Mapping):
            given = {key: table[key] for key in keys if table.get(key)}
            named = given.get("class_map") in (*MAPS, NNUNET, NONE)  # which is no path
            paths = {k: placed(v) for k, v in given.items() if k != "class_map" or not named}
            document[section] = {**table, **paths}
    if isinstance(table := document.get("network"), Mapping):
        if "model" in table and Path(placed(table["model"])).is_dir():  # else a name on the hub
            table = {**table, "model": placed(table["model"])}
        known = {key: table[key] for key in ("name", "module", "start") if key in table}
        options = {key: table[key] for key in table if key not in known}
        document["network"] = {**known, "options": options}
    config: Config = parsed(Config, document)
    return config
