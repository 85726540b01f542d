"""Throughput of fusion: `python -m benchmarks.fusion [--device cuda] [--case NAME] [--json] [--csv
FILE] [--quick]`.

Every case runs this library's kernel and its peers in turn, round after round, so that a busy
machine slows all alike. Before any timing each contender's labels must equal the reference's
(peers, and kernels on a GPU, may differ where the two best scores are within 1e-6): a contender
that fails is reported as wrong, without a speed; a vote, which is another question, is held to its
definition. The floor is the bytes that must be read over the
bandwidth of a copy (bytes read plus written), measured in the same run; on a GPU the time of the
exponentials where that is longer.

M models, G groups, C classes, logits [C, H, W]; times in milliseconds.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import datetime
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import clock, measure, peers, simulated
from benchmarks.peers import Problem
from fusion.kernels import confusion, softmax_average, upsample_softmax_average
from fusion.kernels.arithmetic import Fused
from fusion.kernels.average import naive as average
from fusion.kernels.call import check, check_upsampling
from fusion.kernels.confusion import naive as counting
from fusion.kernels.upsample import cpu
from fusion.kernels.upsample import naive as upsample

SAME = 1e-6  # scores closer than this may be ordered either way by arithmetic of another order


@dataclass(frozen=True)
class Case:
    """One workload: how its inputs are made, and what runs on them. `fused` and `expected` return
    labels, or counts."""

    name: str
    about: str
    make: Callable[[bool], Problem | None]
    fused: Callable[[Problem], Tensor]
    expected: Callable[[Problem], Fused]
    exponentials: Callable[[Problem], int]
    decided: Callable[[Problem], float] | None
    peers: dict[str, Callable[[Problem], Tensor]]


@dataclass(frozen=True)
class Row(measure.Row):
    """With rates and memory."""

    elements_per_s: float | None = None
    frames_per_s: float | None = None
    bytes_per_s: float | None = None
    fraction_of_floor: float | None = None
    peak_mb: float | None = None
    times_fusion: float | None = None
    decided: float | None = None


def _size(quick: bool) -> tuple[int, int, tuple[int, int]]:
    return (3, 7, (12, 20)) if quick else (22, 124, (120, 214))


def _maps(
    kind: str, scene: Callable[..., list[Tensor]], upsampled: bool = False
) -> Callable[[bool], Problem]:
    def make(quick: bool) -> Problem:
        models, classes, size = _size(quick)
        logits = [
            simulated.gap_codes(z) if kind == "codes" else z.half()
            for z in scene(models, classes, size)
        ]
        target = ((40, 60) if quick else (480, 853)) if upsampled else size
        return Problem.of(logits, target, frames=1)

    return make


def _channels(kind: str, channels: int, size: tuple[int, int]) -> Callable[[bool], Problem]:
    """22 models of independent channels, about 70 MB of codes."""

    def make(quick: bool) -> Problem:
        models, shape = (3, (12, 20)) if quick else (22, size)
        logits = simulated.agreeing(models, channels, shape)
        kept = [simulated.angle_codes(z) if kind == "codes" else z.half() for z in logits]
        return Problem.of(kept, shape, frames=1)

    return make


def _real(upsampled: bool) -> Callable[[bool], Problem | None]:
    def make(quick: bool) -> Problem | None:
        codes = simulated.real_codes(2 if quick else 16)
        if codes is None:
            return None
        if upsampled:
            return Problem.of([z[:, 0] for z in codes], (360, 480), frames=1)
        return Problem.of(codes, (60, 80), frames=codes[0].shape[1])

    return make


def _label_pair(quick: bool) -> Problem:
    generator = torch.Generator().manual_seed(0)
    classes, shape = (7, (2, 40, 60)) if quick else (124, (20, 480, 853))
    labels = torch.randint(classes, (1, *shape), generator=generator).to(torch.uint8)
    targets = torch.where(torch.rand(labels.shape, generator=generator) < 0.8, labels, 255).to(
        torch.uint8
    )
    return Problem([targets, labels], [1.0], [[0]], (shape[1], shape[2]), shape[0], classes)


def _average(p: Problem) -> Tensor:
    return _labels(softmax_average(p.logits, p.weights, groups=p.groups))


def _channel_average(p: Problem) -> Tensor:
    return _labels(softmax_average(p.logits, p.weights, groups=p.groups, channels=True))


def _expected_channels(p: Problem) -> Fused:
    options = {"groups": p.groups, "outputs": ("labels", "probabilities"), "channels": True}
    fused = average.average(check(p.logits, p.weights, **options))
    assert fused.probabilities is not None
    return Fused(labels=fused.labels, margin=(2 * fused.probabilities - 1).abs())


def _upsampled(resize: str) -> Callable[[Problem], Tensor]:
    return lambda p: _labels(
        upsample_softmax_average(p.logits, p.weights, p.size, groups=p.groups, resize=resize)
    )


def _labels(fused: Fused) -> Tensor:
    assert fused.labels is not None
    return fused.labels


def _expected_average(p: Problem) -> Fused:
    call = check(p.logits, p.weights, groups=p.groups, outputs=("labels", "margin"))
    return average.average(call)


def _expected_upsampled(resize: str) -> Callable[[Problem], Fused]:
    """The first rows only: the reference would take minutes and gigabytes for all of them."""
    options = {"resize": resize, "rows": (0, 8), "outputs": ("labels", "margin")}
    return lambda p: upsample.upsample(
        check_upsampling(p.logits, p.weights, p.size, groups=p.groups, **options)
    )


def _counts(p: Problem) -> Fused:
    counts = counting.confusion(p.logits[0].cpu(), p.logits[1].cpu(), p.classes)
    counts = counts.to(p.logits[0].device)
    return Fused(labels=counts, margin=torch.ones(counts.shape, device=counts.device))


def _case(
    name: str, about: str, make: Callable[[bool], Problem | None], resize: str | None = None
) -> Case:
    if resize is None:
        return Case(
            name, about, make, _average, _expected_average, Problem.elements, None, peers.AVERAGE
        )
    cheap, runs = resize == "probabilities", (_upsampled(resize), _expected_upsampled(resize))
    counted = (Problem.elements, _decided) if cheap else (_label_elements, None)
    return Case(name, about, make, *runs, *counted, peers.UPSAMPLE[resize])


def _channel_case(name: str, about: str, make: Callable[[bool], Problem]) -> Case:
    exponentials = Problem.elements if "float16" in name else lambda p: 0
    runs = (_channel_average, _expected_channels, exponentials)
    return Case(name, about, make, *runs, None, peers.CHANNELS)


def _label_elements(p: Problem) -> int:
    return len(p.logits) * p.classes * p.size[0] * p.size[1]


def _decided(p: Problem) -> float:
    """Share of the label pixels whose corners leave one class: nothing was interpolated there."""
    shortcuts = cpu.counted(check_upsampling(p.logits, p.weights, p.size, groups=p.groups))[1]
    return shortcuts.one_class / shortcuts.pixels


AGREE, NOISE = simulated.agreeing, simulated.disagreeing
CODES = _maps("codes", AGREE, True)
_CASES = (
    _case("average-float16", "float16 logits of models that agree", _maps("float16", AGREE)),
    _case("average-codes", "gap codes of models that agree", _maps("codes", AGREE)),
    _case("average-float16-noise", "float16 logits, pure noise", _maps("float16", NOISE)),
    _case("average-codes-noise", "gap codes, pure noise", _maps("codes", NOISE)),
    _case("upsample-probabilities", "codes to label size", CODES, "probabilities"),
    _case("upsample-logits", "codes to label size, logits interpolated", CODES, "logits"),
    _channel_case(
        "channels-codes", "angle codes of 3 channels", _channels("codes", 3, (1024, 1024))
    ),
    _channel_case(
        "channels-codes-1", "angle codes of a binary mask", _channels("codes", 1, (1792, 1792))
    ),
    _channel_case(
        "channels-float16", "float16 logits of 3 channels", _channels("float16", 3, (720, 720))
    ),
    _case("camvid22-codes", "22 real networks (SEGFUSION_DATA)", _real(False)),
    _case("camvid22-upsample", "to label size (SEGFUSION_DATA)", _real(True), "probabilities"),
    Case(
        "confusion",
        "labels and targets to counts",
        _label_pair,
        lambda p: confusion(p.logits[0], p.logits[1], p.classes),
        _counts,
        lambda p: 0,
        None,
        {"torch bincount": peers.bincount},
    ),
)
CASES = {case.name: case for case in _CASES}


def agrees(made: Tensor, expected: Fused, exact: bool, room: float = SAME) -> bool:
    """Whether labels equal the reference's over the part that the reference worked out."""
    labels = _labels(expected)
    made = made.to(labels.device)
    made = made if made.shape == labels.shape else made[: labels.shape[0]]
    wrong = made.to(torch.int64) != labels.to(torch.int64)
    if not exact and expected.margin is not None:
        wrong &= expected.margin >= room
    return not bool(wrong.any())


