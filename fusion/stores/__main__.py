"""python -m fusion.stores: look at, check, clean and fill logit stores."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fusion import cli
from fusion.errors import InputError
from fusion.progress import progress
from fusion.stores.format import PROFILES, VALUES
from fusion.stores.importers.arrays import (
    AXES,
    Source,
    find_videos,
    import_videos,
    read_classes,
    read_frames,
)
from fusion.stores.maintenance import gc, verify
from fusion.stores.reader import LogitStore
from fusion.stores.writer import LogitWriter
from fusion.text import say_bytes, table

EPILOG = """examples:
  python -m fusion.stores import predictions/swin cache/swin.zarr --classes classes.txt --labels labels/
  python -m fusion.stores import predictions/ cache/ --each --classes classes.txt --labels labels/    (a store per subfolder)
  python -m fusion.stores import nnunet_out/ cache/unet.zarr --classes classes.txt --values probabilities --key probabilities
  python -m fusion.stores info cache/*.zarr
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    return options.command(options)


def build_parser() -> argparse.ArgumentParser:
    parser = cli.parser("fusion.stores", "Look at, check, clean and fill logit stores.", EPILOG)
    commands = parser.add_subparsers(required=True, metavar="info | verify | gc | import")
    for name, command, text in (
        ("info", info, "what a store holds and how big it is"),
        ("verify", check, "re-read every byte"),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("stores", nargs="+", type=Path, metavar="STORE")
        sub.add_argument("--json", action="store_true", help="machine-readable result on stdout")
        sub.set_defaults(command=command)
    sub = commands.add_parser(
        "gc",
        help="remove what dead writers left",
        description="Remove staging folders of dead writers.",
    )
    sub.add_argument("stores", nargs="+", type=Path, metavar="STORE")
    sub.add_argument(
        "--age",
        type=float,
        default=3600.0,
        metavar="SECONDS",
        help="only folders older than this (default 3600)",
    )
    sub.add_argument("--dry-run", action="store_true", help="say what would go, remove nothing")
    sub.set_defaults(command=collect)
    _import_parser(
        commands.add_parser(
            "import",
            help="fill a store from .npy/.npz files",
            epilog=EPILOG,
            description=bring.__doc__,
        )
    )
    return parser


def _import_parser(sub: argparse.ArgumentParser) -> None:
    sub.formatter_class = argparse.RawDescriptionHelpFormatter
    sub.add_argument(
        "source",
        type=Path,
        help="folder of <video>.npy|npz [T,C,H,W] or <video>/<frame>.npy|npz [C,H,W]",
    )
    sub.add_argument(
        "dest",
        type=Path,
        help="the store to fill (made if missing); with --each a folder of stores",
    )
    sub.add_argument(
        "--classes",
        type=Path,
        required=True,
        metavar="FILE",
        help="class names, one a line or a JSON list",
    )
    sub.add_argument(
        "--each",
        action="store_true",
        help="SOURCE holds a subfolder a model; makes DEST/<model>.zarr of each",
    )
    sub.add_argument(
        "--profile",
        choices=tuple(PROFILES),
        default="compact",
        help="compact: uint8 gap codes (default); exact: float16",
    )
    sub.add_argument(
        "--values", choices=VALUES, default="logits", help="what the arrays hold (default logits)"
    )
    sub.add_argument(
        "--key", help="name of the array in .npz files (default: the only one, or nnU-Net's)"
    )
    sub.add_argument(
        "--axes", choices=AXES, help="order of the axes (default: told by the class count)"
    )
    sub.add_argument(
        "--frames", type=Path, metavar="JSON", help="frame ids {video: [...]}, for a file per video"
    )
    sub.add_argument(
        "--labels",
        type=Path,
        metavar="DIR",
        help="ground truth <video>/<frame>.png: gives frame ids and image sizes",
    )
    sub.add_argument(
        "--size",
        metavar="HxW",
        help="image size of all videos (default: the labels', else the arrays')",
    )
    sub.add_argument("--model", help="model name (default: the store's file name)")
    sub.set_defaults(command=bring)


def bring(options: argparse.Namespace) -> int:
    """Fill a store from arrays on disk. Videos that are committed already are skipped: run it again to resume."""
    classes = read_classes(options.classes)
    frames, sizes = _frames_and_sizes(options)
    jobs = [(options.source, options.dest)]
    if options.each:
        if not options.source.is_dir():
            raise InputError(f"{options.source}: no such folder; give one with a subfolder a model")
        jobs = [
            (folder, options.dest / f"{folder.name}.zarr")
            for folder in sorted(options.source.iterdir())
            if folder.is_dir()
        ]
        if not jobs:
            raise InputError(f"{options.source}: no subfolder; --each expects one per model")
    work = [(path, source) for folder, path in jobs for source in find_videos(folder)]
    written = skipped = 0
    provenance = {"command": "python -m fusion.stores import", "source": "files"}
    writers: dict[Path, LogitWriter] = {}
    bar = progress(work, "importing")
    for path, source in bar:
        if path not in writers:
            extra: dict[str, Any] = {
                "values": options.values,
                "model": options.model,
                "provenance": provenance,
            }
            writers[path] = LogitWriter(path, classes, options.profile, **extra)
        picked = sizes if sizes is not None else _fixed_size(options.size, source.video)
        _check_known(source, None if source.per_frame else frames, sizes)
        chosen = (
            None if frames is None or source.per_frame else {source.video: frames[source.video]}
        )
        for _, there in import_videos(
            writers[path], [source], key=options.key, axes=options.axes, frames=chosen, sizes=picked
        ):
            skipped += there
            written += not there
    print(
        f"{written} videos written, {skipped} were there already, in {len(writers)} store(s) under {options.dest}"
    )
    return 0


def _check_known(source: Source, *given: Mapping[str, Any] | None) -> None:
    """A video that --frames or --labels do not have would get made-up ids or a wrong size without a word."""
    for names in given:
        if names is not None and source.video not in names:
            close = difflib.get_close_matches(source.video, names, n=1)
            hint = (
                f"did you mean the {close[0]!r} there?"
                if close
                else f"they name {len(names)} other videos"
            )
            raise InputError(
                f"{source.files[0]}: --frames or --labels say nothing of video {source.video!r}; {hint}"
            )


def _frames_and_sizes(
    options: argparse.Namespace,
) -> tuple[dict[str, list[str]] | None, dict[str, tuple[int, int]] | None]:
    frames = read_frames(options.frames) if options.frames else None
    if options.labels is None:
        return frames, None
    from fusion.labels import Labels

    labels = Labels.folder(options.labels)
    sizes = None if options.size else {video: labels.size(video) for video in labels.videos}
    return frames or {video: list(labels.frames(video)) for video in labels.videos}, sizes


def _fixed_size(text: str | None, video: str) -> dict[str, tuple[int, int]] | None:
    if text is None:
        return None
    try:
        height, width = (int(n) for n in text.lower().split("x"))
    except ValueError:
        raise InputError(
            f"--size: got {text!r}; give HEIGHTxWIDTH in pixels, such as 480x853"
        ) from None
    return {video: (height, width)}


def info(options: argparse.Namespace) -> int:
    rows = [_describe(LogitStore(path)) for path in options.stores]
    if options.json:
        cli.print_json(rows)
        return 0
    header = (
        "store",
        "profile",
        "values",
        "classes",
        "videos",
        "frames",
        "shape",
        "on disk",
        "of float16",
    )
    cells = [
        (
            r["store"],
            r["profile"],
            r["values"],
            len(r["classes"]),
            r["videos"],
            r["frames"],
            r["shapes"],
        )
        for r in rows
    ]
    sizes = [
        (say_bytes(r["bytes"]), f"{r['bytes'] / max(1, r['float16_bytes']):.1%}") for r in rows
    ]
    print(
        table(
            [(*(str(c) for c in cell), *size) for cell, size in zip(cells, sizes, strict=True)],
            header,
        )
    )
    return 0


def _describe(store: LogitStore) -> dict[str, Any]:
    videos = [store.describe(video) for video in store.videos]
    shapes = sorted({f"{v.shape[2]}x{v.shape[3]} for {v.size[0]}x{v.size[1]}" for v in videos})
    elements = sum(v.shape[0] * v.shape[1] * v.shape[2] * v.shape[3] for v in videos)
    return {
        "store": store.path.name,
        "model": store.model,
        "profile": store.profile,
        "values": store.values,
        "classes": list(store.classes),
        "videos": len(videos),
        "frames": sum(len(v.frames) for v in videos),
        "shapes": ", ".join(shapes[:3]),
        "bytes": sum(
            file.stat().st_size
            for file in store.path.rglob("*")
            if file.is_file() and ".staging" not in file.parts
        ),
        "float16_bytes": 2 * elements,
        "digest": store.digest(),
        "provenance": store.info.provenance,
    }


def check(options: argparse.Namespace) -> int:
    rows = [
        (path, verdict)
        for path in options.stores
        for verdict in progress(verify(path), f"verifying {path.name}")
    ]
    bad = [(path, verdict) for path, verdict in rows if verdict.problem]
    if options.json:
        cli.print_json(
            [
                {"store": str(path), "folder": v.folder, "frames": v.frames, "problem": v.problem}
                for path, v in rows
            ]
        )
    for _, verdict in bad:
        print(f"error: {verdict.problem}", file=sys.stderr)
    if not options.json:
        print(
            f"{len(rows)} videos, {sum(v.frames for _, v in rows)} frames read, {len(bad)} videos damaged"
        )
    return 2 if bad else 0


def collect(options: argparse.Namespace) -> int:
    for path in options.stores:
        for name, size in gc(path, age=options.age, dry_run=options.dry_run):
            print(
                f"{path}: {'would remove' if options.dry_run else 'removed'} {name} ({say_bytes(size)})"
            )
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
