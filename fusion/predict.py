"""python -m fusion.predict: what an ensemble predicts, in one of many formats."""

from __future__ import annotations

import argparse
import glob
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fusion import cli
from fusion.ensemble.plan import Plan
from fusion.ensemble.planning import whole_bytes
from fusion.ensemble.postprocessed import needed
from fusion.errors import InputError
from fusion.estimate import Estimate, checked_plans, estimate
from fusion.hierarchical import HierarchicalEnsemble
from fusion.labels import ClassMap, Labels
from fusion.labels.known_maps import map_of
from fusion.labels.palettes import PALETTES
from fusion.labels.png import encode
from fusion.labels.stored_as import FORMS, StoredAs
from fusion.memory import BudgetError, Share
from fusion.outputs import OUTPUTS, SUBMISSIONS, output_options, safe_name, submit, write
from fusion.outputs.archive import archive_of, check_archive, pack
from fusion.outputs.overlay import Overlay
from fusion.outputs.png import Png
from fusion.outputs.run import Written
from fusion.overlap import SOME, overlapped
from fusion.postprocess.priors import with_estimated
from fusion.progress import progress
from fusion.text import parse_assignments

__all__ = ["main", "pack", "safe_name"]

EPILOG = """formats:
{formats}

submissions (files as a challenge server takes them, and their zip):
{submissions}

examples:
  python -m fusion.predict --ensemble results/best.json --out labels/
  python -m fusion.predict --ensemble results/best.json --stores cache/test --out test --zip
      (the stores of another split)
  python -m fusion.predict --ensemble results/best.json --out ids/ --label-ids
      (ids as the data set's own masks have them)
  python -m fusion.predict --ensemble results/best.json --out vspw/ --submission vspw
      (vspw/ and vspw.zip, to be uploaded)
  python -m fusion.predict --ensemble results/best.json --out seen/ --overlay images/
      (classes over the pictures, in colours that the colour-blind can tell apart)
  python -m fusion.predict --ensemble results/best.json --out clips/ --format mp4 --overlay images/
      (picture and overlay side by side)
  python -m fusion.predict --ensemble results/best.json --out cases/ --format nifti --probabilities
  python -m fusion.predict --ensemble results/best.json --out teacher.zarr --format store \
      --soft top-k --at stores
      (one more store: a teacher, or a model of the next ensemble)
  python -m fusion.predict --ensemble results/best.json --out pseudo/ --format pseudo --keep 0.8
      (the certain pixels of every class, void elsewhere)

Nothing is replaced unless --overwrite says so; --resume goes on where a run was stopped.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    share = cli.take_memory(options)
    _check(options)
    if options.plan:
        options.zip = False
    if options.zip or options.submission:  # before the work, and again after it
        check_archive(archive_of(options.out), overwrite=options.overwrite or options.resume)
    ensemble = HierarchicalEnsemble.load(
        options.ensemble,
        stores=options.stores,
        memory=options.memory,
        device=options.device,
        **cli.read_postprocess(options),
    )
    kind = SUBMISSIONS[options.submission] if options.submission else OUTPUTS[options.format]
    whole = options.probabilities or kind.keeps == ("probabilities",)
    output = "probabilities" if whole else "labels"
    videos = list(ensemble.videos if options.videos is None else options.videos)
    one = ensemble.sharing(options.scheduler)
    plans = checked_plans(partial(_plan, one, output), videos, share)
    if options.estimate_priors:  # which looks at whole distributions
        checked_plans(partial(one.plan, outputs=("probabilities",)), videos, share)
    if options.plan:
        cli.show(_planned(one, videos, output, plans, share, options), options)
        return 0
    if options.estimate_priors:
        ensemble = with_estimated(ensemble, options.videos)
    how: dict[str, Any] = {"videos": options.videos, "progress": partial(progress, unit="frame")}
    how |= {"overwrite": options.overwrite, "resume": options.resume}
    how |= {"scheduler": options.scheduler}
    packed: Path | None = None
    if options.submission:
        written, packed = submit(ensemble, options.out, options.submission, **how)
    else:
        written = _write(ensemble, options, how)
        if options.zip:
            patterns = _patterns(options.format, written)
            packed = pack(options.out, patterns, overwrite=options.overwrite or options.resume)
    _say(options, written, packed)
    return 0


def _plan(ensemble: HierarchicalEnsemble, output: str, video: str) -> Plan:
    """Of whole frames; BudgetError where these do not fit beside what they are made of."""
    outputs, beside = needed(ensemble.postprocess, (output,)), whole_bytes(ensemble, video, output)
    try:
        plan = ensemble.plan(video, outputs, beside)
    except BudgetError as error:
        raise BudgetError(str(error), error.least + beside) from error
    if plan.bytes > ensemble.memory:
        raise BudgetError(f"memory: , whole frames need {plan.bytes}", plan.bytes)
    return plan


def _planned(
    ensemble: HierarchicalEnsemble,
    videos: Sequence[str],
    output: str,
    plans: Sequence[Plan],
    share: Share,
    options: argparse.Namespace,
) -> Estimate:
    """What predicting will take; label maps are timed with their PNGs."""

    def work(video: str, frames: Sequence[str]) -> int:
        if output == "probabilities":
            return sum(each.nbytes for _, each in ensemble.probability_maps(video, frames))
        maps = (np.atleast_3d(labels.T).T for _, labels in ensemble.label_maps(video, frames))
        encoded = overlapped(lambda each: [encode(plane) for plane in each], maps, SOME)
        return sum(len(content) for some in encoded for content in some)

    frames = {video: ensemble.frames(video) for video in videos}
    more = cli.priors_step(options)
    return estimate(ensemble, frames, plans, work, share, steps=more)


def _check(options: argparse.Namespace) -> None:
    """Fills in the format, and refuses what goes together with nothing."""
    if options.submission:
        own = (*output_options(), "format", "probabilities", "compose", "label_map", "label_ids")
        own = (*own, "labels", "write", "palette", "zip")
        for name in own:
            if getattr(options, name):
                flag = f"--{name.replace('_', '-')}"
                what = "says by itself what is written, and packs it"
                raise InputError(f"--submission {options.submission}: {what}; leave out {flag}")
    if options.labels is not None and not options.label_ids:
        raise InputError("--labels says whose ids are written; give --label-ids with it")
    if options.label_ids and options.write not in (None, "stored"):
        raise InputError(f"--label-ids: got --write {options.write} beside it; leave one out")
    if options.format is None:
        options.format = Png.name if options.overlay is None else Overlay.name


def _write(
    ensemble: HierarchicalEnsemble, options: argparse.Namespace, how: dict[str, Any]
) -> Written:
    kind = OUTPUTS[options.format]
    classes = _label_names(ensemble, painted=bool(options.compose) and kind.draws)
    own = {name: getattr(options, name) for name in output_options()}
    known, form = options.label_map, options.write
    if options.label_ids:
        known, form = _own_map(options, classes), "stored"
    if kind.draws and form is None:
        form = "classes"
    meaning = StoredAs.of(classes, known, form, options.palette)
    if kind.draws:
        own["palette"] = meaning.palette or None
    elif options.format == Png.name or options.palette:
        own["palette"] = meaning.shown
    return write(
        ensemble,
        options.out,
        options.format,
        probabilities=options.probabilities,
        compose=_ids(options.compose) if options.compose else None,
        stored=meaning.stored,
        **how,
        **own,
    )


def _own_map(options: argparse.Namespace, classes: Sequence[str]) -> str | ClassMap:
    """The map of a data set's own ids: as it is named, as its labels say, or by the classes."""
    if options.label_map:
        return str(options.label_map)
    if options.labels is not None:
        known = Labels.open("auto", options.labels, options.split).class_map
        if known is None:
            what = f"{options.labels} has class ids, which is what is written without it"
            raise InputError(f"--label-ids: {what}; leave it out, or give --label-map MAP")
        return known
    name = map_of(classes)
    if name is None:
        what = "nothing here says which ids the data set's own masks have"
        raise InputError(f"--label-ids: {what}; give --label-map MAP, or --labels PATH of some")
    return name


