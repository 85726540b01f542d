"""A training run: one network, one configuration, one folder; it goes on where it was stopped.

Whatever is random in step i follows from the seed and i alone, as does the learning rate, so a run
that was killed and started again ends in the same bits as one that was not (on a CPU, with the same
number of threads; GPUs add in no fixed order).

    learning rate    `schedule.learning_rate`
    step             AdamW on the mean gradient of `accumulate` batches in each process
    files            checkpoint, and weights: baseline at the end of the schedule, swa_01 ... of the
                     averaging phase, last; best by `validation`; averaged (`swa`) and ema
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fusion import cli
from fusion.errors import InputError, StoreError
from fusion.models.data.headers import check_sizes, sizes_of
from fusion.models.data.loading import Batch, loaded
from fusion.models.data.samples import Samples, batches
from fusion.models.data.statistics import FILE as STATISTICS
from fusion.models.data.teacher import StoreTeacher, is_store
from fusion.models.registry import Network
from fusion.models.training import checkpoint, state, swa
from fusion.models.training.changes import compared
from fusion.models.training.config import Config
from fusion.models.training.distributed import (
    World,
    connected,
    largest,
    shared,
    synchronised,
    world,
)
from fusion.models.training.ema import moving_average
from fusion.models.training.hints import enough_memory
from fusion.models.training.lock import alone
from fusion.models.training.log import Log
from fusion.models.training.losses import Objective, cross_entropy, ohem_cross_entropy
from fusion.models.training.optimiser import parameter_groups
from fusion.models.training.precision import Precision
from fusion.models.training.preemption import Notice, Preempted, deaf, noticed
from fusion.models.training.schedule import learning_rate
from fusion.models.training.splits import training_clips, validation_clips
from fusion.models.training.start import begun, networks
from fusion.models.training.validation import Watch, score
from fusion.progress import bar
from fusion.text import or_none, percent


@dataclass(frozen=True)
class Result:
    """What a run left. final: its weights. files: all of them by name. scores: mIoU by name."""

    final: Path
    step: int
    files: dict[str, Path]
    scores: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        files = {name: str(path) for name, path in self.files.items()}
        scores = {name: or_none(score) for name, score in self.scores.items()}
        return {"final": str(self.final), "step": self.step, "files": files, "scores": scores}


def train(config: Config, device: str = "auto") -> Path:
    """Runs a configuration to its end, from where it was stopped; the file of its final weights."""
    return trained(config, world(device)).final


def trained(config: Config, place: World) -> Result:
    """The same in this one of its processes, and all that came of it."""
    with connected(place):
        run = Run(config, place)
        with alone(run.out) if place.first else contextlib.nullcontext():
            run.fit()
            return run.finish()


class Run:
    """One training run of a configuration, in one of `place.size` processes."""

    def __init__(self, config: Config, place: World, *, resume: bool = True) -> None:
        self.config = config = begun(config)
        self.place, self.out = place, Path(config.out)
        self.clips = training_clips(config)
        self.judged = validation_clips(config, self.clips)
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
        options = config.train
        self.optimiser = torch.optim.AdamW(parameter_groups(self.network, options.weight_decay))
        self.precision = Precision(options.precision, place.device)
        self.ema = moving_average(self.network, options.ema) if options.ema else None
        self.watch = Watch.of(config.val.every, config.val.patience, self.judged)
        store = None
        if is_store(loss.teacher):
            store = StoreTeacher(loss.teacher, self.clips.classes, self.clips.labelled())
        augment, cache = self.config.augment, self.out / STATISTICS
        self.samples = Samples(self.clips, augment, config.seed, store, config.data, cache)
        self.step = self.saved = self._resumed() if resume else 0
        if not self.step and place.first:
            check_sizes(self.clips, self.samples.pairs)
            if self.judged is not None:
                check_sizes(self.judged, self.judged.labelled())
        if place.size > 1:
            self.objective = DistributedDataParallel(self.objective, find_unused_parameters=True)

    @property
    def steps(self) -> int:
        """Of the baseline and the averaging phase together."""
        return self.config.train.steps + self.config.swa.cycles * self.config.swa.every

    @property
    def done(self) -> bool:
        return self.step >= self.steps or self.watch.over

    def fit(self) -> None:
        """Trains from the current step to the last."""
        accumulate = self.config.train.accumulate
        images = self.config.train.batch * accumulate * self.place.size
        batches = self.batches(self.step * accumulate, self.steps * accumulate)
        hidden = {} if self.place.first else {"disable": True}
        shown = bar(self.out.name, self.steps, unit="step", initial=self.step, **hidden)
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.closing(batches))
            log, steps = stack.enter_context(self._log()), stack.enter_context(shown)
            notice = stack.enter_context(noticed(self.place))
            self.network.train()
            self._validate(notice, log)  # that was due when the run was stopped
            while not self.done:
                begun = time.monotonic()
                loss = self.update([next(batches) for _ in range(accumulate)])
                self.step += 1
                pace = images / max(time.monotonic() - begun, 1e-9)
                rate = self.optimiser.param_groups[0]["lr"]
                numbers = {"loss": loss, "learning_rate": rate, "images_per_second": round(pace, 3)}
                self._validate(notice, log, **numbers)
                self._keep()
                val = self.watch.score
                known = "" if val is None else f"val {percent(val)} %, "
                steps.set_postfix_str(f"loss {loss:.3f}, {known}{pace:.3g} images/s", refresh=False)
                steps.update()
                if notice.everywhere():
                    if self.saved < self.step:
                        self._save_checkpoint()
                    where = f"step {self.step} is saved in {self.file('checkpoint')}"
                    raise Preempted(notice.number, where)

    def finish(self) -> Result:
        """Averages what is to be averaged, and scores all weights beside each other.

        The final ones are the average; without one, the best of a run that stopped early, else the
        baseline.
        """
        largest(0, self.place)  # the first process has written all that comes before
        average, over = self.config.swa, self.watch.over and self.watch.best_step > 0
        known = ["last", "best"] if self.watch.best_step else ["last"]
        known = ["baseline", *known] if self.step >= self.config.train.steps else known
        found = {name: self.file(name) for name in known if self.file(name).exists()}
        if average.cycles:
            found["averaged"] = self.file("averaged")
            cycles = [self.file(f"swa_{k:02d}") for k in range(1, average.cycles + 1)]
            if self.place.first:
                self._save("averaged", self._refreshed(swa.average(cycles), cycles[0]))
        if self.ema is not None:
            found["ema"] = self.file("ema")
            if self.place.first:
                self._save("ema", self._refreshed(self.ema.module.state_dict(), found["ema"]))
        scores = {name: self._scored(path) for name, path in found.items()} if self.judged else {}
        final = "averaged" if average.cycles else "best" if over else "baseline"
        return Result(self.file(final), self.step, found, scores)

    def file(self, name: str) -> Path:
        return self.out / f"{name}{checkpoint.SUFFIX}"

    def batches(self, first: int, last: int) -> Generator[Batch]:
        """Batches `first` <= b < `last` of this process."""
        options, place = self.config.train, self.place
        numbers = batches(first, last, options.batch, place.rank, place.size)
        pin = place.device.type == "cuda"
        return loaded(self.samples, numbers, workers=options.workers, pin=pin, begin=deaf)

    def update(self, batches: Sequence[Batch]) -> float:
        """One step of the optimiser; returns the mean loss. InputError where it is not finite."""
        device, total, objective = self.place.device, 0.0, self.objective
        scaler, clip = self.precision.scaler, self.config.train.clip
        torch.manual_seed(seed_of(self.config.seed, self.step, self.place.rank))
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        self.optimiser.zero_grad()
        with enough_memory(self.config):
            for number, batch in enumerate(batches, start=1):
                moved = [tensor.to(device, non_blocking=True) for tensor in batch]
                # processes exchange gradients after a step's last batch, not after each
                alone: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
                if number < len(batches) and isinstance(objective, DistributedDataParallel):
                    alone = objective.no_sync()
                with alone:
                    with self.precision.forward():
                        loss = objective(*moved)
                    scaler.scale(loss / len(batches)).backward()
                total += loss.item() / len(batches)
            if not math.isfinite(total):
                raise self._diverged(f"loss is {total}")
            if clip:
                scaler.unscale_(self.optimiser)
                nn.utils.clip_grad_norm_(self.network.parameters(), clip)
            scaler.step(self.optimiser)
            scaler.update()
        if self.ema is not None:
            self.ema.update_parameters(self.network)
        return total

    def _log(self) -> contextlib.AbstractContextManager[Log | None]:
        idle = self.done and not self.watch.due(self.step)
        if not self.place.first or idle:
            return contextlib.nullcontext()
        return Log(self.out, self.config.train.log, self.step)

    def _validate(self, notice: Notice, log: Log | None, **numbers: float) -> None:
        """Looks at the weights where that is due, keeps the best, and says what is known."""
        found = None
        if self.judged is not None and self.watch.due(self.step):
            self._check_weights()
            shared(self.network, self.place)  # each process has its own batch norm statistics
            found = score(self.network, self.judged, self.place, notice.here)
            if found is not None and self.watch.saw(self.step, found):
                self._save("best", self.network, val_miou=found)
        if log is not None and (numbers or found is not None):
            log.row(self.step, val_miou=found, **numbers)

    def _keep(self) -> None:
        """Writes what is due; the checkpoint last, so that none is ahead of its files."""
        options, average = self.config.train, self.config.swa
        cycle, rest = divmod(self.step - options.steps, average.every)
        due = [f"swa_{cycle:02d}" if cycle else "baseline"] if cycle >= 0 and rest == 0 else []
        due += ["last"] if self.done else []
        saves = self.step % options.checkpoint_every == 0 or self.done
        if due or saves:
            self._check_weights()
        for name in due:
            self._save(name, self.network)
        if saves:
            self._save_checkpoint()

    def _check_weights(self) -> None:
        """No file ever holds weights that are not finite: the loss may tell a step later."""
        if not all(bool(weights.isfinite().all()) for weights in self.network.parameters()):
            raise self._diverged("weights are not finite")

    def _diverged(self, got: str) -> InputError:
        advice = "lower the learning rate, set clip or another precision"
        on = f", and run again: {self.file('checkpoint')} goes on from step {self.saved}"
        advice += on if self.saved else ""
        return InputError(f"{self.out}: {got} in step {self.step}; {advice}")

    def _save(self, name: str, network: nn.Module, **facts: float) -> None:
        if self.place.first:
            known = {"step": self.step, "config": self.config.to_json(), **facts}
            checkpoint.save_network(self.file(name), network, self.architecture, **known)

    def _save_checkpoint(self) -> None:
        if self.place.first:
            kept = {"scaler": self.precision.state(), "val": self.watch.state()}
            document = {"step": self.step, "config": self._identity()}
            document |= {name: value for name, value in kept.items() if value}
            tensors = state.tensors_of(self.network, self.optimiser, self.ema)
            try:
                checkpoint.save(self.file("checkpoint"), tensors, document)
            except StoreError as error:
                stays = f"the checkpoint of step {self.saved} stays" if self.saved else "none stays"
                raise StoreError(f"{error}; {stays}, run again to go on") from error
        self.saved = self.step

    def _refreshed(self, tensors: Mapping[str, Tensor], path: Path) -> Network:
        """`swa.refreshed` on the first batches."""
        config, device = self.config, self.place.device
        images = (batch[0] for batch in self.batches(0, config.swa.refresh))
        seed, module = seed_of(config.seed, self.steps, 0), config.network.module or None
        how: dict[str, Any] = {"seed": seed, "module": module}
        return swa.refreshed(self.architecture, tensors, path, images, device, **how)

    def _scored(self, path: Path) -> float:
        assert self.judged is not None
        if self.place.first:
            checkpoint.load_state(self.network, checkpoint.load(path)[0], path)
        shared(self.network, self.place)
        found = score(self.network, self.judged, self.place)
        assert found is not None
        return found

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must agree on; the samples are frames and classes in order."""
        samples = repr(self.samples.identity).encode()
        facts: dict[str, Any] = {
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
        step, there = int(document["step"]), document.get("config", {})
        said = compared(path, step, there, self._identity(), self.config)
        state.restore(tensors, path, self.network, self.optimiser, self.ema)
        self.precision.restore(document.get("scaler", {}))
        if not self.watch.restore(document.get("val", {})):
            said.append("other frames are validated on than before: the best is looked for anew")
        for line in said if self.place.first else ():
            cli.remark(f"{self.out}: {line}")
        return step


def seed_of(seed: int, step: int, rank: int) -> int:
    """Of what is random in a step, such as dropout."""
    drawn = np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0]
    return int(drawn >> np.uint64(1))
