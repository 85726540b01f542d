"""python -m fusion.predict: what an ensemble predicts, in one of many formats."""

from __future__ import annotations

import argparse
import os
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from fusion import cli
from fusion.errors import InputError, StoreError
from fusion.files import refusals, replacing
from fusion.hierarchical import HierarchicalEnsemble
from fusion.labels.stored_as import FORMS, StoredAs
from fusion.outputs import OUTPUTS, output_options, safe_name, write
from fusion.outputs.png import Png
from fusion.progress import progress
from fusion.text import parse_assignments

__all__ = ["main", "pack", "safe_name"]

EPILOG = """formats:
{formats}

examples:
  python -m fusion.predict --ensemble results/best.json --out labels/
  python -m fusion.predict --ensemble results/best.json --stores cache/test --out submission --zip
      (the stores of another split)
  python -m fusion.predict --ensemble results/best.json --out submission --label-map cityscapes
      (the ids that the benchmark's server takes)
  python -m fusion.predict --ensemble results/best.json --out cases/ --format nifti --probabilities
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    replace = options.overwrite or options.resume
    if options.zip:
        _check_archive(
            _archive(options.out), overwrite=replace
        )  # before the work, and again after it
    ensemble = HierarchicalEnsemble.load(
        options.ensemble,
        stores=options.stores,
        memory=options.memory,
        device=options.device,
        **cli.read_postprocess(options),
    )
    meaning = StoredAs.of(_label_names(ensemble), options.label_map, options.write, options.palette)
    own = {name: getattr(options, name) for name in output_options()}
    if options.format == Png.name or options.palette:
        own["palette"] = meaning.shown
    written, kept = write(
        ensemble,
        options.out,
        options.format,
        videos=options.videos,
        probabilities=options.probabilities,
        overwrite=options.overwrite,
        resume=options.resume,
        compose=_ids(options.compose) if options.compose else None,
        stored=meaning.stored,
        progress=progress,
        **own,
    )
    probabilities = options.probabilities or OUTPUTS[options.format].keeps == ("probabilities",)
    what = "probability maps" if probabilities else "label maps"
    print(f"{written} {what} written, {kept} were there already, under {options.out}")
    if options.zip:
        patterns = OUTPUTS[options.format].packed
        print(f"packed into {pack(options.out, patterns, overwrite=replace)}")
    return 0


def build_parser() -> argparse.ArgumentParser:
    purpose = (
        "Write what an ensemble predicts: label maps or probabilities, in one of many formats."
    )
    formats = "\n".join(f"  {name:<9}{kind.about}" for name, kind in OUTPUTS.items())
    parser = cli.parser("fusion.predict", purpose, EPILOG.replace("{formats}", formats))
    add = parser.add_argument
    add("--ensemble", type=Path, required=True, help="ensemble.toml or best.json")
    stores = "take stores of the same names from here (another split)"
    add("--stores", type=Path, metavar="DIR", help=stores)
    add("--out", type=Path, required=True, metavar="DIR", help="where the files go")
    add("--format", choices=tuple(OUTPUTS), default="png", help="what is written (default png)")
    fused = "fused probabilities in the place of label maps (nnunet: beside them)"
    add("--probabilities", action="store_true", help=fused)
    regions = "paint independent channels, in their order, into one label map of these ids"
    add("--compose", nargs="+", metavar="NAME=ID", help=regions)
    cli.add_postprocess(parser)
    add("--videos", nargs="+", metavar="ID", help="only these (default: all)")
    add("--label-map", metavar="MAP", help=f"write the values of a data set. {cli.MAP_HELP}")
    values = "class ids, what --label-map stores for them (default with it), or colours"
    add("--write", choices=FORMS, help=values)
    palette = (
        "JSON list of colours [R, G, B], or {class: colour} (default --label-map's, else vspw)"
    )
    add("--palette", metavar="FILE", help=palette)
    packed = "also pack OUT into OUT.zip, as challenge servers take it"
    add("--zip", action="store_true", help=packed)
    for name, (flag, form) in output_options().items():
        add(flag, dest=name, default=None, **form)
    cli.add_memory(parser)
    cli.add_device(parser)
    add = parser.add_mutually_exclusive_group().add_argument
    add("--overwrite", action="store_true", help="replace files that are there")
    add("--resume", action="store_true", help="keep files that are there, write the rest")
    return parser


def _label_names(ensemble: HierarchicalEnsemble) -> Sequence[str]:
    """What label maps tell apart; of one independent channel its absence too."""
    channels = ensemble.channels
    return ensemble.classes if channels is None or len(channels) == 1 else channels


def _ids(pairs: Sequence[str]) -> dict[str, int]:
    """NAME=ID arguments."""
    found = parse_assignments(pairs, "--compose")
    for name, text in found.items():
        if not text.isdecimal():
            raise InputError(f"--compose: got {name}={text}; give NAME=ID, a whole number")
    return {name: int(text) for name, text in found.items()}


def pack(folder: Path, patterns: Sequence[str] = ("*/*.png",), *, overwrite: bool) -> Path:
    """OUT.zip with OUT's files of these patterns, whole or not at all."""
    target = _archive(folder)
    _check_archive(target, overwrite=overwrite)
    with (
        refusals(target),
        replacing(target, overwrite=overwrite) as scratch,
        zipfile.ZipFile(scratch, "x", zipfile.ZIP_STORED) as archive,  # all are compressed already
    ):
        for file in sorted(_packed(folder, patterns)):
            archive.write(file, file.relative_to(folder))
    return target


def _archive(folder: Path) -> Path:
    return folder.with_name(folder.name + ".zip")


def _check_archive(target: Path, *, overwrite: bool) -> None:
    if os.path.lexists(target) and not overwrite:
        raise StoreError(f"{target}: exists; remove it or use --overwrite")


def _packed(folder: Path, patterns: Sequence[str]) -> Iterator[Path]:
    """Plain files, no links, nothing hidden."""
    for file in {file for pattern in patterns for file in folder.glob(pattern)}:
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if file.is_file() and not file.is_symlink() and not hidden:
            yield file


if __name__ == "__main__":
    sys.exit(cli.run(main))
