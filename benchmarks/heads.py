"""Throughput of linear heads: `python -m benchmarks.heads [--device cuda] [--case NAME] [--compile]
[--rounds N] [--quick] [--json]`.

As in benchmarks.fusion contenders take turns, and none gets a speed before its labels equal those
of the oracle; peers, and kernels on a GPU, may differ where the two best scores are within ROOM.
Two contenders are yardsticks of other labels: the average of the same maps, and one product of
matrices of the head's size. M models, C classes, P pixels, maps [C, H, W]; times in milliseconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from benchmarks import measure, simulated
from benchmarks.fusion import agrees
from benchmarks.peers import BLOCK, Problem, decoded
from fusion.kernels import head, softmax_average
from fusion.kernels.arithmetic import Fused
from fusion.kernels.average import naive as average
from fusion.kernels.call import check, check_head
from fusion.kernels.head import naive
from fusion.kernels.numbers import GAP_RANGE, LEAST_PROBABILITY

ROOM = 1e-3  # between scores that sums in another order may exchange
CASES = {
    "log-float16": "22 x 124 float16 logits, a weight per model and class",
    "log-codes": "the same from gap codes",
    "mix-groups": "float16 logits to means of 3 groups, classes mixed",
    "mix-float16": "22 x 124 float16 logits, classes mixed",
}


@dataclass(frozen=True)
class Head:
    """Maps and what is made of them; of group means where `grouped`, else of the maps."""

    maps: Problem
    grouped: bool
    mixing: Tensor
    bias: Tensor

    @classmethod
    def of(cls, case: str, quick: bool) -> Head:
        models, classes, size = (3, 7, (12, 20)) if quick else (22, 124, (120, 214))
        logits = simulated.agreeing(models, classes, size)
        codes = case == "log-codes"
        maps = Problem.of([simulated.gap_codes(z) if codes else z.half() for z in logits], size, 1)
        units, generator = 3 if case == "mix-groups" else models, torch.Generator().manual_seed(0)
        shape = (units, classes) if case.startswith("log") else (units, classes, classes)
        own = 1.0 if case.startswith("log") else torch.eye(classes)
        mixing = own + 0.3 / shape[-1] * torch.randn(shape, generator=generator)
        bias = torch.randn(classes, generator=generator)
        return cls(maps, case == "mix-groups", mixing / units, bias)

    def to(self, device: torch.device) -> Head:
        moved = (self.maps.to(device), self.mixing.to(device), self.bias.to(device))
        return replace(self, maps=moved[0], mixing=moved[1], bias=moved[2])


def expected(p: Head) -> Fused:
    """The oracle's labels, and how far apart the two best scores are."""
    maps, values = p.maps.logits, "logits"
    if p.grouped:
        made = check(maps, [1.0] * 3, groups=p.maps.groups, outputs=("group_means",))
        maps, values = _whole(average.average(made).group_means), "probabilities"
    outputs = ("labels", "scores")
    fused = naive.head(check_head(maps, p.mixing, p.bias, values=values, outputs=outputs))
    assert fused.scores is not None
    best = fused.scores.topk(2, dim=0).values
    return Fused(labels=fused.labels, margin=best[0] - best[1])


def fused(p: Head) -> Tensor:
    maps, values = p.maps.logits, "logits"
    if p.grouped:
        options = {"groups": p.maps.groups, "outputs": ("group_means",)}
        maps, values = (
            _whole(softmax_average(maps, [1.0] * 3, **options).group_means),
            "probabilities",
        )
    labels = head(maps, p.mixing, p.bias, values=values, outputs="labels").labels
    assert labels is not None
    return labels


def _whole(means: Tensor | None) -> list[Tensor]:
    assert means is not None
    return list(means)


def log_probabilities(maps: Sequence[Tensor], groups: list[list[int]] | None) -> Tensor:
    """[M or G, C, P] by torch's own functions."""
    if groups is None:
        return torch.stack([decoded(z).log_softmax(0) for z in maps]).clamp_(min=-GAP_RANGE)
    means = [torch.stack([decoded(maps[m]).softmax(0) for m in group]).mean(0) for group in groups]
    return torch.stack(means).clamp_(min=LEAST_PROBABILITY).log_()


