"""The arithmetic: steps of a workload on the resources of a machine.

M models, G groups, C classes, h w store pixels, H W label pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

DISK, CORES, LINK, GPUS = "disk", "cores", "links to GPUs", "GPUs"
ON_DISK, ON_LINK = ("read", "keep"), ("transfer",)
HOUR = 3600


@dataclass(frozen=True)
class Rate:
    """What one core, link, GPU or disk does a second.

    Args:
        median: of the measurements.
        low: their 20th percentile.
        high: their 80th.
        unit: of what is done.
        origin: "measured", "predicted", "given" and by what.
    """

    median: float
    low: float
    high: float
    unit: str
    origin: str = "measured"


@dataclass(frozen=True)
class Workload:
    """Frames of stores, and what is made of them.

    Args:
        name: of its rows.
        frames: how many.
        models: M.
        classes: C.
        groups: G.
        native: (h, w).
        size: (H, W).
        item: bytes of a number as stores keep it: 1 "compact", 2 "exact".
        stored: bytes on disk per byte of numbers.
    """

    name: str
    frames: int
    models: int
    classes: int
    groups: int
    native: tuple[int, int]
    size: tuple[int, int]
    item: int
    stored: float

    @property
    def profile(self) -> str:
        return {1: "compact", 2: "exact"}[self.item]

    @property
    def scores(self) -> int:
        """Numbers in the stores."""
        return self.frames * self.models * self.classes * math.prod(self.native)

    @property
    def pixels(self) -> int:
        """Of all label maps."""
        return self.frames * math.prod(self.size)

    @property
    def bytes(self) -> float:
        """On disk."""
        return self.scores * self.item * self.stored


@dataclass(frozen=True)
class Step:
    """So much work for the rate of this name."""

    stage: str
    amount: float


def evaluation(work: Workload) -> list[Step]:
    """Stores to label maps on disk and their confusion matrix."""
    return [
        *_fused(work),
        Step("upsample", work.pixels * work.classes),
        Step("count", work.pixels),
        Step("write", work.pixels),
    ]


def condensation(work: Workload, contested: float, bundle: float) -> list[Step]:
    """Stores to contested pixels on disk.

    Args:
        work: what is searched.
        contested: their share of the label pixels.
        bundle: bytes of one.
    """
    means = work.groups * work.classes
    back = 4 * work.frames * means * math.prod(work.native)
    return [
        *_fused(work),
        Step("transfer", back),
        Step("means", work.pixels * means),
        Step("condense", work.pixels * means),
        Step("keep", work.pixels * contested * bundle),
    ]


def sweeping(pixels: float, bundle: float, weightings: float, passes: float) -> list[Step]:
    """Contested pixels on disk to counts under every weighting."""
    return [Step("read", passes * pixels * bundle), Step("sweep", pixels * weightings)]


def _fused(work: Workload) -> list[Step]:
    return [
        Step("read", work.bytes),
        Step(f"decode-{work.profile}", work.scores),
        Step("transfer", work.scores * work.item),
        Step(f"fuse-{work.profile}", work.scores),
    ]


@dataclass(frozen=True)
class Machine:
    """Everything that works at once.

    Args:
        name: of its rows.
        cores: of all machines together.
        gpus: the same.
        disks: how many disks of the measured rate are read at once.
        efficiency: the share of a core that is left when all work.
        price: of an hour of everything.
    """

    name: str
    cores: int
    gpus: int
    disks: float
    efficiency: float
    price: float


@dataclass(frozen=True)
class Estimate:
    """What a workload takes.

    busy: seconds by resource. stages: seconds by (resource, stage).
    """

    stages: Mapping[tuple[str, str], float]
    price: float

    @property
    def busy(self) -> dict[str, float]:
        total: dict[str, float] = {}
        for (resource, _), seconds in self.stages.items():
            total[resource] = total.get(resource, 0.0) + seconds
        return total

    @property
    def hours(self) -> float:
        """Where everything overlaps."""
        return max(self.busy.values()) / HOUR

    @property
    def apart(self) -> float:
        """Hours where nothing does."""
        return sum(self.stages.values()) / HOUR

    @property
    def cost(self) -> float:
        return self.hours * self.price

    @property
    def bottleneck(self) -> str:
        """The busiest resource, and what keeps it busy longest."""
        busy = self.busy
        resource = max(busy, key=lambda name: busy[name])
        own = {stage: s for (place, stage), s in self.stages.items() if place == resource}
        longest = max(own, key=lambda name: own[name])
        return f"{resource}: {longest} {own[longest] / busy[resource]:.0%}"


def estimate(
    steps: Iterable[Step],
    machine: Machine,
    rates: Mapping[str, Rate],
    gpu: Mapping[str, Rate],
    quantile: str = "median",
) -> Estimate:
    """Each step on what it keeps busy.

    Args:
        steps: of the workload.
        machine: what there is.
        rates: of one core and one disk, by stage.
        gpu: of one GPU and its link; what is not here stays on the cores.
        quantile: which of a rate's numbers counts, "median", "low" or "high".
    """
    numbers = {DISK: machine.disks, CORES: machine.cores * machine.efficiency}
    numbers |= {LINK: machine.gpus, GPUS: machine.gpus}
    stages: dict[tuple[str, str], float] = {}
    for step in steps:
        resource = place_of(step.stage, machine, gpu)
        if resource is None:
            continue
        source = gpu if resource in (LINK, GPUS) else rates
        speed = getattr(source[step.stage], quantile) * numbers[resource]
        key = resource, step.stage
        stages[key] = stages.get(key, 0.0) + step.amount / speed
    return Estimate(stages, machine.price)


def place_of(stage: str, machine: Machine, gpu: Mapping[str, Rate]) -> str | None:
    """What a stage keeps busy; None where there is nothing to do."""
    if stage in ON_DISK:
        return DISK
    if stage in ON_LINK:
        return LINK if machine.gpus else None
    return GPUS if machine.gpus and stage in gpu else CORES
