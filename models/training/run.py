"""A training run: one network, one configuration, one folder; it goes on where it was stopped.

Whatever is random in step i follows from the seed and i alone, as does the learning rate, so a run
that was killed and started again ends in the same bits as one that was not (on a CPU, with the same
number of threads; GPUs add in no fixed order).

    learning rate    rises over `warmup` steps, falls as learning_rate (1 - i / steps)^power, then
                     cycles as `swa.cyclical`
    step             AdamW on the mean gradient of `accumulate` batches in each process
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from fusion import files
from fusion.errors import InputError
from fusion.models.data.clips import Clips
from fusion.models.data.samples import Samples, batches, folds
from fusion.models.data.teacher import StoreTeacher, is_store
from fusion.models.training import checkpoint, swa
from fusion.models.training.config import CLIPS, Config
from fusion.models.training.distributed import World, connected, world
from fusion.models.training.losses import Objective, cross_entropy, ohem_cross_entropy
from fusion.models.training.start import networks
from fusion.progress import bar

# what may differ between a run and its continuation; data are compared by their ids, not place
HARMLESS = {"out", "train.workers", "train.checkpoint_every", *(f"data.{key}" for key in CLIPS)}
PATIENCE = 10  # seconds: so long may what read images for a run that was killed outlive it
_NETWORK, _OPTIMISER = "network/", "optimiser/"  # prefixes of a checkpoint's tensors
# images [N, 3, c, c], targets [N, c, c], and of a store that teaches probabilities [N, C, u, u]
Batch = tuple[Tensor, ...]


def train(config: Config, device: str = "auto") -> Path:
    """Runs a configuration to its end, from where it was stopped; the file of its final weights."""
    place = world(device)
    with connected(place):
        run = Run(config, place)
        with alone(run.out) if place.first else contextlib.nullcontext():
            run.fit()
            return run.finish()


def alone(out: Path) -> contextlib.ExitStack:
    """Holds a run's folder until it is left; InputError where another process trains into it."""
    held, last = contextlib.ExitStack(), time.monotonic() + PATIENCE
    with files.refusals(out):
        files.make_folder(out)
        while True:
            try:
                held.enter_context(files.locked(out, wait=False))
                return held
            except BlockingIOError as error:
                if time.monotonic() > last:
                    advice = "wait until it is done, or choose another 'out'"
                    got = f"another process trains into this folder; {advice}"
                    raise InputError(f"{out}: {got}") from error
            time.sleep(0.1)


