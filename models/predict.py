"""python -m fusion.models.predict: weights and a split -> a logit store, video by video.

Run it again to go on. Stores what the network returns at its own resolution, or what `tta` merges
of an image's views; or each view by itself, for a search to weigh. Under ``torchrun`` each process
takes its share of the videos.
"""

from __future__ import annotations

import argparse
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from fusion import cli
from fusion.errors import InputError, StoreConflictError
from fusion.models.data.clips import Clips, standardised
from fusion.models.data.source import add_source, source_of
from fusion.models.data.statistics import read as read_statistics
from fusion.models.registry import Network
from fusion.models.training.adjustment import PostHoc
from fusion.models.training.architecture import Architecture
from fusion.models.training.checkpoint import difference, load_network
from fusion.models.training.distributed import World, world
from fusion.models.tta import ONE_VIEW, Views, add_views, stores_of, views_of
from fusion.progress import progress
from fusion.stores import LogitStore, LogitWriter

EPILOG = """examples:
  python -m fusion.models.predict --weights runs/a/baseline.safetensors \\
      --vspw VSPW_480p --split val --out cache/val/a.zarr
  torchrun --nproc-per-node 8 -m fusion.models.predict --weights ... \\
      --flip --scales 0.75 1 1.25 --out cache/val/a.zarr
  python -m fusion.models.predict --weights ... --post-hoc 0.5 --statistics statistics.json ...
  python -m fusion.models.predict --weights ... --window 512 --overlap 0.5 --out cache/val/a.zarr
  python -m fusion.models.predict --weights ... --flip --scales 1 1.25 --each-view \\
      --out cache/val/a       # cache/val/a/plain.zarr, flip.zarr, plain_x1.25.zarr, flip_x1.25.zarr
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    place, views = world(options.device), views_of(options)
    network, architecture = load_network(options.weights, module=options.module)
    clips = source_of(options).open(labelled=False, classes=architecture.classes)
    if clips.classes != architecture.classes:
        got = f"{options.classes} differs from the classes that {options.weights} was trained with"
        raise InputError(f"classes: {got}; leave it out")
    facts = facts_of(options.weights, architecture)
    if options.post_hoc:
        network = without_prior(network, architecture.classes, options.post_hoc, options.statistics)
        facts["post_hoc"] = options.post_hoc
    how = {"profile": options.profile, "batch": options.batch, "each": options.each_view}
    for store in fill_each(network, clips, options.out, place, facts, views=views, **how):
        print(f"{len(clips.videos)} videos in {store}")
    return 0


def build_parser() -> argparse.ArgumentParser:
    description = "Fill a logit store with a network's outputs."
    parser = cli.parser("fusion.models.predict", description, EPILOG)
    add, weights = parser.add_argument, "a file that fusion.models.train wrote"
    add("--weights", type=Path, required=True, help=weights)
    add_source(parser)
    place = "the store to fill; with --each-view the folder of stores"
    add("--out", type=Path, required=True, metavar="STORE", help=place)
    add_views(parser)
    profiles = ("compact", "exact")
    add("--profile", choices=profiles, default="compact", help="of the store (default compact)")
    add("--batch", type=int, default=4, help="frames at a time (default 4)")
    taken = (
        "take TAU times the log of --statistics' class frequencies out of the outputs (default 0)"
    )
    add("--post-hoc", type=float, default=0.0, metavar="TAU", help=taken)
    counted = "statistics.json of the training labels, as fusion.models.statistics writes it"
    add("--statistics", type=Path, metavar="FILE", help=counted)
    add("--module", help="of a network of one's own: imported, and so run, first")
    cli.add_device(parser)
    return parser


def without_prior(
    network: Network, classes: tuple[str, ...], tau: float, statistics: Path | None
) -> Network:
    """Logit adjustment after training (`adjustment.PostHoc`).

    InputError: tau is no finite number, no statistics, or those of other classes.
    """
    if not math.isfinite(tau):
        raise InputError(f"post-hoc: got {tau}; give a finite number, such as 0.5")
    if statistics is None:
        do = "give --statistics FILE, which python -m fusion.models.statistics writes"
        raise InputError(f"post-hoc: {tau:g} times which class frequencies? {do}")
    return PostHoc(network, read_statistics(statistics, classes).log_prior(), tau)


def facts_of(weights: Path, architecture: Architecture) -> dict[str, Any]:
    """What a store's provenance says of a weights file."""
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"weights_sha256": digest, "network": architecture.network, **architecture.options}


def fill_each(
    network: Network,
    clips: Clips,
    out: Path,
    place: World,
    facts: Mapping[str, Any],
    *,
    views: Views = ONE_VIEW,
    each: bool = False,
    **how: Any,
) -> list[Path]:
    """Fills `out`, or with `each` a store of every view in the folder of that name; the stores.

    how: as in `fill`.
    """
    stores = stores_of(out, views, each)
    for path, some in stores.items():
        model = f"{path.parent.name}_{path.stem}" if each else None
        fill(network, clips, path, place, facts, views=some, model=model, **how)
    return list(stores)


def fill(
    network: Network,
    clips: Clips,
    out: Path,
    place: World,
    facts: Mapping[str, Any],
    *,
    views: Views = ONE_VIEW,
    profile: Literal["compact", "exact"] = "compact",
    batch: int = 4,
    model: str | None = None,
) -> None:
    """Predicts the videos of `clips` that `out` lacks, `batch` frames at a time, for `place`.

    Args:
        facts: what the store's provenance says of the weights.
        model: the store's name for it, default its folder's.
    Raises:
        InputError: windows that the network does not take.
        StoreConflictError: the store was begun with other weights or views.
    """
    if batch < 1:
        raise InputError(f"batch: got {batch}; give the number of frames to predict at a time")
    provenance = {**facts, **views.facts()}
    kept: dict[str, Any] = {"values": views.values(network), "model": model}
    writer = LogitWriter(out, clips.classes, profile, provenance=provenance, **kept)
    if odd := difference(LogitStore(out).info.provenance, provenance):
        got = "other weights or views ({} is {!r} there, {!r} here)".format(*odd)
        raise StoreConflictError(f"{out}: was begun with {got}; write to another folder")
    network.eval().to(place.device)
    mine = clips.videos[place.rank :: place.size]
    for video in progress(mine, out.stem) if place.first else mine:
        frames = clips.frames(video)
        width, height = size = clips.image(video, frames[0]).size
        with writer.video(video, frames=frames, size=(height, width)) as draft:
            for start in range(0, 0 if draft.committed else len(frames), batch):
                images = _images(clips, video, frames[start : start + batch], size)
                for outputs in views.predict(network, images.to(place.device)):
                    draft.append(outputs)


def _images(clips: Clips, video: str, frames: list[str], size: tuple[int, int]) -> Tensor:
    """Standardised frames [N, 3, H, W]; InputError where one is not of the video's (W, H)."""
    images = [clips.image(video, frame) for frame in frames]
    if odd := [image.size for image in images if image.size != size]:
        got = "frames are {}x{} and {}x{} pixels".format(*size, *odd[0])
        raise InputError(f"video {video!r}: {got}; all frames of a video have one size")
    return torch.stack([standardised(image) for image in images])


if __name__ == "__main__":
    cli.command(main)
