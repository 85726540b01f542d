"""python -m fusion.models.train --config run.toml: trains one network, and goes on where it was stopped.

Writes into the run's folder: checkpoint (weights, optimiser and step, replaced as training goes), baseline (weights at the end of the
schedule) and, with [swa] cycles, swa_01 ... and averaged. `config` has every key.

Whatever is random in step i follows from the seed and i alone, as does the learning rate, so a run that was killed and started again
ends in the same bits as one that was not (on a CPU, with the same number of threads; GPUs add in no fixed order).

    learning rate    rises over `warmup` steps, falls as learning_rate (1 - i / steps)^power, then cycles as `swa.cyclical`
    step             AdamW on the mean gradient of `accumulate` batches of `batch` images in each process
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm import tqdm

from fusion import cli
from fusion.errors import InputError
from fusion.models.data.clips import Batches, Clips, Samples, folds
from fusion.models.data.source import open_clips, read_names
from fusion.models.registry import Architecture, Criterion, Network
from fusion.models.statistics import FILE, class_statistics
from fusion.models.training import checkpoint, config, losses, swa
from fusion.models.training.config import Config
from fusion.models.training.distributed import World, connected, world

# What may differ between a run and its continuation; the data are compared by their ids, not by their place.
HARMLESS = frozenset(
    {
        "out",
        "train.workers",
        "train.checkpoint_every",
        *(f"data.{key}" for key in ("vspw", "images", "labels", "classes")),
    }
)


class Objective(nn.Module):
    """The training loss as one module, which is what data parallelism wraps."""

    def __init__(
        self, network: Network, criterion: Criterion, teacher: Network | None, kl: float
    ) -> None:
        super().__init__()
        self.network, self.teacher, self._criterion, self._kl = network, teacher, criterion, kl

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        if self.teacher is None:
            return self.network.loss(images, targets, self._criterion)
        outputs = self.network.logits(images)
        with torch.no_grad():
            reference = self.teacher.logits(images)
        return self._criterion(outputs, targets) + self._kl * losses.distillation(
            outputs, reference
        )


class Run:
    """One training run of a configuration, in one of `place.size` processes."""

    def __init__(self, options: Config, place: World) -> None:
        self.options, self.place, self.out = options, place, Path(options.out)
        self.clips = training_clips(options)
        torch.manual_seed(options.seed)
        self.network, self.architecture, teacher = self._networks()
        criterion = partial(
            losses.ohem_cross_entropy,
            threshold=options.loss.threshold,
            min_kept=options.loss.min_kept,
        )
        objective = Objective(
            self.network,
            criterion if options.loss.ohem else losses.cross_entropy,
            teacher,
            options.loss.kl,
        )
        self.objective: nn.Module = objective.to(place.device)
        self.optimiser = torch.optim.AdamW(
            parameter_groups(self.network, options.train.weight_decay)
        )
        self.samples = Samples(self.clips, options.augment, options.seed)
        self.step = self._resumed()
        if place.size > 1:
            self.objective = DistributedDataParallel(self.objective, find_unused_parameters=True)

    @property
    def steps(self) -> int:
        """Of the baseline and the averaging phase together."""
        return self.options.train.steps + self.options.swa.cycles * self.options.swa.every

    def fit(self) -> None:
        """Trains from the current step to the last."""
        accumulate = self.options.train.accumulate
        batches = iter(self.batches(self.step * accumulate, self.steps * accumulate))
        bar = tqdm(
            total=self.steps,
            initial=self.step,
            desc=self.out.name,
            unit="step",
            file=sys.stderr,
            delay=0.5,
            mininterval=0.5,
        )
        with bar if self.place.first else contextlib.nullcontext():
            self.network.train()
            while self.step < self.steps:
                loss = self._update([next(batches) for _ in range(accumulate)])
                self.step += 1
                self._keep()
                if self.place.first:
                    bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
                    bar.update()

    def finish(self) -> Path:
        """The final weights: the average's file, or the baseline's without averaging."""
        if not self.options.swa.cycles:
            return self.file("baseline")
        if self.place.first:
            torch.manual_seed(seed_of(self.options.seed, self.steps, 0))
            images = (images for images, _ in self.batches(0, self.options.swa.refresh))
            swa.averaged(
                self.network,
                [self.file(f"swa_{k:02d}") for k in range(1, self.options.swa.cycles + 1)],
                images,
                self.place.device,
            )
            self._save("averaged")
        return self.file("averaged")

    def file(self, name: str) -> Path:
        return self.out / f"{name}{checkpoint.SUFFIX}"

    def batches(self, first: int, last: int) -> DataLoader[tuple[Tensor, Tensor]]:
        """Batches `first` <= b < `last` of this process: images [N, 3, c, c], targets [N, c, c]."""
        numbers = Batches(first, last, self.options.train.batch, self.place.rank, self.place.size)
        pinned = self.place.device.type == "cuda"
        return DataLoader(
            self.samples,
            batch_sampler=numbers,
            num_workers=self.options.train.workers,
            pin_memory=pinned,
        )

    def _update(self, batches: Sequence[tuple[Tensor, Tensor]]) -> float:
        """One step of the optimiser; returns the mean loss. InputError where it is not finite."""
        device, total = self.place.device, 0.0
        torch.manual_seed(seed_of(self.options.seed, self.step, self.place.rank))
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.options, self.step)
        self.optimiser.zero_grad()
        for number, (images, targets) in enumerate(batches):
            wrapped, last = (
                isinstance(self.objective, DistributedDataParallel),
                number == len(batches) - 1,
            )
            quiet = self.objective.no_sync() if wrapped and not last else contextlib.nullcontext()  # type: ignore[operator]
            with quiet, torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = self.objective(
                    images.to(device, non_blocking=True), targets.to(device, non_blocking=True)
                )
                (loss / len(batches)).backward()
            total += loss.item() / len(batches)
        if not math.isfinite(total):
            raise InputError(
                f"{self.out}: loss is {total} in step {self.step}; lower the learning rate or lengthen the warm-up"
            )
        if self.options.train.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.options.train.clip)
        self.optimiser.step()
        return total

    def _keep(self) -> None:
        """Writes what is due after a step: weights before the checkpoint, so that no checkpoint is ahead of its files."""
        train, average = self.options.train, self.options.swa
        beyond = self.step - train.steps
        if beyond == 0:
            self._save("baseline")
        if beyond > 0 and beyond % average.every == 0:
            self._save(f"swa_{beyond // average.every:02d}")
        if (
            self.step % train.checkpoint_every == 0 or self.step == self.steps
        ) and self.place.first:
            state = {
                f"network/{name}": tensor for name, tensor in self.network.state_dict().items()
            }
            for name, parameter in self.network.named_parameters():
                state |= {
                    f"optimiser/{name}/{key}": value
                    for key, value in self.optimiser.state.get(parameter, {}).items()
                }
            checkpoint.save(
                self.file("checkpoint"), state, {"step": self.step, "config": self._identity()}
            )

    def _save(self, name: str) -> None:
        if self.place.first:
            checkpoint.save_network(
                self.file(name),
                self.network,
                self.architecture,
                step=self.step,
                config=self.options.to_json(),
            )

    def _identity(self) -> dict[str, object]:
        """What a checkpoint must agree on: configuration, processes, and the frames and classes in their order."""
        samples = hashlib.sha256(
            repr((self.samples.pairs, self.clips.classes)).encode()
        ).hexdigest()
        return {**self.options.to_json(), "processes": self.place.size, "samples": samples}

    def _resumed(self) -> int:
        """The step to go on from, its state loaded; 0 where nothing was begun."""
        path = self.file("checkpoint")
        if not path.exists():
            return 0
        tensors, document = checkpoint.load(path)
        checkpoint.check_same(path, document.get("config", {}), self._identity(), HARMLESS)
        state = {
            name.removeprefix("network/"): tensor
            for name, tensor in tensors.items()
            if name.startswith("network/")
        }
        checkpoint.load_state(self.network, state, str(path))
        parameters = dict(self.network.named_parameters())
        for name, tensor in tensors.items():
            if name.startswith("optimiser/"):
                owner, key = name.removeprefix("optimiser/").rsplit("/", 1)
                parameter = parameters[owner]
                self.optimiser.state[parameter][key] = (
                    tensor if key == "step" else tensor.to(parameter.device)
                )
        return int(document["step"])

    def _networks(self) -> tuple[Network, Architecture, Network | None]:
        """The network to train, what it is, and its teacher."""
        choice, loss = self.options.network, self.options.loss
        options, module = dict(choice.options), choice.module or None
        pretrained = bool(options.pop("pretrained", False))
        adjustment = (loss.tau, loss.scale) if loss.adjust else ()
        architecture = Architecture(choice.name, self.clips.classes, options, *adjustment)
        sources = [
            name
            for name, given in (
                ("pretrained", pretrained),
                ("start", choice.start),
                ("teacher", loss.teacher),
            )
            if given
        ]
        if len(sources) > 1:
            raise InputError(
                f"network: {' and '.join(sources)} each say what to start from; keep one"
            )
        prior = class_statistics(self.clips, self.out / FILE).log_prior() if loss.adjust else None
        network = architecture.build(prior, module=module, pretrained=pretrained)
        if self.options.augment.crop % network.stride:
            raise InputError(
                f"augment: crop is {self.options.augment.crop}; {choice.name!r} takes multiples of {network.stride}"
            )
        if (loss.ohem or loss.teacher) and type(network).loss is not Network.loss:
            raise InputError(
                f"loss: {choice.name!r} trains by its own loss; ohem and teacher are for networks of per-pixel logits"
            )
        if choice.start:
            checkpoint.start_from(network, architecture, choice.start)
        if not loss.teacher:
            return network, architecture, None
        teacher, taught = checkpoint.load_network(loss.teacher, module=module)
        if taught != architecture:
            raise InputError(
                f"loss: teacher {loss.teacher} is {taught.network} {taught.options}, not the student's architecture"
            )
        network.load_state_dict(teacher.state_dict())
        return network, architecture, teacher.requires_grad_(False)


def training_clips(options: Config) -> Clips:
    """The labelled clips of a configuration, without its held-out fold."""
    data = options.data
    names = read_names(data.classes) if data.classes else None
    clips = open_clips(data.vspw, data.split, data.images, data.labels, names, labelled=True)
    if not data.folds:
        return clips
    left_out = folds(clips.videos, data.folds, data.fold_seed)[data.fold]
    return clips.only([video for video in clips.videos if video not in left_out])


def learning_rate(options: Config, step: int) -> float:
    """Warm-up and polynomial decay, then the cycles of weight averaging."""
    train, average = options.train, options.swa
    if step >= train.steps:
        return swa.cyclical(step - train.steps, average.every, average.highest, average.lowest)
    warm = min(1.0, (step + 1) / train.warmup) if train.warmup else 1.0
    return train.learning_rate * warm * (1 - step / train.steps) ** train.power


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """AdamW's groups: norms, biases and other vectors do not decay."""
    named = [parameter for parameter in network.parameters() if parameter.requires_grad]
    matrices, vectors = [p for p in named if p.ndim > 1], [p for p in named if p.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


def seed_of(seed: int, step: int, rank: int) -> int:
    """Of everything random in a step: dropout and its kind."""
    return int(
        np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1)
    )


def train(options: Config, device: str = "auto") -> Path:
    """Runs a configuration to its end, from where it was stopped. Returns the file of the final weights."""
    place = world(device)
    with connected(place):
        run = Run(options, place)
        run.fit()
        return run.finish()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = cli.parser(
        "fusion.models.train",
        "Train one network; run the same command again to go on.",
        "several GPUs: torchrun -m ...",
    )
    parser.add_argument(
        "--config",
        type=Path,
        required=True,
        help="TOML; keys and defaults: fusion/models/config.py",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    given = parser.parse_args(arguments)
    print(f"final weights: {train(config.read(given.config), given.device)}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
