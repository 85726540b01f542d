"""The tables, and what in them is measured and what multiplied."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.scale.check import Check
from benchmarks.scale.growth import Fit
from benchmarks.scale.model import Rate
from benchmarks.scale.plans import Plan
from benchmarks.scale.rates import Measured
from fusion.text import say_bytes, table


def number(value: float) -> str:
    """Three digits and the usual letters."""
    for letter, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"


def hours(value: float) -> str:
    """In the unit that a person would say it in."""
    seconds = 3600 * value
    if seconds < 60:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.2g} min" if seconds < 3600 else f"{value:.3g} h"


def rate_table(rates: dict[str, Rate]) -> str:
    rows = [
        [stage, *map(number, (rate.median, rate.low, rate.high)), f"{rate.unit}/s", rate.origin]
        for stage, rate in rates.items()
    ]
    return table(rows, ["one core's, disk's or GPU's", "median", "p20", "p80", "of", "origin"])


def facts(found: Measured) -> str:
    kept = ", ".join(f"{share:.2f} of {name} numbers" for name, share in found.stored.items())
    lines = (
        f"on disk: {kept} (simulated maps; real ones differ)",
        f"contested: {found.contested:.1%} of label pixels, {found.candidates:.2f} candidates and"
        f" {found.bundle:.1f} bytes each (simulated, 3 groups)",
        f"left of a core when {found.threads} threads work: {found.thread:.0%} (processor time of a"
        " fusion); multiplied with the cores of every machine",
        "time: what is measured or predicted, multiplied; everything overlapping, or all in turn",
    )
    return "\n".join(lines)


def plan_table(plans: Sequence[Plan], currency: str) -> str:
    rows = []
    for plan in plans:
        middle, slow, fast = plan.middle, plan.slow, plan.fast
        rows.append(
            [
                *(plan.task, plan.machine.name, hours(middle.hours)),
                f"{hours(fast.hours)} to {hours(slow.hours)}",
                *(hours(middle.apart), say_bytes(plan.bytes), middle.bottleneck),
                *(f"{middle.cost:.2f} {currency}", plan.origin),
            ]
        )
    heads = ["task", "on", "time", "spread", "in turn", "disk", "bottleneck"]
    return table(rows, [*heads, "cost", "rates"])


def check_line(check: Check) -> str:
    return (
        f"an evaluation of {check.frames} frames on one core: model {check.predicted:.2f} s,"
        f" measured {check.measured:.2f} s ({check.measured / check.predicted:.2f} of it)"
    )


def growth_table(fits: Sequence[Fit]) -> str:
    rows, twice = [], []
    for fit in fits:
        a, b = fit.line
        points = ", ".join(f"{n}: {s:.3f}" for n, s in zip(fit.amounts, fit.seconds, strict=True))
        numbers = (f"{a:.3f}", f"{1000 * b:.3g}", f"{fit.residual:.1%}", f"{fit.exponent:.2f}")
        rows.append([fit.axis, points, *numbers])
        twice += [
            [f"{fit.axis} {n} to {m}", f"{t:.2f}x", f"{line:.2f}x"]
            for n, m, t, line in fit.doublings
        ]
    heads = [
        "growth in",
        "processor seconds (medians)",
        "fixed s",
        "ms each",
        "residual",
        "exponent",
    ]
    return (
        f"{table(rows, heads)}\n\n{table(twice, ['doubled', 'takes', 'a line through all takes'])}"
    )
