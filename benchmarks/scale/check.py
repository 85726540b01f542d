"""The model on a run that can be measured: one thread, a few frames, every stage after another."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import measure
from benchmarks.scale import growth
from benchmarks.scale.model import HOUR, Machine, Rate, Workload, estimate, evaluation
from benchmarks.scale.rates import FULL, TINY, processor
from fusion.parallel import one_thread

FRAMES = 2
LEFT_OUT = ("read", "write")  # files are in the page cache, and labels are only counted


@dataclass(frozen=True)
class Check:
    """Seconds of processor time of an evaluation, as the model has it and as it was."""

    predicted: float
    measured: float
    frames: int


def checked(folder: Path, quick: bool, rounds: int, rates: dict[str, Rate]) -> Check:
    """One evaluation of compact stores with as many models and classes as the rates' inputs."""
    form = TINY if quick else FULL
    models, classes, native, size = (form[k] for k in ("models", "classes", "native", "size"))
    shape = growth.Shape(models, classes, 1, FRAMES, native, size)
    growth.write(shape, folder)
    with one_thread():
        run = partial(growth.evaluate, folder, growth.truth(shape))
        _, median, _ = measure.quantiles(processor({"it": run}, rounds)["it"])
    work = Workload("check", FRAMES, models, classes, 1, native, size, item=1, stored=1.0)
    steps = [step for step in evaluation(work) if step.stage not in LEFT_OUT]
    alone = Machine("one core", 1, 0, 1, 1.0, 0.0)
    return Check(estimate(steps, alone, rates, {}).apart * HOUR, median, FRAMES)
