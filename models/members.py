"""python -m fusion.models.members: runs that differ, and a store of each, ready to fuse.

    run.toml -> member 1, 2, ... (seed, fold, crop) -> weights -> STORES/<run>_01.zarr, ...

Members are trained one after the other, each in a folder of its own beside the configuration's
`out`: OUT_01, OUT_02, ... The same command goes on where it was stopped. With --snapshots one run
has them all: the weights at the end of each cycle of its [swa] phase (Huang et al., "Snapshot
Ensembles", 2017: a learning rate that falls and starts anew, a member a cycle).
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fusion import cli
from fusion.errors import InputError
from fusion.memory import roomy
from fusion.models.data.clips import Clips
from fusion.models.data.source import Source
from fusion.models.predict import facts_of, fill_each
from fusion.models.training import config as configuration
from fusion.models.training.checkpoint import load_network
from fusion.models.training.config import Config
from fusion.models.training.distributed import World, world
from fusion.models.training.run import train
from fusion.models.tta import add_views, views_of

EPILOG = """examples:
  python -m fusion.models.members --config run.toml --members 5 --predict val --out stores/val
  python -m fusion.models.members --config run.toml --members 5 --differ seed fold crop ...
  python -m fusion.models.members --config run.toml --members 5 --snapshots ...
  python -m fusion.models.members --config run.toml --members 5 --only 3 --device cuda:2 ...
      one member, in a job of its own; the same command without --only then finds it done

seed: one more for each member. fold: each leaves out another fold of the training videos
([data] folds, or as many as there are members). crop: [augment] crop and 4/3 of it in turn, as the
paper's 480 and 640. It prints the search to run next.
"""
DIFFER = ("seed", "fold", "crop")
CROPS = 32  # what crops are multiples of


@dataclass(frozen=True)
class Member:
    """A network to train. cycle: the file of its run that is meant, where it is not the last."""

    config: Config
    cycle: str = ""

    @property
    def name(self) -> str:
        """runs/a_01 -> a_01; of one of its cycles a_01_swa_03."""
        run = Path(self.config.out).name
        return f"{run}_{self.cycle}" if self.cycle else run

    def weights(self, final: Path) -> Path:
        """Its file, by that of its run's final weights."""
        return final.with_stem(self.cycle) if self.cycle else final


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    place, views = world(options.device), views_of(options)
    given = configuration.read(options.config)
    roomy()
    if place.size > 1:
        do = "start one process a member, with --only 1, --only 2, ..."
        raise InputError(f"members: {place.size} processes would each train all; {do}")
    every = roster(given, options.members, options.differ, snapshots=options.snapshots)
    if options.only is not None and not 1 <= options.only <= len(every):
        raise InputError(f"members: only is {options.only} of {len(every)}; give 1 to {len(every)}")
    clips = elsewhere(given.data, options.predict).open(labelled=False)
    wanted = every if options.only is None else every[options.only - 1 : options.only]
    weights, stores, finals = list[Path](), list[Path](), dict[str, Path]()
    for number, member in enumerate(wanted, start=1):
        cli.remark(f"member {options.only or number} of {len(every)}: {member.name}")
        run = member.config
        finals[run.out] = finals.get(run.out) or train(run, options.device)
        weights.append(member.weights(finals[run.out]))
        how = {"views": views, "each": options.each_view, "batch": options.batch}
        stores += predicted(member, weights[-1], clips, options.out, place, **how)
    search = search_command(stores, given.data, options.predict)
    if options.json:
        found = {"weights": [*map(str, weights)], "stores": [*map(str, stores)]}
        cli.print_json({**found, "search": search})
        return 0
    lines = [f"{len(stores)} stores in {options.out}; to search their weights:", f"  {search}"]
    if len(wanted) > 1 and not options.each_view:
        lines += ["to average their weights into one network instead:"]
        lines += [f"  {soup_command(weights, given.data, options)}"]
    print("\n".join(lines))
    return 0


