"""The paper in miniature: Tables 1 to 5 measured on generated scenes, beside the paper's numbers.

    python -m benchmarks.paper --size cpu --out paper/          about 20 minutes on 2 cores
    python -m benchmarks.paper --size gpu --out paper/          larger scenes, longer training, one GPU
    python -m benchmarks.paper --size tiny --out paper/         seconds: shows that everything runs, its numbers mean nothing

11 MaskFormers and 11 Swin-UPerNets that differ by crop, split and seed, two with weight averaging, two with logit adjustment and one
distilled; logit stores for val and test of each; then what the tables ask. Stopped runs go on. Prints scores in percent, [low, high] is
the 95 % bootstrap interval over videos; in the rows "gain" it is of the difference, the same videos drawn for both. Where the
paper's effect does not show, the table shows that.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks import scenes
from benchmarks.measure import environment
from fusion import HierarchicalEnsemble, Labels, cli
from fusion.metrics import Scores
from fusion.models import config, predict
from fusion.models.checkpoint import SUFFIX
from fusion.models.train import train
from fusion.search import condense_ensemble
from fusion.search.grid import grid
from fusion.search.ladder import group_rungs
from fusion.search.models import auto_groups, score_models

SPLITS = ("val", "test")
SWIN, MASKFORMER = "swin-upernet", "maskformer"
FOLDS = 5

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
        ("swin_student", "Swin with SD", 56.26, 50.52),
    ],
}
GAINS = {"swin_02": "swin_01", "swin_03": "swin_02"} | {
    "swin_03_swa": "swin_03", "maskformer_01_swa": "maskformer_01", "swin_adjusted": "swin_03",
    "maskformer_adjusted": "maskformer_01", "swin_student": "swin_02",
}  # fmt: skip
LADDER = {0: (57.26, 53.99), 1: (58.01, 55.10), 2: (58.50, 55.16), 3: (61.10, 55.48)}  # Table 3 by the number of groups


@dataclass(frozen=True)
class Size:
    """One scale of the experiment. crops: small, large; the paper's are 480 and 640. steps, rates: of each family's training; a
    MaskFormer learns slower from nothing. min_kept: OHEM's, the paper's share of a batch."""

    scenes: scenes.Sizes
    crops: tuple[int, int]
    batch: int
    steps: dict[str, int]
    rates: dict[str, float]
    preset: str
    min_kept: int
    members: int = 11
    strong: int = 3
    auxiliary: int = 6
    swa_every: int = 100
    workers: int = 0


SIZES = {
    "tiny": Size(
        scenes.Sizes((64, 96), {"train": 6, "val": 3, "test": 3}, regions=5, frames=(2, 3)),
        (32, 64), 2, {SWIN: 2, MASKFORMER: 2}, {SWIN: 1e-3, MASKFORMER: 1e-3}, "micro", 300, members=3, strong=1, auxiliary=2, swa_every=1,
    ),
    "cpu": Size(
        scenes.Sizes((96, 128), {"train": 120, "val": 30, "test": 30}),
        (64, 96), 8, {SWIN: 300, MASKFORMER: 900}, {SWIN: 4e-3, MASKFORMER: 1e-3}, "micro", 1500, swa_every=20,
    ),
    "gpu": Size(
        scenes.Sizes((192, 320), {"train": 400, "val": 60, "test": 60}, regions=20),
        (96, 160), 16, {SWIN: 1500, MASKFORMER: 4500}, {SWIN: 2e-3, MASKFORMER: 1e-3}, "micro", 8000, swa_every=100, workers=2,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Member:
    """One network to train. crop: 0 small, 1 large. extras: sections of its configuration."""

    name: str
    network: str
    crop: int
    seed: int
    extras: Mapping[str, Mapping[str, Any]]

    @property
    def stores(self) -> dict[str, str]:
        """Name of each store -> name of the weights file that fills it."""
        averaged = {f"{self.name}_swa": "averaged"} if self.extras.get("swa") else {}
        return {self.name: "baseline", **averaged}


def roster(size: Size) -> list[Member]:
    """Everything that is trained, in an order in which teachers come before students.

    The first Swins are the rows of Table 1: small crop, large crop, large crop with OHEM; the others repeat these with other seeds and
    left-out videos. Rows that are compared share seed and videos.
    """
    ohem = {"loss": {"ohem": True, "min_kept": size.min_kept}}
    cycles = {
        network: {"swa": {"cycles": 10, "every": size.swa_every, "highest": rate / 4, "lowest": rate / 100, "refresh": 20}}
        for network, rate in size.rates.items()
    }
    found = []
    for k in range(size.members):
        loss = ohem if k % 3 == 2 else {}
        found.append(Member(f"swin_{k + 1:02d}", SWIN, min(k % 3, 1), k // 3, {**loss, **(cycles[SWIN] if k == 2 else {})}))
        found.append(Member(f"maskformer_{k + 1:02d}", MASKFORMER, 1, k, cycles[MASKFORMER] if k == 0 else {}))
    found += [
        Member("swin_adjusted", SWIN, 1, 0, {"loss": {**ohem["loss"], "adjust": True}}),
        Member("maskformer_adjusted", MASKFORMER, 1, 0, {"loss": {"adjust": True}}),
        Member("swin_student", SWIN, 1, 0, {"loss": {"teacher": "swin_02"}}),
    ]
    return found


def configuration(member: Member, size: Size, out: Path) -> dict[str, Any]:
    """The training configuration of a member, as a document."""
    loss = dict(member.extras.get("loss", {}))
    if "teacher" in loss:
        loss["teacher"] = str((out / "runs" / loss["teacher"] / f"baseline{SUFFIX}").absolute())
    # networks of seed 0 see all videos, so that rows which are compared differ in one thing only; others leave out a fold each
    data = {"vspw": str((out / "scenes").absolute()), **({"folds": FOLDS, "fold": member.seed % FOLDS} if member.seed else {})}
    steps = size.steps[member.network]
    return {
        "out": str((out / "runs" / member.name).absolute()),
        "seed": member.seed,
        "data": data,
        "network": {"name": member.network, "preset": size.preset},
        "augment": {"crop": size.crops[member.crop], "scale": [0.75, 1.33], "colour": 0.2},
        "loss": loss,
        "train": {
            "steps": steps,
            "batch": size.batch,
            "learning_rate": size.rates[member.network],
            "warmup": steps // 20,
            "workers": size.workers,
            "checkpoint_every": max(1, steps // 4),
        },
        "swa": member.extras.get("swa", {}),
    }


def produce(member: Member, size: Size, out: Path) -> str:
    """Trains a member and fills its stores; returns its name."""
    final = train(config.parse(configuration(member, size, out)))
    for split in SPLITS:
        for store, weights in member.stores.items():
            target = out / split / f"{store}.zarr"
            options = ["--weights", str(final.with_stem(weights)), "--vspw", str(out / "scenes"), "--split", split, "--out", str(target)]
            predict.main([*options, "--flip"])
    return member.name


def produce_all(size: Size, out: Path, jobs: int) -> list[Member]:
    """Every member, several at a time, each on one thread; the distilled one when its teacher is there."""
    members = roster(size)
    students = [member for member in members if "teacher" in member.extras.get("loss", {})]
    with ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        run = map if jobs == 1 else pool.map
        for batch in ([member for member in members if member not in students], students):
            made = run(produce, batch, [size] * len(batch), [out] * len(batch))
            for name in cli.progress(made, "members", len(batch), "network"):
                print(f"{name} is ready", file=sys.stderr)
    return members


def score(out: Path, names: Sequence[str]) -> dict[str, dict[str, Scores]]:
    """Scores of every store alone, by split and name."""
    found = {}
    for split in SPLITS:
        ensemble = HierarchicalEnsemble({"all": [out / split / f"{name}.zarr" for name in names]})
        found[split] = score_models(ensemble, Labels.vspw(out / "scenes", split), progress=f"scoring {split}")
    return found


@dataclass(frozen=True)
class Row:
    """A line of a table. scores: by split. paper: val and test in percent."""

    label: str
    scores: Mapping[str, Scores]
    paper: tuple[float | None, float | None]

    def cells(self) -> list[str]:
        cells = [self.label]
        for split, paper in zip(SPLITS, self.paper, strict=True):
            cells += [_percent(self.scores[split].miou, self.scores[split].interval()), "-" if paper is None else f"{paper:.2f}"]
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
        rows = {name: Row(label, {s: singles[s][name] for s in SPLITS}, (val, test)) for name, label, val, test in lines}
        found[title] = []
        for name, row in rows.items():
            found[title].append(row.cells())
            if GAINS.get(name) in rows:
                found[title].append(row.gain_cells(rows[GAINS[name]]))
    return found


def ladder_table(out: Path, size: Size, members: Sequence[Member], singles: Mapping[str, Mapping[str, Scores]]) -> list[list[str]]:
    """Table 3: groups formed on val, weights searched on val by grid, both splits scored with them."""
    families = {network: [m.name for m in members if m.network == network and m.name[-2:].isdigit()] for network in (SWIN, MASKFORMER)}
    miou = {name: scores.miou for name, scores in singles["val"].items()}
    groups = auto_groups(families[MASKFORMER], families[SWIN], miou, strong=size.strong, auxiliary=size.auxiliary)
    condensed = {}
    for split in SPLITS:
        ensemble = HierarchicalEnsemble({name: [out / split / f"{store}.zarr" for store in stores] for name, stores in groups.items()})
        condensed[split] = condense_ensemble(ensemble, Labels.vspw(out / "scenes", split), progress=f"condensing {split}")
    weights = grid(condensed["val"]).vector
    best = max((name for family in families.values() for name in family), key=lambda name: miou[name])
    rows = [Row(f"best single: {best}", {split: singles[split][best] for split in SPLITS}, LADDER[0])]
    for rung in group_rungs(condensed, list(weights), "vspw"):
        terms = rung.name.count("P_") if rung.name.startswith("P_") else None
        rows.append(Row(rung.name, rung.scores, LADDER[terms] if terms else (None, None)))
    lines = [rows[0].cells()]
    for before, row in itertools.pairwise(rows):
        lines.append(row.cells())
        if row.label.startswith("P_"):
            lines.append(row.gain_cells(before))
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    parser = cli.parser("benchmarks.paper", "Measure the paper's tables on generated scenes.")
    parser.add_argument("--size", choices=tuple(SIZES), default="cpu")
    parser.add_argument("--out", type=Path, default=Path("paper"), metavar="DIR", help="scenes, runs, stores, tables (default paper)")
    gpu = torch.cuda.is_available()
    parser.add_argument("--jobs", type=int, default=4 if gpu else min(8, os.cpu_count() or 1), help="networks trained at a time")
    options = parser.parse_args(arguments)
    size, out, began = SIZES[options.size], options.out, time.perf_counter()
    scenes.write(out / "scenes", size.scenes)
    members = produce_all(size, out, options.jobs)
    singles = score(out, [store for member in members for store in member.stores])
    tables = compared_tables(singles)
    tables["Table 3, hierarchical ensemble"] = ladder_table(out, size, members, singles)
    place = environment(torch.device("cuda" if gpu else "cpu"))
    facts = {"size": options.size, "jobs": options.jobs, "seconds": round(time.perf_counter() - began), **place}
    text = report(tables, facts)
    print(text)
    (out / "tables.md").write_text(text + "\n", encoding="utf-8")
    alone = {split: {name: scores.miou for name, scores in found.items()} for split, found in singles.items()}
    (out / "tables.json").write_text(json.dumps({"facts": facts, "tables": tables, "models": alone}, indent=1), encoding="utf-8")
    return 0


def report(tables: Mapping[str, Sequence[Sequence[str]]], facts: Mapping[str, Any]) -> str:
    """The tables as Markdown, mIoU in percent."""
    lines = [f"`python -m benchmarks.paper --size {facts['size']}`: " + ", ".join(f"{key} {value}" for key, value in facts.items())]
    for title in sorted(tables):
        lines += ["", f"### {title}", "", "| | val | paper's val | test | paper's test |", "|---|---|---|---|---|"]
        lines += ["| " + " | ".join(row) + " |" for row in tables[title]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(cli.run(main))
