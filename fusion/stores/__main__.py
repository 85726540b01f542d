"""python -m fusion.stores: look at, check, clean and fill logit stores."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

from fusion import cli
from fusion.errors import InputError
from fusion.labels.classes import read_classes
from fusion.labels.known_maps import MAPS, read_class_map
from fusion.progress import progress
from fusion.stores.codec import PROFILES
from fusion.stores.format import VALUES
from fusion.stores.importers import IMPORTERS, OPTIONS, Plan, plan_folder, read_frames
from fusion.stores.locations import location_of
from fusion.stores.maintenance import gc, verify
from fusion.stores.reader import LogitStore
from fusion.text import listed, say_bytes, table, visible

EPILOG = """examples:
  python -m fusion.stores import predictions/swin cache/swin.zarr --classes classes.txt \\
      --labels labels/
  python -m fusion.stores import predictions/ cache/ --each --classes classes.txt \\
      --labels labels/    (a store per subfolder)
  python -m fusion.stores import nnunet_out/ cache/unet.zarr --dry-run    (classes of its own)
  python -m fusion.stores info cache/*.zarr
  python -m fusion.stores verify s3://bucket/cache/swin.zarr
"""
NO_MODEL = re.compile(r"(labels|images)(T[rs])?$|masks$|gt(Fine|Coarse)$|\.")  # beside models
COLUMNS = ["store", "profile", "values", "classes", "videos", "frames", "shapes"]


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    return options.command(options)


def build_parser() -> argparse.ArgumentParser:
    parser = cli.parser("fusion.stores", "Look at, check, clean and fill logit stores.", EPILOG)
    commands = parser.add_subparsers(required=True, metavar="info | verify | gc | import")
    for command, name, text in (
        (info, "info", "what a store holds and how big it is"),
        (check, "verify", "re-read every byte"),
        (collect, "gc", "remove staging folders of dead writers"),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("stores", nargs="+", type=Path, metavar="STORE")
        sub.set_defaults(command=command)
        if command is not collect:
            machine = "machine-readable result on stdout"
            sub.add_argument("--json", action="store_true", help=machine)
            continue
        age = "only folders older than this (default 3600)"
        sub.add_argument("--age", type=float, default=3600.0, metavar="SECONDS", help=age)
        sub.add_argument("--dry-run", action="store_true", help="say what would go, remove nothing")
    text = "fill a store from files"
    sub = commands.add_parser("import", help=text, epilog=parser.epilog, description=bring.__doc__)
    sub.formatter_class = argparse.RawDescriptionHelpFormatter
    sub.set_defaults(command=bring)
    _add_import_options(sub.add_argument)
    cli.add_truth(sub.add_argument_group("labels, which give frame ids and image sizes"))
    return parser


def _add_import_options(add: Any) -> None:
    holds = "; ".join(f"{importer.kind}: {importer.holds}" for importer in IMPORTERS)
    kind = "what SOURCE is (default: recognised)"
    store = "the store to fill (made if missing); with --each a folder of stores"
    frames = "frame ids {video: [...]}, for a file per video"
    profile = "compact: uint8 codes (default); exact: float16"
    each = "SOURCE holds a subfolder a model; makes DEST/<model>.zarr of each"
    names = (
        "class names, one a line, in a JSON list or by number as VSPW's, a class map's, or how many"
    )
    size = "image size of all videos (default: the labels', else the arrays')"
    values = "what the numbers are (default auto: what the format says, else logits)"
    intersect = "leave out videos that --labels or --frames do not have"
    normalise = "divide probabilities that do not sum to 1 by their sum"
    dry = "show what would be made of the first three videos, write nothing"
    add("source", type=Path, help=f"folder or file ({holds})")
    add("dest", type=Path, help=store)
    add("--kind", choices=[importer.kind for importer in IMPORTERS], help=kind)
    add("--classes", metavar="FILE|MAP|N", help=names)
    add("--each", action="store_true", help=each)
    add("--profile", choices=tuple(PROFILES), default="compact", help=profile)
    add("--values", choices=("auto", *VALUES), default="auto", help=values)
    for name, facts in OPTIONS.items():
        add(f"--{name.replace('_', '-')}", **facts)
    add("--frames", type=Path, metavar="JSON", help=frames)
    add("--size", metavar="HxW", help=size)
    add("--intersect", action="store_true", help=intersect)
    add("--normalise", action="store_true", help=normalise)
    add("--overwrite", action="store_true", help="replace videos that are in the store")
    add("--dry-run", action="store_true", help=dry)
    add("--model", help="model name (default: the store's file name)")


def bring(options: argparse.Namespace) -> int:
    """Fill a store from files. Videos that are there are skipped: run it again to resume."""
    names = ("kind", "profile", "values", "model", "intersect", "normalise", "overwrite", *OPTIONS)
    given: dict[str, Any] = {name: getattr(options, name) for name in names}
    given |= _read_given(options)
    command = {"command": "python -m fusion.stores import"}
    # all folders are looked through before the first store is made
    plans = [
        plan_folder(folder, path, provenance=command, **given) for folder, path in _folders(options)
    ]
    for plan in plans:
        cli.remark(plan.describe())
        if plan.warning:
            cli.remark(f"warning: {plan.warning}")
    if options.dry_run:
        return _show(plans)
    done = [plan.run(progress) for plan in plans]
    written, there = (sum(each) for each in zip(*done, strict=True))
    stores = f"{len(plans)} store(s) under {location_of(options.dest)}"
    print(f"{written} videos written, {there} were there already, in {stores}")
    return 0


def _show(plans: Sequence[Plan]) -> int:
    """What would be written of each folder's first videos."""
    for plan in plans:
        print(
            f"{location_of(plan.dest)}: {len(plan.sources)} videos, classes {listed(plan.classes)}"
        )
        for facts in plan.preview():
            ids, (t, c, h, w), (height, width) = facts["frames"], facts["shape"], facts["size"]
            place = json.dumps(facts["geometry"]) if facts["geometry"] else "none"
            frames = f"{t} frames ({listed(ids, 3)}) of {c}x{h}x{w} for images of {height}x{width}"
            print(f"  {visible(facts['video'])}: {frames}, {facts['values']}, geometry {place}")
    print("nothing was written")
    return 0


def _folders(options: argparse.Namespace) -> list[tuple[Path, Path]]:
    """Each folder to import, and its store."""
    source = options.source
    if not options.each:
        return [(source, options.dest)]
    if not source.is_dir():
        raise InputError(f"{source}: no such folder; give one with a subfolder a model")
    there = sorted(entry for entry in source.iterdir() if entry.is_dir())
    folders = [entry for entry in there if not NO_MODEL.match(entry.name)]
    if left := [entry.name for entry in there if entry not in folders]:
        cli.remark(f"{source}: no models, left out: {listed(left)}")
    if not folders:
        raise InputError(f"{source}: no subfolder; --each expects one per model")
    return [(folder, options.dest / f"{folder.name}.zarr") for folder in folders]


def _read_given(options: argparse.Namespace) -> dict[str, Any]:
    """What --classes, --frames, --labels and --size say."""
    return {
        "classes": _class_names(options.classes) if options.classes else None,
        "frames": read_frames(options.frames) if options.frames else None,
        "size": _parse_size(options.size) if options.size else None,
        "labels": cli.read_truth(options) if options.labels or options.vspw else None,
    }


def _class_names(text: str) -> Sequence[str] | int:
    """A number of classes, the names of a class map, or those in a file."""
    if text.isdigit():
        return int(text)
    known = read_class_map(text).names if text in MAPS else ()
    return known or read_classes(text)


def _parse_size(text: str) -> tuple[int, int]:
    try:
        height, width = (int(n) for n in text.lower().split("x"))
        if min(height, width) > 0:
            return height, width
    except ValueError:
        pass
    raise InputError(f"--size: got {text!r}; give HEIGHTxWIDTH in pixels, such as 480x853")


def info(options: argparse.Namespace) -> int:
    rows = [_describe(LogitStore(path)) for path in options.stores]
    if options.json:
        cli.print_json(rows)
        return 0
    cells = []
    for row in rows:
        shown = {**row, "classes": len(row["classes"])}
        share = f"{row['bytes'] / max(1, row['float16_bytes']):.1%}"
        cells.append([*(str(shown[name]) for name in COLUMNS), say_bytes(row["bytes"]), share])
    print(table(cells, [*COLUMNS[:-1], "shape", "on disk", "of float16"]))
    return 0


def _describe(store: LogitStore) -> dict[str, Any]:
    videos = [store.describe(video) for video in store.videos]
    shapes = sorted({f"{v.shape[2]}x{v.shape[3]} for {v.size[0]}x{v.size[1]}" for v in videos})
    return {
        "store": store.file_name,
        "model": store.model,
        "profile": store.profile,
        "values": store.values,
        "classes": list(store.classes),
        "videos": len(videos),
        "frames": sum(len(v.frames) for v in videos),
        "shapes": ", ".join(shapes[:3]),
        "bytes": store.location.total(),
        "float16_bytes": 2 * sum(prod(v.shape) for v in videos),
        "digest": store.digest(),
        "provenance": store.info.provenance,
    }


def check(options: argparse.Namespace) -> int:
    """Re-reads stores; exit code 2 and a line for each damaged video."""
    verdicts = [
        (str(location_of(path)), verdict)
        for path in options.stores
        for verdict in progress(verify(path), f"verifying {path.name}")
    ]
    bad = [verdict for _, verdict in verdicts if verdict.problem]
    for verdict in bad:
        cli.remark(f"error: {verdict.problem}")
    if options.json:
        cli.print_json([{"store": path, **asdict(verdict)} for path, verdict in verdicts])
    else:
        frames = sum(verdict.frames for _, verdict in verdicts)
        print(f"{len(verdicts)} videos, {frames} frames read, {len(bad)} videos damaged")
    return 2 if bad else 0


def collect(options: argparse.Namespace) -> int:
    done = "would remove" if options.dry_run else "removed"
    for path in options.stores:
        place = location_of(path)
        for name, size in gc(place, age=options.age, dry_run=options.dry_run):
            print(f"{place}: {done} {name} ({say_bytes(size)})")
    return 0


if __name__ == "__main__":
    cli.command(main)
