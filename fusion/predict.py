"""python -m fusion.predict: label PNGs of an ensemble, one folder a video."""

from __future__ import annotations

import argparse
import os
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from fusion import cli
from fusion.errors import InputError, StoreError
from fusion.hierarchical import HierarchicalEnsemble
from fusion.labels import write_labels
from fusion.progress import progress

EPILOG = """examples:
  python -m fusion.predict --ensemble results/best.json --out labels/
  python -m fusion.predict --ensemble results/best.json --stores cache/test --out submission --zip    (another split's stores)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    ensemble = HierarchicalEnsemble.load(
        options.ensemble, stores=options.stores, memory=options.memory, device=options.device
    )
    videos = options.videos or list(ensemble.videos)
    written = skipped = 0
    for video in progress(videos, "predicting"):
        done, there = predict_video(
            ensemble, video, options.out, options.palette, options.overwrite, options.resume
        )
        written, skipped = written + done, skipped + there
    print(f"{written} label maps written, {skipped} were there already, under {options.out}")
    if options.zip:
        print(f"packed into {pack(options.out, options.overwrite or options.resume)}")
    return 0


def build_parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "fusion.predict",
        "Write the label maps of an ensemble as PNGs: OUT/<video>/<frame>.png.",
        EPILOG,
    )
    parser.add_argument("--ensemble", type=Path, required=True, help="ensemble.toml or best.json")
    parser.add_argument(
        "--stores",
        type=Path,
        metavar="DIR",
        help="take stores of the same names from here (another split)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the PNGs go")
    parser.add_argument("--videos", nargs="+", metavar="ID", help="only these (default: all)")
    parser.add_argument(
        "--palette", default="vspw", help="colours of the indexed PNGs (default vspw)"
    )
    parser.add_argument(
        "--zip",
        action="store_true",
        help="also pack OUT into OUT.zip, as challenge servers take it",
    )
    parser.add_argument("--memory", default="4GB", help="most bytes for pixels (default 4GB)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace files that are there")
    existing.add_argument(
        "--resume", action="store_true", help="keep files that are there, write the rest"
    )
    return parser


def predict_video(
    ensemble: HierarchicalEnsemble,
    video: str,
    out: Path,
    palette: str,
    overwrite: bool,
    resume: bool,
) -> tuple[int, int]:
    """Writes a video's PNGs; returns how many were written and how many were there."""
    folder = out / safe_name(video)
    frames = list(ensemble.frames(video))
    todo = [
        frame
        for frame in frames
        if not (resume and os.path.lexists(folder / f"{safe_name(frame)}.png"))
    ]
    for frame, labels in ensemble.label_maps(video, todo) if todo else ():
        write_labels(
            folder / f"{safe_name(frame)}.png", labels, palette=palette, overwrite=overwrite
        )
    return len(todo), len(frames) - len(todo)


def safe_name(name: str) -> str:
    """An id as a file name, if it can be one; ids that would leave the folder are refused."""
    if (
        not name
        or name.startswith(".")
        or "/" in name
        or "\\" in name
        or "\0" in name
        or len(name.encode()) > 240
    ):
        raise InputError(
            f"id {name!r} cannot be a file name; choose other ids, or write the labels yourself from predict()"
        )
    return name


def pack(folder: Path, overwrite: bool) -> Path:
    """OUT.zip with OUT's PNGs, made whole beside it and renamed."""
    target = folder.with_name(folder.name + ".zip")
    if os.path.lexists(target) and not overwrite:
        raise StoreError(f"{target}: exists; remove it or use --overwrite")
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(
            scratch, "w", zipfile.ZIP_STORED
        ) as archive:  # PNGs are compressed already
            for file in sorted(folder.glob("*/*.png")):
                archive.write(file, file.relative_to(folder))
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)
    return target


if __name__ == "__main__":
    sys.exit(cli.run(main))