class Run:
    """One training run of a configuration, in one of `place.size` processes."""

    def __init__(self, config: Config, place: World) -> None:
        self.config, self.place, self.out = config, place, Path(config.out)
        self.clips = training_clips(config)
        torch.manual_seed(config.seed)
        self.network, self.architecture, teacher = networks(config, self.clips)
        loss = config.loss
        ohem = partial(ohem_cross_entropy, threshold=loss.threshold, min_kept=loss.min_kept)
        criterion = ohem if loss.ohem else cross_entropy
        how = {"labels": loss.labels, "temperature": loss.temperature}
        objective = Objective(self.network, criterion, teacher, loss.kl, **how)
        self.objective: nn.Module = objective.to(place.device)
        decay = config.train.weight_decay
        self.optimiser = torch.optim.AdamW(parameter_groups(self.network, decay))
        store = None
        if is_store(loss.teacher):
            store = StoreTeacher(loss.teacher, self.clips.classes, self.clips.labelled())
        self.samples = Samples(self.clips, config.augment, config.seed, store)
        self.step = self._resumed()
        if place.size > 1:
            self.objective = DistributedDataParallel(self.objective, find_unused_parameters=True)

    @property
    def steps(self) -> int:
        """Of the baseline and the averaging phase together."""
        return self.config.train.steps + self.config.swa.cycles * self.config.swa.every

    def fit(self) -> None:
        """Trains from the current step to the last."""
        accumulate = self.config.train.accumulate
        batches = iter(self.batches(self.step * accumulate, self.steps * accumulate))
        hidden = {} if self.place.first else {"disable": True}
        with bar(self.out.name, self.steps, unit="step", initial=self.step, **hidden) as steps:
            self.network.train()
            while self.step < self.steps:
                loss = self.update([next(batches) for _ in range(accumulate)])
                self.step += 1
                self._keep()
                steps.set_postfix_str(f"loss {loss:.3f}", refresh=False)
                steps.update()

    def finish(self) -> Path:
        """The final weights: the average's file, or the baseline's without averaging."""
        average = self.config.swa
        name = "averaged" if average.cycles else "baseline"
        if average.cycles and self.place.first:
            torch.manual_seed(seed_of(self.config.seed, self.steps, 0))
            images = (batch[0] for batch in self.batches(0, average.refresh))
            saved = [self.file(f"swa_{k:02d}") for k in range(1, average.cycles + 1)]
            swa.averaged(self.network, saved, images, self.place.device)
            self._save(name)
        return self.file(name)

    def file(self, name: str) -> Path:
        return self.out / f"{name}{checkpoint.SUFFIX}"

    def batches(self, first: int, last: int) -> DataLoader[Batch]:
        """Batches `first` <= b < `last` of this process."""
        options, place = self.config.train, self.place
        return DataLoader(
            self.samples,
            batch_sampler=batches(first, last, options.batch, place.rank, place.size),
            num_workers=options.workers,
            pin_memory=place.device.type == "cuda",
        )

    def update(self, batches: Sequence[Batch]) -> float:
        """One step of the optimiser; returns the mean loss. InputError where it is not finite."""
        device, total, objective = self.place.device, 0.0, self.objective
        halves = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
        torch.manual_seed(seed_of(self.config.seed, self.step, self.place.rank))
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        self.optimiser.zero_grad()
        for number, batch in enumerate(batches, start=1):
            moved = [tensor.to(device, non_blocking=True) for tensor in batch]
            # processes exchange gradients after a step's last batch, not after each
            alone: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
            if number < len(batches) and isinstance(objective, DistributedDataParallel):
                alone = objective.no_sync()
            with alone, halves:
                loss = objective(*moved)
                (loss / len(batches)).backward()
            total += loss.item() / len(batches)
        if not math.isfinite(total):
            got, advice = f"loss is {total}", "lower the learning rate or lengthen the warm-up"
            raise InputError(f"{self.out}: {got} in step {self.step}; {advice}")
        if self.config.train.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.train.clip)
        self.optimiser.step()
        return total

    def _keep(self) -> None:
        """Writes what is due; the checkpoint last, so that none is ahead of its files."""
        options, average = self.config.train, self.config.swa
        cycle, rest = divmod(self.step - options.steps, average.every)
        if cycle >= 0 and rest == 0:
            self._save(f"swa_{cycle:02d}" if cycle else "baseline")
        due = self.step % options.checkpoint_every == 0 or self.step == self.steps
        if due and self.place.first:
            document = {"step": self.step, "config": self._identity()}
            checkpoint.save(self.file("checkpoint"), self._state(), document)

    def _save(self, name: str) -> None:
        if self.place.first:
            facts = {"step": self.step, "config": self.config.to_json()}
            checkpoint.save_network(self.file(name), self.network, self.architecture, **facts)

    def _state(self) -> dict[str, Tensor]:
        state = {_NETWORK + name: tensor for name, tensor in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            for key, tensor in self.optimiser.state.get(parameter, {}).items():
                state[f"{_OPTIMISER}{name}/{key}"] = tensor
        return state

    def _identity(self) -> dict[str, object]:
        """What a checkpoint must agree on; the samples are frames and classes in order."""
        samples = repr((self.samples.pairs, self.clips.classes)).encode()
        facts: dict[str, object] = {
            "processes": self.place.size,
            "samples": hashlib.sha256(samples).hexdigest(),
        }
        if (teacher := self.samples.teacher) is not None:
            facts["teacher"] = teacher.store.digest(self.clips.videos)
        return self.config.to_json() | facts

    def _resumed(self) -> int:
        """The step to go on from, its state loaded; 0 where nothing was begun."""
        path = self.file("checkpoint")
        if not path.exists():
            return 0
        tensors, document = checkpoint.load(path)
        if odd := checkpoint.difference(document.get("config", {}), self._identity(), HARMLESS):
            got = "another configuration ({} = {!r} there, {!r} here)".format(*odd)
            advice = "choose another 'out', or delete it to start anew"
            raise InputError(f"{path}: checkpoint of {got}; {advice}")
        checkpoint.load_state(self.network, _below(_NETWORK, tensors), path)
        parameters = dict(self.network.named_parameters())
        for name, tensor in _below(_OPTIMISER, tensors).items():
            owner, key = name.rsplit("/", 1)
            parameter = parameters[owner]
            place = "cpu" if key == "step" else parameter.device  # AdamW counts on the CPU
            self.optimiser.state[parameter][key] = tensor.to(place)
        return int(document["step"])


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def training_clips(config: Config) -> Clips:
    """The labelled clips of a configuration, without its held-out fold."""
    data, clips = config.data, config.data.open(labelled=True)
    if not data.folds:
        return clips
    left_out = folds(clips.videos, data.folds, data.fold_seed)[data.fold]
    return clips.only([video for video in clips.videos if video not in left_out])


def learning_rate(config: Config, step: int) -> float:
    """Warm-up and polynomial decay, then the cycles of weight averaging."""
    options, average = config.train, config.swa
    if (beyond := step - options.steps) >= 0:
        return swa.cyclical(beyond, average.every, average.highest, average.lowest)
    warm = min(1.0, (step + 1) / options.warmup) if options.warmup else 1.0
    return options.learning_rate * warm * (1 - step / options.steps) ** options.power


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """AdamW's groups: norms, biases and other vectors do not decay."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    matrices, vectors = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
    decays = ((matrices, weight_decay), (vectors, 0.0))
    return [{"params": some, "weight_decay": decay} for some, decay in decays]


def seed_of(seed: int, step: int, rank: int) -> int:
    """Of what is random in a step, such as dropout."""
    drawn = np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0]
    return int(drawn >> np.uint64(1))
