"""The paper in miniature: Tables 1 to 5 measured on generated scenes, beside the paper's numbers.

    python -m benchmarks.paper --size cpu --out paper/    a quarter of an hour on 2 cores
    python -m benchmarks.paper --size gpu --out paper/    larger scenes, longer training, one GPU
    python -m benchmarks.paper --size tiny --out paper/   seconds: its numbers mean nothing

11 MaskFormers and 11 Swin-UPerNets that differ by crop, split and seed, two with weight averaging,
two with logit adjustment, one distilled and its control; logit stores for val and test of each;
then what the tables ask. All of a family start from one that was trained on further videos, as the
paper's start from ImageNet-22k. Stopped runs go on. Scores are in percent, [low, high] the 95 %
bootstrap interval over videos (not over trainings), in the rows "gain" of the difference, the same
videos drawn for both. Where the paper's effect does not show, the table shows that.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks import scenes
from benchmarks.measure import environment
from fusion import HierarchicalEnsemble, Labels, cli
from fusion.contested import Condensed
from fusion.metrics import Scores
from fusion.models import predict
from fusion.models.train import train
from fusion.models.training import config
from fusion.models.training.adjustment import TAU
from fusion.models.training.checkpoint import SUFFIX
from fusion.progress import progress
from fusion.search import condense_ensemble
from fusion.search.formation import auto_groups, score_models
from fusion.search.grid import Grid
from fusion.search.method import Problem
from fusion.search.result import PAPER

SPLITS = ("val", "test")
SWIN, MASKFORMER = "swin-upernet", "maskformer"
PREFIX = {SWIN: "swin", MASKFORMER: "maskformer"}  # of the names of a family's members
FOLDS = 5
HEADER = "| | val | paper's val | test | paper's test |\n|---|---|---|---|---|"

# val and test mIoU in percent, as printed in the paper
TABLES: dict[str, list[tuple[str, str, float | None, float | None]]] = {
    "Table 1, crop and OHEM": [
        ("swin_01", "Swin, small crop", 56.13, 48.63),
        ("swin_02", "Swin, large crop", 56.48, 49.31),
        ("swin_03", "Swin, large crop, OHEM", 56.94, 49.73),
        ("maskformer_01", "MaskFormer", 56.52, 53.99),
    ],
    "Table 2, weight averaging": [
        ("swin_03", "Swin", None, 51.75),
        ("swin_03_swa", "Swin with SWA", None, 52.58),
        ("maskformer_01", "MaskFormer", None, 53.36),
        ("maskformer_01_swa", "MaskFormer with SWA", None, 54.00),
    ],
    "Table 4, logit adjustment": [
        ("swin_03", "Swin", 56.94, 49.73),
        ("swin_adjusted", "Swin with LA", 57.62, 49.97),
        ("maskformer_01", "MaskFormer", 56.52, 53.99),
        ("maskformer_adjusted", "MaskFormer with LA", 57.63, 52.79),
    ],
    "Table 5, self distillation": [
        ("swin_02", "Swin", 55.40, 50.99),
        ("swin_longer", "Swin trained on as long, no SD", None, None),
        ("swin_student", "Swin with SD", 56.26, 50.52),
    ],
}
GAINS = {"swin_02": "swin_01", "swin_03": "swin_02"} | {
    "swin_03_swa": "swin_03", "maskformer_01_swa": "maskformer_01", "swin_adjusted": "swin_03",
    "maskformer_adjusted": "maskformer_01", "swin_longer": "swin_02", "swin_student": "swin_02",
}  # fmt: skip
# Table 3 by the number of groups
LADDER = {0: (57.26, 53.99), 1: (58.01, 55.10), 2: (58.50, 55.16), 3: (61.10, 55.48)}


@dataclass(frozen=True)
class Family:
    """How networks of one kind are trained; `start` steps are on other videos, shared by all."""

    start: int
    steps: int
    rate: float


@dataclass(frozen=True)
class Size:
    """One scale of the experiment; a MaskFormer learns slower from nothing.

    crops: small, large (480 and 640 in the paper). min_kept: OHEM's, the paper's share of a batch.
    """

    scenes: scenes.Sizes
    crops: tuple[int, int]
    batch: int
    families: dict[str, Family]
    min_kept: int
    members: int = 11
    strong: int = 3
    auxiliary: int = 6
    swa_every: int = 100
    workers: int = 0


def _videos(*counts: int) -> dict[str, int]:
    return dict(zip(("pretrain", "train", "val", "test"), counts, strict=True))


SIZES = {
    "tiny": Size(
        scenes.Sizes((64, 96), _videos(3, 6, 3, 3), regions=5, frames=(2, 3)), (32, 64), 2,
        {SWIN: Family(1, 2, 1e-3), MASKFORMER: Family(1, 2, 1e-3)},
        min_kept=300, members=3, strong=1, auxiliary=2, swa_every=1,
    ),
    "cpu": Size(
        scenes.Sizes((96, 128), _videos(240, 120, 30, 30)), (64, 96), 8,
        {SWIN: Family(200, 100, 4e-3), MASKFORMER: Family(6000, 700, 1e-3)},
        min_kept=1500, swa_every=20,
    ),
    "gpu": Size(
        scenes.Sizes((192, 320), _videos(800, 400, 60, 60), regions=20), (96, 160), 16,
        {SWIN: Family(2000, 1500, 2e-3), MASKFORMER: Family(20000, 4000, 1e-3)},
        min_kept=8000, workers=2,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Member:
    """One network to train. crop: 0 small, 1 large. extras: sections of its configuration.

    start, teacher: members whose weights its training needs.
    """

    name: str
    network: str
    crop: int = 1
    seed: int = 0
    start: str = ""
    teacher: str = ""
    extras: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def is_start(self) -> bool:
        return not (self.start or self.teacher)

    @property
    def stores(self) -> dict[str, str]:
        """Name of each store -> name of the weights file that fills it."""
        averaged = {f"{self.name}_swa": "averaged"} if self.extras.get("swa") else {}
        return {} if self.is_start else {self.name: "baseline", **averaged}


def roster(size: Size) -> list[Member]:
    """Everything that is trained; what others start from comes before them.

    The first Swins are the rows of Table 1: small crop, large, large with OHEM; the others repeat
    these with other seeds and left-out videos. Rows that are compared share both.
    """
    found = [Member(f"{PREFIX[network]}_start", network) for network in (MASKFORMER, SWIN)]

    def add(name: str, network: str, **facts: Any) -> None:
        start = {} if "teacher" in facts else {"start": f"{PREFIX[network]}_start"}
        found.append(Member(name, network, **start, **facts))

    ohem = {"ohem": True, "min_kept": size.min_kept}
    adjust = {"adjust": True, "scale": 1 / TAU}
    for k in range(size.members):
        extras = {"loss": ohem if k % 3 == 2 else {}, "swa": cycles(size, SWIN) if k == 2 else {}}
        add(f"swin_{k + 1:02d}", SWIN, crop=min(k % 3, 1), seed=k // 3, extras=extras)
    add("swin_adjusted", SWIN, extras={"loss": ohem | adjust})
    add("swin_student", SWIN, teacher="swin_02")
    # the student's steps without what it is taught
    add("swin_longer", SWIN, teacher="swin_02", extras={"loss": {"kl": 0.0}})
    for k in range(size.members):
        extras = {"swa": cycles(size, MASKFORMER) if k == 0 else {}}
        add(f"maskformer_{k + 1:02d}", MASKFORMER, seed=k, extras=extras)
    add("maskformer_adjusted", MASKFORMER, extras={"loss": adjust})
    return found


def cycles(size: Size, network: str) -> dict[str, Any]:
    """Weight averaging: the paper's ten cycles."""
    rate = size.families[network].rate
    pace = {"every": size.swa_every, "highest": rate / 4, "lowest": rate / 100}
    return {"cycles": 10, **pace, "refresh": 20}


