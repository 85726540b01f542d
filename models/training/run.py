"""A training run: one network, one configuration, one folder; it goes on where it was stopped.

Whatever is random in step i follows from the seed and i alone, as does the learning rate, so a run
that was killed and started again ends in the same bits as one that was not (on a CPU, with the same
number of threads; GPUs add in no fixed order).

    learning rate    `schedule.learning_rate`
    step             AdamW on the mean gradient of `accumulate` batches in each process
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fusion.errors import InputError
from fusion.models.data.clips import Clips
from fusion.models.data.headers import check_sizes, sizes_of
from fusion.models.data.loading import Batch, loaded
from fusion.models.data.samples import Samples, batches, folds
from fusion.models.data.statistics import FILE as STATISTICS
from fusion.models.data.teacher import StoreTeacher, is_store
from fusion.models.training import checkpoint, swa
from fusion.models.training.config import CLIPS, Config
from fusion.models.training.distributed import World, connected, synchronised, world
from fusion.models.training.losses import Objective, cross_entropy, ohem_cross_entropy
from fusion.models.training.optimiser import parameter_groups
from fusion.models.training.schedule import learning_rate
from fusion.models.training.start import begun, networks
from fusion.progress import bar

# what may differ between a run and its continuation; data are compared by their ids, not place
HARMLESS = {"out", "train.workers", "train.checkpoint_every", *(f"data.{key}" for key in CLIPS)}
_NETWORK, _OPTIMISER = "network/", "optimiser/"  # prefixes of a checkpoint's tensors


def train(config: Config, device: str = "auto") -> Path:
    """Runs a configuration to its end, from where it was stopped; the file of its final weights."""
    place = world(device)
    with connected(place):
        run = Run(config, place)
        run.fit()
    # batch norm is refreshed by one process alone
    return run.finish()


class Run:
    """One training run of a configuration, in one of `place.size` processes."""

    def __init__(self, config: Config, place: World) -> None:
        self.config = config = begun(config)
        self.place, self.out = place, Path(config.out)
        self.clips = training_clips(config)
        torch.manual_seed(config.seed)
        self.network, self.architecture, teacher = networks(config, self.clips)
        sizes = sizes_of(self.clips)
        self.config = replace(config, augment=config.augment.fitted(sizes, self.network.stride))
        loss = config.loss
        ohem = partial(ohem_cross_entropy, threshold=loss.threshold, min_kept=loss.min_kept)
        criterion = ohem if loss.ohem else cross_entropy
        how = {"labels": loss.labels, "temperature": loss.temperature}
        synchronised(self.network, place)
        objective = Objective(self.network, criterion, teacher, loss.kl, **how)
        self.objective: nn.Module = objective.to(place.device)
        decay = config.train.weight_decay
        self.optimiser = torch.optim.AdamW(parameter_groups(self.network, decay))
        store = None
        if is_store(loss.teacher):
            store = StoreTeacher(loss.teacher, self.clips.classes, self.clips.labelled())
        augment, cache = self.config.augment, self.out / STATISTICS
        self.samples = Samples(self.clips, augment, config.seed, store, config.data, cache)
        self.step = self._resumed()
        if not self.step and place.first:
            check_sizes(self.clips, self.samples.pairs)
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
            files = [self.file(f"swa_{k:02d}") for k in range(1, average.cycles + 1)]
            swa.averaged(self.network, files, images, self.place.device)
            self._save(name)
        return self.file(name)

    def file(self, name: str) -> Path:
        return self.out / f"{name}{checkpoint.SUFFIX}"

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Batches `first` <= b < `last` of this process."""
        options, place = self.config.train, self.place
        numbers = batches(first, last, options.batch, place.rank, place.size)
        pin = place.device.type == "cuda"
        return loaded(self.samples, numbers, workers=options.workers, pin=pin)

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
        samples = repr(self.samples.identity).encode()
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


def seed_of(seed: int, step: int, rank: int) -> int:
    """Of what is random in a step, such as dropout."""
    drawn = np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0]
    return int(drawn >> np.uint64(1))