def run_case(
    case: Case, device: torch.device, quick: bool, rounds: int, compiles: bool
) -> list[Row]:
    """Rows of one case, this library's first; none where its data is not there."""
    problem = case.make(quick)
    if problem is None:
        return []
    problem = problem.to(device)
    contenders: dict[str, Callable[[Problem], Tensor]] = {"fusion": case.fused, **case.peers}
    if not compiles:
        contenders = {name: run for name, run in contenders.items() if "compile" not in name}
    expected, rows, sound = case.expected(problem), [], {}
    for name, run in peers.present(contenders).items():
        exact, right = name == "fusion" and device.type == "cpu", expected
        if isinstance(run, peers.Peer) and run.answers is not None:
            exact, right = True, Fused(labels=run.answers(problem))
        if agrees(run(problem), right, exact=exact):
            sound[name] = run
        else:
            rows.append(Row(case.name, name, "wrong: labels differ from the reference's"))
    times = measure.interleaved(
        {name: partial(run, problem) for name, run in sound.items()}, rounds, device
    )
    moved = problem.bytes()
    rate = measure.exponential_rate(device)
    floor = 1000 * moved / measure.copy_bandwidth(device, 1 << (20 if quick else 27))
    floor = floor if rate is None else max(floor, 1000 * case.exponentials(problem) / rate)
    decided = case.decided(problem) if case.decided is not None and device.type == "cpu" else None
    for name, spent in times.items():
        if not spent:
            rows.append(Row(case.name, name, clock.HOST_BOUND))
            continue
        contender = clock.contender(name)
        run, ours = sound[contender], times.get(name.replace(contender, "fusion", 1))
        low, median, high = measure.quantiles(spent)
        speeds = (1e3 * amount / median for amount in (problem.elements(), problem.frames, moved))
        peak = measure.peak_megabytes(partial(run, problem), device)
        ratio = measure.quantiles(ours)[1] / median if ours else None  # calls beside calls
        shortcuts = decided if name == "fusion" else None
        numbers = (median, low, high, *speeds, floor / median, peak, ratio, shortcuts)
        rows.append(Row(case.name, name, "ok", *numbers))
    return sorted(rows, key=lambda row: clock.contender(row.contender) != "fusion")