def _patterns(name: str, written: Written) -> list[str]:
    """Of an archive: the files of this run, also those that were there; of trees all of it."""
    trees = [pattern for pattern in OUTPUTS[name].packed if "**" in pattern]
    return [*trees, *(glob.escape(file) for file in written.files)]


def _say(options: argparse.Namespace, written: Written, packed: Path | None) -> None:
    if options.json:
        document = {"written": written.frames, "kept": written.kept, "out": str(options.out)}
        document |= {"format": options.format, "submission": options.submission}
        document |= {"files": list(written.files), "zip": None if packed is None else str(packed)}
        cli.print_json(document)
        return
    kind = SUBMISSIONS[options.submission] if options.submission else OUTPUTS[options.format]
    probabilities = options.probabilities or kind.keeps == ("probabilities",)
    what = kind.makes or ("probability maps" if probabilities else "label maps")
    done = "drawn" if kind.draws else "written"
    said = f"{written.frames} {what} {done}, {written.kept} were there already"
    print(f"{said}, under {options.out}")
    if packed is not None:
        print(f"packed into {packed}")


def build_parser() -> argparse.ArgumentParser:
    purpose = (
        "Write what an ensemble predicts: label maps, probabilities or pictures, in many formats."
    )
    formats = "\n".join(f"  {name:<12}{kind.about}" for name, kind in OUTPUTS.items())
    servers = "\n".join(f"  {name:<12}{kind.about}" for name, kind in SUBMISSIONS.items())
    epilog = EPILOG.replace("{formats}", formats).replace("{submissions}", servers)
    parser = cli.parser("fusion.predict", purpose, epilog)
    add = parser.add_argument
    add("--ensemble", type=Path, required=True, help="ensemble.toml or best.json")
    stores = "take stores of the same names from here (another split)"
    add("--stores", type=Path, metavar="DIR", help=stores)
    add("--out", type=Path, required=True, metavar="DIR", help="where the files go")
    kinds = "what is written (default png; overlay where --overlay is given)"
    add("--format", choices=tuple(OUTPUTS), help=kinds)
    server = "files and zip as a challenge server takes them"
    add("--submission", choices=tuple(SUBMISSIONS), help=server)
    fused = "fused probabilities in the place of label maps (nnunet: beside them)"
    add("--probabilities", action="store_true", help=fused)
    regions = "paint independent channels, in their order, into one label map of these ids"
    add("--compose", nargs="+", metavar="NAME=ID", help=regions)
    cli.add_postprocess(parser)
    add("--videos", nargs="+", metavar="ID", help="only these (default: all)")
    add_meaning(parser)
    packed = "also pack the files of this run into OUT.zip"
    add("--zip", action="store_true", help=packed)
    for name, (flag, form) in output_options().items():
        add(flag, dest=name, default=None, **form)
    for add_shared in (cli.add_scheduler, cli.add_memory, cli.add_plan, cli.add_device):
        add_shared(parser)
    counts = "machine-readable on stdout: frames written and kept, every file, the zip"
    add("--json", action="store_true", help=counts)
    add = parser.add_mutually_exclusive_group().add_argument
    add("--overwrite", action="store_true", help="replace files that are there")
    add("--resume", action="store_true", help="keep files that are there, write the rest")
    return parser


