"""How large the miniature is, from a test's seconds to a GPU's hours.

Most steps are a family's start, as most of the paper's are ImageNet-22k's: what members of few
steps from nothing gain by fusion is less than any one of them gains by more steps.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import scenes

SWIN, MASKFORMER = "swin-upernet", "maskformer"
PREFIX = {SWIN: "swin", MASKFORMER: "maskformer"}  # of the names of a family's members


@dataclass(frozen=True)
class Family:
    """How networks of one kind are trained; `start` steps are on other videos, shared by all."""

    start: int
    steps: int
    rate: float


@dataclass(frozen=True)
class Size:
    """One scale of the experiment; a MaskFormer learns slower from nothing.

    crops: small, large (480 and 640 in the paper). min_kept: OHEM's, of each image. longer: how
    many times a member's steps the single network of equal compute has. preset: of all networks.
    """

    scenes: scenes.Sizes
    crops: tuple[int, int]
    batch: int
    families: dict[str, Family]
    min_kept: int
    members: int = 11
    strong: int = 3
    auxiliary: int = 6
    cycles: int = 10
    swa_every: int = 100
    longer: int = 11
    workers: int = 0
    preset: str = "micro"


def _videos(*counts: int) -> dict[str, int]:
    return dict(zip(("pretrain", "train", "val", "test"), counts, strict=True))


SIZES = {
    "tiny": Size(
        scenes.Sizes((64, 96), _videos(3, 6, 3, 3), regions=5, frames=(2, 3)), (32, 64), 2,
        {SWIN: Family(1, 2, 1e-3), MASKFORMER: Family(1, 2, 1e-3)},
        min_kept=150, members=3, strong=1, auxiliary=2, cycles=2, swa_every=1, longer=2,
    ),
    "cpu": Size(
        scenes.Sizes((96, 128), _videos(240, 120, 30, 30), frames=(6, 12)), (64, 96), 8,
        {SWIN: Family(3000, 150, 4e-3), MASKFORMER: Family(7000, 300, 1e-3)},
        min_kept=190, swa_every=20,
    ),
    "gpu": Size(
        scenes.Sizes((240, 424), _videos(1200, 400, 100, 100), regions=30), (128, 192), 16,
        {SWIN: Family(40000, 1500, 6e-4), MASKFORMER: Family(80000, 3000, 1e-4)},
        min_kept=800, swa_every=150, workers=4, preset="tiny",
    ),
}  # fmt: skip