def configuration(member: Member, size: Size, out: Path) -> dict[str, Any]:
    """The training configuration of a member, as a document."""
    family, runs = size.families[member.network], out.absolute() / "runs"
    split, steps = ("pretrain", family.start) if member.is_start else ("train", family.steps)
    weights = {
        key: str(runs / name / f"baseline{SUFFIX}") if name else ""
        for key, name in before(member).items()
    }
    pace = {"learning_rate": family.rate, "warmup": steps // 20, "clip": 1.0}
    pace["checkpoint_every"] = max(1, steps // 4)
    # networks of seed 0 see all videos, so that rows which are compared differ in one thing only;
    # others leave out a fold each
    fold = {"folds": FOLDS, "fold": member.seed % FOLDS} if member.seed else {}
    return {
        "out": str(runs / member.name),
        "seed": member.seed,
        "data": {"vspw": str(out.absolute() / "scenes"), "split": split, **fold},
        "network": {"name": member.network, "preset": "micro", "start": weights["start"]},
        "augment": {"crop": size.crops[member.crop], "scale": [0.75, 1.33], "colour": 0.2},
        "loss": {**member.extras.get("loss", {}), "teacher": weights["teacher"]},
        "train": {"steps": steps, "batch": size.batch, "workers": size.workers, **pace},
        "swa": member.extras.get("swa", {}),
    }


def before(member: Member) -> dict[str, str]:
    """Members whose weights a member needs, by the key of its configuration; "" for none."""
    return {"start": member.start, "teacher": member.teacher}


def produce(member: Member, size: Size, out: Path) -> str:
    """Trains a member and fills its stores; returns its name."""
    final = train(config.parse(configuration(member, size, out)))
    for split in SPLITS:
        for store, weights in member.stores.items():
            files = ["--weights", str(final.with_stem(weights)), "--vspw", str(out / "scenes")]
            target = str(out / split / f"{store}.zarr")
            predict.main([*files, "--split", split, "--out", target, "--flip"])
    return member.name


def produce_all(members: Sequence[Member], size: Size, out: Path, jobs: int) -> Iterator[str]:
    """Produces members, `jobs` at a time, when what they start from is there; yields names."""
    waiting, ready, running = list(members), {""}, set()
    # read by the workers as they start; their bars would overwrite each other
    os.environ["TQDM_DISABLE"] = "1"
    with ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker) as pool:
        try:
            while waiting or running:
                able = [member for member in waiting if ready.issuperset(before(member).values())]
                waiting = [member for member in waiting if member not in able]
                running |= {pool.submit(produce, member, size, out) for member in able}
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    ready.add(future.result())
                    yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start_worker() -> None:
    torch.set_num_threads(1)
    sys.stdout = sys.stderr  # the tables have it for themselves


def ensemble_of(
    out: Path, split: str, groups: Mapping[str, Sequence[str]]
) -> tuple[HierarchicalEnsemble, Labels]:
    """Stores of a split, by name in groups, and its ground truth."""
    stores = {g: [out / split / f"{name}.zarr" for name in names] for g, names in groups.items()}
    return HierarchicalEnsemble(stores), Labels.vspw(out / "scenes", split)


def score(out: Path, names: Sequence[str]) -> dict[str, dict[str, Scores]]:
    """Scores of every store alone, by split and name."""
    stores = {split: ensemble_of(out, split, {"all": names}) for split in SPLITS}
    return {s: score_models(*stores[s], progress=f"scoring {s}") for s in SPLITS}


@dataclass(frozen=True)
class Row:
    """A line of a table. scores: by split. paper: val and test in percent."""

    label: str
    scores: Mapping[str, Scores]
    paper: tuple[float | None, float | None]

    def cells(self) -> list[str]:
        cells = [self.label]
        for split, paper in zip(SPLITS, self.paper, strict=True):
            scores, said = self.scores[split], "-" if paper is None else f"{paper:.2f}"
            cells += [_percent(scores.miou, scores.interval()), said]
        return cells

    def gain_cells(self, before: Row) -> list[str]:
        cells = ["  gain"]
        for split, now, then in zip(SPLITS, self.paper, before.paper, strict=True):
            mine, other = self.scores[split], before.scores[split]
            cells += [_percent(mine.miou - other.miou, mine.difference_interval(other), sign="+")]
            cells += ["-" if now is None or then is None else f"{now - then:+.2f}"]
        return cells


def _percent(value: float, interval: tuple[float, float], sign: str = "") -> str:
    return f"{100 * value:{sign}.2f} [{100 * interval[0]:{sign}.2f}, {100 * interval[1]:{sign}.2f}]"


def compared_tables(singles: Mapping[str, Mapping[str, Scores]]) -> dict[str, list[list[str]]]:
    """Tables 1, 2, 4 and 5."""
    found: dict[str, list[list[str]]] = {}
    for title, lines in TABLES.items():
        rows: dict[str, Row] = {}
        found[title] = []
        for name, label, val, test in lines:
            rows[name] = Row(label, {s: singles[s][name] for s in SPLITS}, (val, test))
            found[title].append(rows[name].cells())
            if GAINS.get(name) in rows:
                found[title].append(rows[name].gain_cells(rows[GAINS[name]]))
    return found


def ladder_table(
    out: Path, size: Size, members: Sequence[Member], singles: Mapping[str, Mapping[str, Scores]]
) -> list[list[str]]:
    """Table 3: groups formed on val; weights searched there, for each row over its groups alone."""
    numbered = [member for member in members if member.name[-2:].isdigit()]
    family = {n: [member.name for member in numbered if member.network == n] for n in PREFIX}
    miou = {name: scores.miou for name, scores in singles["val"].items()}
    sizes = {"strong": size.strong, "auxiliary": size.auxiliary}
    groups = auto_groups(family[MASKFORMER], family[SWIN], miou, **sizes)
    stores = {split: ensemble_of(out, split, groups) for split in SPLITS}
    condensed = {s: condense_ensemble(*stores[s], progress=f"condensing {s}") for s in SPLITS}
    best, names = max(itertools.chain(*family.values()), key=miou.__getitem__), list(groups)
    rows = [Row(f"best single: {best}", {s: singles[s][best] for s in SPLITS}, LADDER[0])]
    for count in range(1, len(names) + 1):
        method = Grid(ranges=dict.fromkeys(names[count:], (0, 0, 1)))
        weights = method.search(Problem(condensed["val"])).vector
        scores = fused_scores(condensed, weights)
        rows.append(Row(sum_of(names[:count], weights), scores, LADDER[count]))
    lines = [rows[0].cells()]
    for before, row in itertools.pairwise(rows):
        lines += [row.cells(), row.gain_cells(before)]
    given = {f"the paper's weights: {sum_of(names, PAPER)}": PAPER, "uniform weights": (1.0,) * 3}
    for label, weights in given.items():
        lines.append(Row(label, fused_scores(condensed, weights), (None, None)).cells())
    return lines


def sum_of(groups: Sequence[str], weights: Sequence[float]) -> str:
    """P_strong + 1.4 P_weak + 0 P_auxiliary: what was found to be 0 is part of the result."""
    terms = zip(groups, weights, strict=False)
    return " + ".join(f"P_{g}" if w == 1 else f"{w:.3g} P_{g}" for g, w in terms)


def fused_scores(condensed: Mapping[str, Condensed], weights: Sequence[float]) -> dict[str, Scores]:
    """Scores of one weighting by split."""
    return {split: Problem(counts).scores(weights) for split, counts in condensed.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = cli.parser("benchmarks.paper", "Measure the paper's tables on generated scenes.")
    gpu = torch.cuda.is_available()
    add, jobs = parser.add_argument, 4 if gpu else min(8, os.cpu_count() or 1)
    add("--size", choices=tuple(SIZES), default="cpu")
    there = "scenes, runs, stores, tables (default paper)"
    add("--out", type=Path, default=Path("paper"), metavar="DIR", help=there)
    add("--jobs", type=int, default=jobs, help="networks trained at a time")
    options = parser.parse_args(arguments)
    size, out, began = SIZES[options.size], options.out, time.perf_counter()
    scenes.write(out / "scenes", size.scenes)
    members = roster(size)
    made = produce_all(members, size, out, options.jobs)
    for name in progress(made, "networks", len(members), "network"):
        print(f"{name} is ready", file=sys.stderr)
    singles = score(out, [store for member in members for store in member.stores])
    tables = compared_tables(singles)
    tables["Table 3, hierarchical ensemble"] = ladder_table(out, size, members, singles)
    seconds, place = round(time.perf_counter() - began), torch.device("cuda" if gpu else "cpu")
    facts = {"size": options.size, "jobs": options.jobs, "seconds": seconds, **environment(place)}
    text = report(tables, facts)
    print(text)
    (out / "tables.md").write_text(text + "\n", encoding="utf-8")
    alone = {s: {name: scores.miou for name, scores in singles[s].items()} for s in SPLITS}
    document = {"facts": facts, "tables": tables, "models": alone}
    (out / "tables.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    return 0


def report(tables: Mapping[str, Sequence[Sequence[str]]], facts: Mapping[str, Any]) -> str:
    """The tables as Markdown, mIoU in percent."""
    given = ", ".join(f"{key} {value}" for key, value in facts.items())
    lines = [f"`python -m benchmarks.paper --size {facts['size']}`: {given}"]
    for title in sorted(tables):
        lines += ["", f"### {title}", "", HEADER]
        lines += ["| " + " | ".join(row) + " |" for row in tables[title]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(cli.run(main))
