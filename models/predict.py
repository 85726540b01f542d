"""python -m fusion.models.predict: weights and a split -> a logit store, video by video; run it again to go on.

Stores what the network returns at its own resolution ("logits", or MaskFormer's "probabilities"); with test-time augmentation the
mean of the class probabilities of all views. Under ``torchrun`` every process takes a share of the videos.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fusion import cli
from fusion.errors import InputError, StoreConflictError, StoreError
from fusion.models.data.clips import Clips, standardised
from fusion.models.data.source import add_source, open_source
from fusion.models.registry import Network
from fusion.models.training.checkpoint import load_network
from fusion.models.training.distributed import World, world
from fusion.models.tta import check_scales, is_plain, predict
from fusion.progress import progress
from fusion.stores import LogitStore, LogitWriter

EPILOG = """examples:
  python -m fusion.models.predict --weights runs/a/baseline.safetensors --vspw VSPW_480p --split val --out cache/val/a.zarr
  torchrun --nproc-per-node 8 -m fusion.models.predict --weights ... --flip --scales 0.75 1 1.25 --out cache/val/a.zarr
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    place = world(options.device)
    network, architecture = load_network(options.weights, module=options.module)
    clips = open_source(options, labelled=False, classes=architecture.classes)
    if clips.classes != architecture.classes:
        raise InputError(
            f"classes: {options.classes} differs from the classes that {options.weights} was trained with; leave it out"
        )
    facts = {
        "weights_sha256": _sha256(options.weights),
        "network": architecture.network,
        **architecture.options,
    }
    fill(
        network,
        clips,
        options.out,
        place,
        facts,
        flip=options.flip,
        scales=options.scales,
        profile=options.profile,
        batch=options.batch,
    )
    print(f"{len(clips.videos)} videos in {options.out}")
    return 0


def build_parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "fusion.models.predict", "Fill a logit store with a network's outputs.", EPILOG
    )
    parser.add_argument(
        "--weights", type=Path, required=True, help="a file that fusion.models.train wrote"
    )
    add_source(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="STORE", help="the store to fill"
    )
    parser.add_argument("--flip", action="store_true", help="also predict the mirrored image")
    parser.add_argument(
        "--scales", type=float, nargs="+", default=[1.0], help="sizes to predict at (default 1)"
    )
    parser.add_argument(
        "--profile",
        choices=("compact", "exact"),
        default="compact",
        help="of the store (default compact)",
    )
    parser.add_argument("--batch", type=int, default=4, help="frames at a time (default 4)")
    parser.add_argument("--module", help="of a network of one's own, imported first")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    return parser


def fill(
    network: Network,
    clips: Clips,
    out: Path,
    place: World,
    facts: dict[str, Any],
    *,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
    profile: str = "compact",
    batch: int = 4,
) -> None:
    """Predicts the videos of `clips` that `out` lacks, this process its share of them.

    facts: what the store's provenance says of the weights. StoreConflictError: the store was begun with other weights or views.
    """
    if batch < 1:
        raise InputError(f"batch: got {batch}; give the number of frames to predict at a time")
    scales = check_scales(scales)
    provenance = {**facts, "flip": flip, "scales": list(scales)}
    values = network.values if is_plain(flip, scales) else "probabilities"
    writer = LogitWriter(out, clips.classes, profile, values=values, provenance=provenance)  # type: ignore[arg-type]
    there = LogitStore(out).info.provenance
    if there != provenance:
        key = next(
            key
            for key in sorted(there.keys() | provenance.keys())
            if there.get(key) != provenance.get(key)
        )
        got = f"{key} is {there.get(key)!r} there, {provenance.get(key)!r} here"
        raise StoreConflictError(
            f"{out}: was begun with other weights or views ({got}); write to another folder"
        )
    network.eval().to(place.device)
    mine = clips.videos[place.rank :: place.size]
    for video in progress(mine, out.stem) if place.first else mine:
        _predict_video(network, clips, writer, video, place.device, flip, scales, batch)


def _predict_video(
    network: Network,
    clips: Clips,
    writer: LogitWriter,
    video: str,
    device: torch.device,
    flip: bool,
    scales: Sequence[float],
    batch: int,
) -> None:
    frames = clips.frames(video)
    first = clips.image(video, frames[0])
    with writer.video(video, frames=frames, size=(first.height, first.width)) as out:
        for start in range(0, 0 if out.committed else len(frames), batch):
            images = [clips.image(video, frame) for frame in frames[start : start + batch]]
            odd = [image.size for image in images if image.size != first.size]
            if odd:
                sizes = f"{first.width}x{first.height} and {odd[0][0]}x{odd[0][1]}"
                raise InputError(
                    f"video {video!r}: frames are {sizes} pixels; all frames of a video have one size"
                )
            pixels = torch.stack([standardised(image) for image in images]).to(device)
            for outputs in predict(network, pixels, flip=flip, scales=scales):
                out.append(outputs)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"weights: {path} cannot be read ({error.strerror})") from error


if __name__ == "__main__":
    sys.exit(cli.run(main))
