"""Test-time augmentation (section 2.1): an image in several views, their predictions merged.

    view       the image at a scale, mirrored, turned by quarters; `View.undone` is the way back
    windows    a view read in windows that overlap, blended by Gaussians (`fusion.models.sliding`)
    merge      "probabilities": the mean; "logits": the mean of logits, whose softmax is the
               geometric mean of the probabilities, normalised

Windows are merged in the same space as views. N images, C classes, H W image pixels, h w store
pixels. An image is resized to the nearest multiple of the network's stride, never padded: the
output's grid then covers the image exactly, views fall on the same places, and a store's reader may
interpolate with half-pixel centres.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fusion.errors import InputError
from fusion.models.registry import Network
from fusion.models.section import NATURAL, Rule, Section, one_of, within
from fusion.models.sliding import blended, check_window
from fusion.text import listed

_bilinear = partial(functional.interpolate, mode="bilinear", align_corners=False)
MERGES = ("probabilities", "logits")
_SCALES = Rule(
    "numbers above 0, such as 0.75 1 1.25",
    lambda scales: len(scales) > 0 and all(0 < scale < math.inf for scale in scales),
)
_OVERLAP = Rule("a share of the window, 0 or more and below 1", lambda share: 0 <= share < 1)
# (quarter turns, mirrored) of the eight ways to lay down a rectangle; a mirror comes first
_NAMES = {
    (0, False): "plain", (0, True): "flip", (2, True): "vertical",
    (1, False): "rotate90", (2, False): "rotate180", (3, False): "rotate270",
    (1, True): "flip_rotate90", (3, True): "flip_rotate270",
}  # fmt: skip


@dataclass(frozen=True)
class View:
    """One way to look at an image: resized, mirrored left to right, turned counterclockwise."""

    scale: float = 1.0
    turns: int = 0
    mirrored: bool = False

    @property
    def name(self) -> str:
        """plain, flip, vertical, rotate90, ...; with the scale, unless that is 1: flip_x0.75."""
        name = _NAMES[self.turns, self.mirrored]
        return name if self.scale == 1 else f"{name}_x{str(self.scale).removesuffix('.0')}"

    def of(self, images: Tensor, stride: int) -> Tensor:
        """What the network is fed for images [N, 3, H, W]."""
        view = resized(images, network_size(images, self.scale, stride))
        view = view.flip(-1) if self.mirrored else view
        return view.rot90(self.turns, (-2, -1)) if self.turns else view

    def undone(self, maps: Tensor) -> Tensor:
        """Maps of the view [N, C, h, w] as they lie over the image, at the view's scale."""
        maps = maps.rot90(-self.turns, (-2, -1)) if self.turns else maps
        return maps.flip(-1) if self.mirrored else maps