def torch_step(
    maps: Sequence[Tensor], groups: list[list[int]] | None, mixing: Tensor, bias: Tensor
) -> Tensor:
    letters = "mck,mkp->cp" if mixing.ndim == 3 else "mc,mcp->cp"
    scores = torch.einsum(letters, mixing, log_probabilities(maps, groups)) + bias[:, None]
    return scores.argmax(0)


def blocked(p: Head, step: Callable[..., Tensor] = torch_step) -> Tensor:
    """The step over blocks of pixels that a cache holds."""
    flat, groups = [z.flatten(1) for z in p.maps.logits], p.maps.groups if p.grouped else None
    parts = zip(*(z.split(BLOCK, dim=1) for z in flat), strict=True)
    return torch.cat([step(part, groups, p.mixing, p.bias) for part in parts]).view(p.maps.size)


def whole(p: Head) -> Tensor:
    """The step over everything at once: the way it is written down."""
    flat, groups = [z.flatten(1) for z in p.maps.logits], p.maps.groups if p.grouped else None
    return torch_step(flat, groups, p.mixing, p.bias).view(p.maps.size)


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    return torch.compile(torch_step, dynamic=True)


PEERS: dict[str, Callable[[Head], Tensor]] = {
    "torch whole": whole,
    "torch blocked": blocked,
    "torch.compile, blocked": lambda p: blocked(p, _compiled()),
}


def yardsticks(p: Head) -> dict[str, Callable[[], object]]:
    """What the speed of a head is held against."""
    average = partial(softmax_average, p.maps.logits, p.maps.weights, groups=p.maps.groups)
    if p.mixing.ndim == 2:
        return {"(softmax_average)": average}
    flat = p.mixing.movedim(1, 0).flatten(1).contiguous()
    pixels = p.maps.size[0] * p.maps.size[1]
    other = torch.randn(flat.shape[1], pixels, device=flat.device)
    return {"(softmax_average)": average, "(float32 matmul)": lambda: flat @ other}


def run_case(
    case: str, device: torch.device, quick: bool, rounds: int, compiles: bool
) -> list[measure.Row]:
    """Rows of one case, this library's first."""
    p = Head.of(case, quick).to(device)
    right, rows, sound = expected(p), [], {}
    for name, run in {"fusion": fused, **PEERS}.items():
        if "compile" in name and not compiles:
            continue
        if agrees(run(p), right, exact=name == "fusion" and device.type == "cpu", room=ROOM):
            sound[name] = partial(run, p)
        else:
            rows.append(measure.Row(case, name, "wrong: labels differ from the reference's"))
    times = measure.interleaved({**sound, **yardsticks(p)}, rounds, device)
    for name, taken in times.items():
        low, median, high = measure.quantiles(taken)
        rows.append(measure.Row(case, name, "ok", median, low, high))
    return rows


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.heads", description="Linear heads beside their peers."
    )
    parser.add_argument("--case", action="append", choices=sorted(CASES), help="this case only")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--rounds", type=int, default=9, help="timed runs each (default: 9)")
    parser.add_argument("--quick", action="store_true", help="tiny inputs: no speed worth reading")
    parser.add_argument("--compile", action="store_true", help="torch.compile among the peers")
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    options = parser.parse_args(arguments)
    device, rows = torch.device(options.device), []
    for case in options.case or CASES:
        print(f"{case}: {CASES[case]}", file=sys.stderr)
        rows += run_case(case, device, options.quick, options.rounds, options.compile)
    if options.json:
        made = [dataclasses.asdict(row) for row in rows]
        print(json.dumps({**measure.environment(device), "rows": made}, indent=1))
        return int(any(row.status != "ok" for row in rows))
    for row in rows:
        shown = row.status
        if row.median_ms is not None:
            shown = f"{row.median_ms:9.2f} ms ({row.p20_ms:.2f} to {row.p80_ms:.2f})"
        print(f"{row.case:12} {row.contender:24} {shown}")
    return int(any(row.status != "ok" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
