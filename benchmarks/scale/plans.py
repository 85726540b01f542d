"""Tasks on machines: the rows of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.scale.machines import vspw_val
from benchmarks.scale.model import (
    GPUS,
    LINK,
    ON_DISK,
    Estimate,
    Machine,
    Rate,
    Step,
    condensation,
    estimate,
    evaluation,
    sweeping,
)
from benchmarks.scale.rates import Measured


@dataclass(frozen=True)
class Plan:
    """One task on one machine.

    slow, fast: with all rates at their low and high quantiles. bytes: read from disk and written.
    """

    task: str
    machine: Machine
    middle: Estimate
    slow: Estimate
    fast: Estimate
    bytes: float

    @property
    def origin(self) -> str:
        """What the rates are; amounts are counted, and multiplied."""
        on_gpu = [stage for place, stage in self.middle.stages if place in (GPUS, LINK)]
        return f"measured; GPU file: {', '.join(on_gpu)}" if on_gpu else "measured"

    def document(self) -> dict[str, object]:
        stages = {f"{place}, {stage}": s for (place, stage), s in self.middle.stages.items()}
        return {
            "task": self.task,
            "machine": vars(self.machine),
            "hours": self.middle.hours,
            "hours_fast_slow": [self.fast.hours, self.slow.hours],
            "hours_in_turn": self.middle.apart,
            "bytes": self.bytes,
            "bottleneck": self.middle.bottleneck,
            "cost": self.middle.cost,
            "rates": self.origin,
            "seconds_by_stage": stages,
        }


def tasks(
    found: Measured, pixels: float, weightings: float, passes: float
) -> dict[str, Sequence[Step]]:
    """VSPW val whole, and a search of so many contested pixels."""
    works = {profile: vspw_val(profile, stored) for profile, stored in found.stored.items()}
    made = {f"labels of {work.name}": evaluation(work) for work in works.values()}
    val = works["compact"]
    own = val.pixels * found.contested
    made["condensing VSPW val"] = condensation(val, found.contested, found.bundle)
    made[f"sweeping its {own / 1e9:.2f}e9"] = sweeping(own, found.bundle, weightings, passes)
    made[f"sweeping {pixels / 1e9:g}e9"] = sweeping(pixels, found.bundle, weightings, passes)
    return made


def plans(
    work: Mapping[str, Sequence[Step]],
    machines: Sequence[Machine],
    rates: Mapping[str, Rate],
    gpu: Mapping[str, Rate],
) -> list[Plan]:
    """Every task on every machine."""
    made = []
    for task, steps in work.items():
        size = sum(step.amount for step in steps if step.stage in ON_DISK)
        for machine in machines:
            each = [estimate(steps, machine, rates, gpu, q) for q in ("median", "low", "high")]
            made.append(Plan(task, machine, *each, size))
    return made