def build_parser() -> argparse.ArgumentParser:
    does = "Train networks that differ and fill a store with each; run it again to go on."
    parser = cli.parser("fusion.models.members", does, EPILOG)
    add = parser.add_argument
    add("--config", type=Path, required=True, help="of training, TOML: what members have in common")
    add("--members", type=int, default=5, metavar="N", help="how many (default 5)")
    by = "what members differ by (default seed)"
    add("--differ", nargs="+", choices=DIFFER, default=["seed"], help=by)
    cycles = "members are the N cycles of [swa] of one run"
    add("--snapshots", action="store_true", help=cycles)
    add("--only", type=int, metavar="K", help="member K alone, from 1")
    add_predict(parser)
    out = "folder of the stores: OUT/<run>_01.zarr, ..."
    add("--out", type=Path, required=True, metavar="DIR", help=out)
    add_views(parser)
    cli.add_device(parser)
    cli.add_json(parser)
    return parser


def add_predict(parser: argparse.ArgumentParser) -> None:
    """What is predicted, of the configuration's data set."""
    where = "split of VSPW to predict; a folder of images where [data] has images (default val)"
    parser.add_argument("--predict", default="val", metavar="WHERE", help=where)
    parser.add_argument("--batch", type=int, default=4, help="frames at a time (default 4)")


def elsewhere(data: Source, where: str, labels: str = "") -> Source:
    """Other clips of a training set's classes: a split of VSPW, or a folder of images."""
    return replace(data, split=where) if data.vspw else replace(data, images=where, labels=labels)


def roster(
    given: Config, members: int, differ: Sequence[str] = ("seed",), *, snapshots: bool = False
) -> list[Member]:
    """The members of a configuration; the first run is as that says, but for its folder.

    Args:
        given: what all have in common.
        members: how many, at least 1.
        differ: of `DIFFER`.
        snapshots: whether they are the cycles of one run.

    Raises:
        InputError: fewer than one, two that would be the same run, no crop to differ from.
    """
    if members < 1:
        raise InputError(f"members: got {members}; give 1 or more")
    if snapshots:
        one = replace(given, swa=replace(given.swa, cycles=members))
        return [Member(one, f"swa_{k:02d}") for k in range(1, members + 1)]
    if "crop" in differ and not given.augment.crop:
        do = "give [augment] crop, from which they are counted"
        raise InputError(f"members: crops are to differ, and crop is left to the images; {do}")
    runs = [_variant(given, k, members, differ) for k in range(members)]
    known: dict[str, str] = {}
    for run in runs:
        same = known.setdefault(repr(replace(run, out="")), run.out)
        if same != run.out:
            got = f"{Path(same).name} and {Path(run.out).name} would be the same run"
            raise InputError(f"members: {got}; add seed to what they differ by, or ask for fewer")
    return [Member(run) for run in runs]


def _variant(given: Config, k: int, members: int, differ: Sequence[str]) -> Config:
    out, data, augment = Path(given.out), given.data, given.augment
    changed: dict[str, Any] = {"out": str(out.with_name(f"{out.name}_{k + 1:02d}"))}
    if "seed" in differ:
        changed["seed"] = given.seed + k
    if "fold" in differ:
        folds = data.folds or members
        changed["data"] = replace(data, folds=folds, fold=(data.fold + k) % folds)
    if "crop" in differ and k % 2:
        larger = -(-augment.crop * 4 // (3 * CROPS)) * CROPS
        changed["augment"] = replace(augment, crop=larger)
    return replace(given, **changed)


def predicted(
    member: Member, weights: Path, clips: Clips, out: Path, place: World, **how: Any
) -> list[Path]:
    """Fills a member's stores below `out`; these. how: as in `predict.fill_each`."""
    network, architecture = load_network(weights, module=member.config.network.module or None)
    facts, store = facts_of(weights, architecture), out / f"{member.name}.zarr"
    return fill_each(network, clips, store, place, facts, **how)


def search_command(stores: Sequence[Path], data: Source, where: str, labels: str = "LABELS") -> str:
    """The line that searches the weights of stores."""
    truth = ["--vspw", data.vspw, "--split", where] if data.vspw else ["--labels", labels]
    return shlex.join(["segfusion", "search", "--stores", *map(str, stores), *truth])


def soup_command(weights: Sequence[Path], data: Source, options: argparse.Namespace) -> str:
    """The line that averages weights and judges that beside the stores' fusion."""
    words = ["python", "-m", "fusion.models.soup", "--config", str(options.config)]
    words += [
        "--weights",
        *map(str, weights),
        "--predict",
        options.predict,
        "--out",
        str(options.out),
    ]
    return shlex.join(words)


if __name__ == "__main__":
    cli.command(main)
