"""python -m fusion.models.predict: weights and a split -> a logit store, video by video.

Run it again to go on. Stores what the network returns at its own resolution ("logits", or
MaskFormer's "probabilities"); with test-time augmentation the mean of the class probabilities of
all views. Under ``torchrun`` every process takes its share of the videos.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from fusion import cli
from fusion.errors import InputError, StoreConflictError, StoreError
from fusion.models.data.clips import Clips, standardised
from fusion.models.data.source import add_source, source_of
from fusion.models.registry import Network
from fusion.models.training.checkpoint import load_network
from fusion.models.training.distributed import World, world
from fusion.models.tta import ONE_VIEW, Views
from fusion.progress import progress
from fusion.stores import LogitStore, LogitWriter

EPILOG = """examples:
  python -m fusion.models.predict --weights runs/a/baseline.safetensors \\
      --vspw VSPW_480p --split val --out cache/val/a.zarr
  torchrun --nproc-per-node 8 -m fusion.models.predict --weights ... \\
      --flip --scales 0.75 1 1.25 --out cache/val/a.zarr
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    place = world(options.device)
    views = Views(flip=options.flip, scales=tuple(options.scales))
    network, architecture = load_network(options.weights, module=options.module)
    clips = source_of(options).open(labelled=False, classes=architecture.classes)
    if clips.classes != architecture.classes:
        got = f"{options.classes} differs from the classes that {options.weights} was trained with"
        raise InputError(f"classes: {got}; leave it out")
    facts = {"weights_sha256": _sha256(options.weights), "network": architecture.network}
    facts |= architecture.options
    store = {"profile": options.profile, "batch": options.batch}
    fill(network, clips, options.out, place, facts, views=views, **store)
    print(f"{len(clips.videos)} videos in {options.out}")
    return 0


def build_parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "fusion.models.predict", "Fill a logit store with a network's outputs.", EPILOG
    )
    add, weights = parser.add_argument, "a file that fusion.models.train wrote"
    add("--weights", type=Path, required=True, help=weights)
    add_source(parser)
    add("--out", type=Path, required=True, metavar="STORE", help="the store to fill")
    add("--flip", action="store_true", help="also predict the mirrored image")
    sizes = "sizes to predict at (default 1)"
    add("--scales", type=float, nargs="+", default=[1.0], help=sizes)
    profiles = ("compact", "exact")
    add("--profile", choices=profiles, default="compact", help="of the store (default compact)")
    add("--batch", type=int, default=4, help="frames at a time (default 4)")
    add("--module", help="of a network of one's own, imported first")
    cli.add_device(parser)
    return parser


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
) -> None:
    """Predicts the videos of `clips` that `out` lacks, this process its share of them.

    Args:
        facts: what the store's provenance says of the weights.
        batch: frames at a time.
    Raises:
        StoreConflictError: the store was begun with other weights or views.
    """
    if batch < 1:
        raise InputError(f"batch: got {batch}; give the number of frames to predict at a time")
    provenance = {**facts, "flip": views.flip, "scales": list(views.scales)}
    values = network.values if views.single else "probabilities"
    writer = LogitWriter(out, clips.classes, profile, values=values, provenance=provenance)  # type: ignore[arg-type]
    _check_same(out, provenance)
    network.eval().to(place.device)

    def predict(images: Tensor) -> Tensor:
        return views.predict(network, images.to(place.device))

    mine = clips.videos[place.rank :: place.size]
    for video in progress(mine, out.stem) if place.first else mine:
        _fill_video(writer, clips, video, predict, batch)


def _check_same(out: Path, provenance: Mapping[str, Any]) -> None:
    there = LogitStore(out).info.provenance
    for key in sorted(there.keys() | provenance.keys()):
        if there.get(key) != provenance.get(key):
            got = f"{key} is {there.get(key)!r} there, {provenance.get(key)!r} here"
            got = f"was begun with other weights or views ({got})"
            raise StoreConflictError(f"{out}: {got}; write to another folder")


def _fill_video(
    writer: LogitWriter, clips: Clips, video: str, predict: Callable[[Tensor], Tensor], batch: int
) -> None:
    frames = clips.frames(video)
    width, height = size = clips.image(video, frames[0]).size
    with writer.video(video, frames=frames, size=(height, width)) as out:
        for start in range(0, 0 if out.committed else len(frames), batch):
            images = [clips.image(video, frame) for frame in frames[start : start + batch]]
            for image in images:
                if image.size != size:
                    sizes = f"{width}x{height} and {image.width}x{image.height} pixels"
                    advice = "all frames of a video have one size"
                    raise InputError(f"video {video!r}: frames are {sizes}; {advice}")
            for outputs in predict(torch.stack([standardised(image) for image in images])):
                out.append(outputs)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"weights: {path} cannot be read ({error.strerror})") from error


if __name__ == "__main__":
    sys.exit(cli.run(main))