@dataclass(frozen=True, kw_only=True)
class Views(Section):
    """An image's views: every combination of what is asked for, each once.

    flip, vertical: mirrored left to right, upside down, too. scales: times the image's size.
    rotate: turned by 90, 180 and 270 degrees, too. window: side in pixels of the windows that each
    view is read in, 0 for the whole view; overlap: share of it. merge: one of `MERGES`. only: name
    of the one view that is meant. InputError: a value breaks its rule.
    """

    flip: bool = False
    scales: tuple[float, ...] = within(_SCALES, (1.0,))
    vertical: bool = False
    rotate: bool = False
    window: int = within(NATURAL, 0)
    overlap: float = within(_OVERLAP, 0.5)
    merge: str = within(one_of(*MERGES), MERGES[0])
    only: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.views:
            known = listed(replace(self, only="").each())
            raise InputError(f"views: no {self.only!r} among {known}; give one of these")

    @cached_property
    def views(self) -> tuple[View, ...]:
        # upside down is mirrored and turned by half
        every = dict.fromkeys(
            View(scale, (turns + 2 * upside) % 4, upside != mirrored)
            for scale in self.scales
            for turns in range(4 if self.rotate else 1)
            for upside in ((False, True) if self.vertical else (False,))
            for mirrored in ((False, True) if self.flip else (False,))
        )
        return tuple(view for view in every if self.only in ("", view.name))

    def each(self) -> dict[str, Views]:
        """Every view by itself, by name."""
        return {view.name: replace(self, only=view.name) for view in self.views}

    @property
    def _raw(self) -> View | None:
        """The one view, whose outputs can be stored as they are, if there is nothing to merge."""
        one = len(self.views) == 1 and self.views[0].scale == 1 and not self.window
        return self.views[0] if one else None

    def values(self, network: Network) -> str:
        """What `predict` gives: the network's own outputs of one view at scale 1, else `merge`.

        InputError: windows are no multiple of the network's stride.
        """
        check_window(self.window, network.stride)
        return network.values if self._raw else self.merge

    def facts(self) -> dict[str, Any]:
        """What provenance says, the same of equal views; new words only where old ones lack."""
        views, scales = self.views, list(dict.fromkeys(view.scale for view in self.views))
        flip = any(view.mirrored for view in views)
        said: dict[str, Any] = {"flip": flip, "scales": scales}
        if {*views} != {*Views(flip=flip, scales=tuple(scales)).views}:
            said["views"] = sorted(view.name for view in views)
        if self.window:
            said |= {"window": self.window, "overlap": self.overlap}
        return said if self.merge == MERGES[0] or self._raw else said | {"merge": self.merge}

    @torch.no_grad()
    def predict(self, network: Network, images: Tensor) -> Tensor:
        """What is stored for standardised images [N, 3, H, W], as `values`: [N, C, h, w].

        h w are as of the whole image at scale 1.
        """
        if self._raw:
            return self._raw.undone(network.logits(self._raw.of(images, network.stride)))
        whole, total = network_size(images, 1.0, network.stride), torch.zeros(())
        for view in self.views:
            maps = view.undone(self._read(network, view.of(images, network.stride)))
            fed = network_size(images, view.scale, network.stride)
            # the outputs' own grid where the image is fed whole
            sides = zip(maps.shape[-2:], whole, fed, strict=True)
            grid = [cells * full // side for cells, full, side in sides]
            total = total.to(maps.device) + _bilinear(maps, grid)
        return total / len(self.views)

    def _read(self, network: Network, view: Tensor) -> Tensor:
        """Outputs of a view, or of its windows, in the space where they are merged."""

        def read(images: Tensor) -> Tensor:
            return merged_space(network.logits(images), network.values, self.merge)

        if not self.window:
            return read(view)
        return blended(read, view, self.window, self.overlap, network.stride)


ONE_VIEW = Views()


def network_size(images: Tensor, scale: float, stride: int) -> tuple[int, int]:
    """(H, W) that is fed for images [..., H, W]: nearest multiples of `stride`, at least one."""
    height, width = (max(1, round(side * scale / stride)) * stride for side in images.shape[-2:])
    return height, width


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """[N, K, H, W] to another (H, W), bilinear; smoothed first where it shrinks."""
    return images if tuple(images.shape[-2:]) == size else _bilinear(images, size, antialias=True)


def to_probabilities(outputs: Tensor, values: str) -> Tensor:
    """[N, C, h, w] of a network to float32 class probabilities that add up to 1 at each pixel."""
    outputs = outputs.float()
    return outputs.softmax(1) if values == "logits" else outputs / outputs.sum(1, keepdim=True)


def merged_space(outputs: Tensor, values: str, merge: str) -> Tensor:
    """[N, C, h, w] of a network as float32 probabilities, or as logits, which are finite."""
    if merge == "probabilities":
        return to_probabilities(outputs, values)
    if values == "logits":
        return outputs.float()
    return to_probabilities(outputs, values).clamp_min(torch.finfo(torch.float32).tiny).log()


def add_views(parser: argparse.ArgumentParser) -> None:
    """The options that `views_of` reads, and --each-view."""
    add = parser.add_argument_group("views of each image (default the image itself)").add_argument
    add("--flip", action="store_true", help="also mirrored left to right")
    add("--vertical", action="store_true", help="also mirrored upside down")
    add("--rotate", action="store_true", help="also turned by 90, 180 and 270 degrees")
    add("--scales", type=float, nargs="+", default=[1.0], help="sizes to predict at (default 1)")
    windows = "read views in windows of N x N pixels, blended by Gaussians (default whole)"
    add("--window", type=int, default=0, metavar="N", help=windows)
    add("--overlap", type=float, default=0.5, help="of windows, a share of N (default 0.5)")
    spaces = "mean of probabilities (default), or of logits: their geometric mean"
    add("--merge", choices=MERGES, default=MERGES[0], help=spaces)
    apart = "a store for each view, STORE being the folder of all: for a search to weigh them"
    add("--each-view", action="store_true", help=apart)


def views_of(options: argparse.Namespace) -> Views:
    names = ("flip", "vertical", "rotate", "window", "overlap", "merge")
    said = {name: getattr(options, name) for name in names}
    return Views(scales=tuple(options.scales), **said)


def stores_of(out: Path, views: Views, each: bool) -> dict[Path, Views]:
    """Each store to fill and its views: `out`, or <view>.zarr in the folder of that name."""
    if not each:
        return {out: views}
    folder = out.with_suffix("") if out.suffix == ".zarr" else out
    return {folder / f"{name}.zarr": view for name, view in views.each().items()}
