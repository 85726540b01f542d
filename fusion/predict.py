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
from fusion.files import refusals, replacing
from fusion.hierarchical import HierarchicalEnsemble
from fusion.labels.output import FORMS, Output
from fusion.progress import progress

EPILOG = """examples:
  python -m fusion.predict --ensemble results/best.json --out labels/
  python -m fusion.predict --ensemble results/best.json --stores cache/test --out submission --zip
      (the stores of another split)
  python -m fusion.predict --ensemble results/best.json --out submission --label-map cityscapes
      (the ids that the benchmark's server takes)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    ensemble = HierarchicalEnsemble.load(
        options.ensemble, stores=options.stores, memory=options.memory, device=options.device
    )
    output = Output.of(ensemble.classes, options.label_map, options.write, options.palette)
    written = skipped = 0
    for video in progress(options.videos or list(ensemble.videos), "predicting"):
        done, there = predict_video(ensemble, video, output, options)
        written, skipped = written + done, skipped + there
    print(f"{written} label maps written, {skipped} were there already, under {options.out}")
    if options.zip:
        target = pack(options.out, overwrite=options.overwrite or options.resume)
        print(f"packed into {target}")
    return 0


def build_parser() -> argparse.ArgumentParser:
    purpose = "Write the label maps of an ensemble as PNGs: OUT/<video>/<frame>.png."
    parser = cli.parser("fusion.predict", purpose, EPILOG)
    add = parser.add_argument
    add("--ensemble", type=Path, required=True, help="ensemble.toml or best.json")
    stores = "take stores of the same names from here (another split)"
    add("--stores", type=Path, metavar="DIR", help=stores)
    add("--out", type=Path, required=True, metavar="DIR", help="where the PNGs go")
    add("--videos", nargs="+", metavar="ID", help="only these (default: all)")
    add("--label-map", metavar="MAP", help=f"write the values of a data set. {cli.MAP_HELP}")
    written = "class ids, what --label-map stores for them (default with it), or colours"
    add("--write", choices=FORMS, help=written)
    palette = (
        "JSON list of colours [R, G, B], or {class: colour} (default --label-map's, else vspw)"
    )
    add("--palette", metavar="FILE", help=palette)
    packed = "also pack OUT into OUT.zip, as challenge servers take it"
    add("--zip", action="store_true", help=packed)
    cli.add_memory(parser)
    cli.add_device(parser)
    add = parser.add_mutually_exclusive_group().add_argument
    add("--overwrite", action="store_true", help="replace files that are there")
    add("--resume", action="store_true", help="keep files that are there, write the rest")
    return parser


def predict_video(
    ensemble: HierarchicalEnsemble, video: str, output: Output, options: argparse.Namespace
) -> tuple[int, int]:
    """Writes a video's PNGs; returns how many were written and how many were there."""
    folder = options.out / safe_name(video)
    files = {frame: folder / f"{safe_name(frame)}.png" for frame in ensemble.frames(video)}
    todo = [f for f, path in files.items() if not (options.resume and os.path.lexists(path))]
    for frame, labels in ensemble.label_maps(video, todo) if todo else ():
        output.write(files[frame], labels, overwrite=options.overwrite)
    return len(todo), len(files) - len(todo)


def safe_name(name: str) -> str:
    """An id as a file name, if it can be one; ids that would leave the folder are refused."""
    if not name or name[0] == "." or set(name) & set("/\\\0") or len(name.encode()) > 240:
        advice = "choose other ids, or write the labels yourself from predict()"
        raise InputError(f"id {name!r} cannot be a file name; {advice}")
    return name


def pack(folder: Path, *, overwrite: bool) -> Path:
    """OUT.zip with OUT's PNGs, whole or not at all."""
    target = folder.with_name(folder.name + ".zip")
    if os.path.lexists(target) and not overwrite:
        raise StoreError(f"{target}: exists; remove it or use --overwrite")
    with (
        refusals(target),
        replacing(target, overwrite=overwrite) as scratch,
        zipfile.ZipFile(scratch, "x", zipfile.ZIP_STORED) as archive,  # PNGs are compressed already
    ):
        for file in sorted(folder.glob("*/*.png")):
            archive.write(file, file.relative_to(folder))
    return target


if __name__ == "__main__":
    sys.exit(cli.run(main))