def add_meaning(parser: cli.Options) -> None:
    """Which values are written, and in which colours they are shown."""
    add = parser.add_argument
    own = (
        "the data set's own ids in the place of class ids: --label-map's, --labels', or those of "
        "the known data set that has just these classes"
    )
    add("--label-ids", action="store_true", help=own)
    add("--label-map", metavar="MAP", help=f"write the values of a data set. {cli.MAP_HELP}")
    add("--labels", type=Path, metavar="PATH", help="a data set whose ids --label-ids writes")
    add("--split", metavar="NAME", help="of --labels: its own, or a subfolder")
    values = "class ids, what --label-map stores for them (default with it), or colours"
    add("--write", choices=FORMS, help=values)
    palette = (
        f"{', '.join(PALETTES)}, or a JSON file, a list of colours [R, G, B] or {{class: colour}} "
        "(default: --label-map's own, else vspw; of pictures safe)"
    )
    add("--palette", metavar="NAME|FILE", help=palette)


def _label_names(ensemble: HierarchicalEnsemble, *, painted: bool = False) -> Sequence[str]:
    """What label maps tell apart; of one independent channel its absence too, unless its regions
    are painted.
    """
    channels = ensemble.channels
    alone = channels is not None and len(channels) == 1 and not painted
    return ensemble.classes if channels is None or alone else channels


def _ids(pairs: Sequence[str]) -> dict[str, int]:
    """NAME=ID arguments."""
    found = parse_assignments(pairs, "--compose")
    for name, text in found.items():
        if not text.isdecimal():
            raise InputError(f"--compose: got {name}={text}; give NAME=ID, a whole number")
    return {name: int(text) for name, text in found.items()}


if __name__ == "__main__":
    cli.command(main)
