"""Averages of weights files: each made, predicted and kept once.

    OUT/a_01.zarr                             one file by itself, as `fusion.models.members` has it
    OUT/soups/a_01+a_03.{safetensors,zarr}    the mean of two

Means are `training.swa`'s: in float64, rounded once, batch norm statistics counted anew on training
images. The mean of one file is that file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from fusion.errors import InputError, StoreConflictError
from fusion.models.data.clips import Clips
from fusion.models.data.headers import sizes_of
from fusion.models.data.loading import loaded
from fusion.models.data.samples import Samples, batches
from fusion.models.predict import facts_of, fill
from fusion.models.training import checkpoint, swa
from fusion.models.training.config import Config
from fusion.models.training.distributed import World
from fusion.models.training.run import seed_of
from fusion.models.training.splits import training_clips
from fusion.search.result import rank
from fusion.text import listed

Some = tuple[int, ...]  # which of the files, in their order


class Pot:
    """What soups are made of.

    Args:
        weights: files of one network.
        config: of their training: where images are, and how many batches statistics are counted on
            ([swa] refresh).
        clips: to predict.
        out: folder of the stores.
        place: this process.
        batch: frames that are predicted at a time.

    Raises:
        InputError: files of different networks, of other classes than the clips, or of one name.
    """

    def __init__(
        self,
        weights: Sequence[Path],
        config: Config,
        clips: Clips,
        out: Path,
        place: World,
        batch: int = 4,
    ) -> None:
        self.weights, self.config, self.clips = list(weights), config, clips
        self.out, self.place, self.batch = out, place, batch
        self.names = [name_of(path) for path in weights]
        if twice := {name for name in self.names if self.names.count(name) > 1}:
            got = f"{listed(twice)} names several weights files"
            raise InputError(f"soup: {got}; give one of each run")
        kinds = [checkpoint.load_weights(path)[1] for path in weights]
        odd = next((k for k, kind in enumerate(kinds) if kind != kinds[0]), None)
        if odd is not None:
            got = f"{weights[odd]} is of another network than {weights[0]}"
            raise InputError(f"soup: {got}; average weights of one architecture and classes")
        self.architecture = kinds[0]
        if self.architecture.classes != clips.classes:
            got = f"{weights[0]} has other classes than the clips in {clips.root}"
            raise InputError(f"soup: {got}; give images of the same")

    @property
    def each(self) -> list[Some]:
        """Every file by itself."""
        return [(k,) for k in range(len(self.weights))]

    @property
    def whole(self) -> Some:
        """All of them."""
        return tuple(range(len(self.weights)))

    def name(self, some: Some) -> str:
        return "+".join(self.names[k] for k in some)

    def file(self, some: Some) -> Path:
        """The weights of a mean; StoreConflictError where other files were averaged before."""
        if len(some) == 1:
            return self.weights[some[0]]
        path = self.out / "soups" / f"{self.name(some)}{checkpoint.SUFFIX}"
        digests = [facts_of(self.weights[k], self.architecture)["weights_sha256"] for k in some]
        facts: dict[str, Any] = {"soup": digests, "refresh": self.config.swa.refresh}
        if path.exists():
            there = checkpoint.load(path)[1]
            if any(there.get(key) != value for key, value in facts.items()):
                got = f"{path} is the mean of other weights, or refreshed on other batches"
                raise StoreConflictError(f"soup: {got}; write to another folder")
            return path
        files, device = [self.weights[k] for k in some], self.place.device
        how: dict[str, Any] = {"seed": seed_of(self.config.seed, 0, 0), "module": self._module}
        mean = swa.average(files)
        network = swa.refreshed(self.architecture, mean, files[0], self.images(), device, **how)
        checkpoint.save_network(path, network, self.architecture, **facts)
        return path

    def store(self, some: Some) -> Path:
        """The store of a mean's predictions, filled where it is not."""
        weights, folder = self.file(some), self.out if len(some) == 1 else self.out / "soups"
        network, architecture = checkpoint.load_network(weights, module=self._module)
        path, facts = folder / f"{self.name(some)}.zarr", facts_of(weights, architecture)
        if len(some) > 1:
            facts["soup"] = [self.names[k] for k in some]
        fill(network, self.clips, path, self.place, facts, batch=self.batch)
        return path

    def images(self) -> Iterator[Tensor]:
        """The first batches [N, 3, c, c] of training, on which statistics are counted."""
        options = self.config.train
        numbers = batches(0, self.config.swa.refresh, options.batch)
        return (batch[0] for batch in loaded(self._samples, numbers, workers=options.workers))

    @cached_property
    def _samples(self) -> Samples:
        """Those of a run of the configuration."""
        config, clips = self.config, training_clips(self.config)
        stride = self.architecture.build(module=self._module).stride
        augment = config.augment.fitted(sizes_of(clips), stride)
        return Samples(clips, augment, config.seed, sampling=config.data)

    @property
    def _module(self) -> str | None:
        return self.config.network.module or None


def name_of(weights: Path) -> str:
    """runs/a_01/baseline.safetensors -> a_01; runs/a/swa_03.safetensors -> a_swa_03."""
    run, stem = weights.absolute().parent.name, weights.stem
    return f"{run}_{stem}" if stem.startswith("swa_") else run


def greedy(count: int, score: Callable[[Some], float]) -> Some:
    """Recipe 1 of Wortsman et al., "Model soups" (2022).

    Args:
        count: how many ingredients there are.
        score: of the mean of some on val.

    Returns:
        Those of the soup: from the best alone downwards, each where val does not fall with it.
    """
    by_val = sorted(range(count), key=lambda k: -rank(score((k,))))
    soup: Some = (by_val[0],)
    for one in by_val[1:]:
        larger = tuple(sorted((*soup, one)))
        if rank(score(larger)) >= rank(score(soup)):
            soup = larger
    return soup