def print_rows(rows: list[Row]) -> None:
    heads = ["case", "contender", "median", "p20", "p80", "Gelem/s", "frames/s", "GB/s", "floor"]
    heads += ["peak MB", "slower", "decided"]
    print("{:24} {:28} {:>9} {:>9} {:>9} {:>8} {:>9} {:>7} {:>6} {:>8} {:>7} {:>7}".format(*heads))
    for row in rows:
        if row.median_ms is None:
            print(f"{row.case:24} {row.contender:28} {row.status}")
            continue
        numbers = (
            row.median_ms,
            row.p20_ms,
            row.p80_ms,
            row.elements_per_s / 1e9,
            row.frames_per_s,
            row.bytes_per_s / 1e9,
        )  # type: ignore[operator]
        shown = "{:9.2f} {:9.2f} {:9.2f} {:8.3f} {:9.1f} {:7.2f}".format(*numbers)
        ratio = "" if row.times_fusion is None else f"{1 / row.times_fusion:6.1f}x"
        decided = "" if row.decided is None else f"{row.decided:.1%}"
        tail = f"{row.fraction_of_floor:6.1%} {row.peak_mb:8.1f} {ratio:>7} {decided:>7}"
        print(f"{row.case:24} {row.contender:28} {shown} {tail}")


def write_csv(rows: list[Row], path: Path, device: torch.device) -> None:
    """Appends rows with device, versions and date."""
    stamps = {"date": datetime.date.today().isoformat(), **measure.environment(device)}
    records = [stamps | dataclasses.asdict(row) for row in rows]
    fresh = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        if fresh:
            writer.writeheader()
        writer.writerows(records)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fusion", description="Throughput of fusion beside its peers."
    )
    parser.add_argument(
        "--case",
        action="append",
        choices=sorted(CASES),
        help="run this case only (may be repeated)",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument(
        "--rounds",
        type=int,
        default=None,
        help="timed runs per contender (default: 9, on a GPU 50)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny inputs: shows that everything runs, not how fast"
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="torch.compile among the peers (always on a GPU); compiling takes a minute",
    )
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.add_argument("--csv", type=Path, help="append rows to this file")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    rounds = options.rounds or (2 if options.quick else 50 if device.type == "cuda" else 9)
    rows: list[Row] = []
    for name in options.case or CASES:
        print(f"{name}: {CASES[name].about}", file=sys.stderr)
        made = run_case(
            CASES[name], device, options.quick, rounds, options.compile or device.type == "cuda"
        )
        if options.csv and made:
            write_csv(made, options.csv, device)
        rows += made
    if options.json:
        print(
            json.dumps(
                {**measure.environment(device), "rows": [dataclasses.asdict(row) for row in rows]},
                indent=1,
            )
        )
    else:
        print_rows(rows)
    return int(any(row.status.startswith("wrong") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
