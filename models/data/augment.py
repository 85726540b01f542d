"""The random views of an image and its mask that training sees."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from fusion.cli import remark
from fusion.models.data.clips import scaled, standardised
from fusion.models.data.colour import distorted
from fusion.models.data.operations import Operation, applied, operations_of
from fusion.models.section import Rule, Section, within

MULTIPLE = "a crop that is a multiple of 32, or 0 for what the images allow"
CROP = Rule(MULTIPLE, lambda side: side >= 0 and side % 32 == 0)
RANGE = Rule("two numbers, 0 < scale[0] <= scale[1]", lambda ends: 0 < ends[0] <= ends[1])
FLIP = Rule("a probability in 0..1", lambda value: 0 <= value <= 1)
COLOUR = Rule("a number in 0..<1", lambda value: 0 <= value < 1)
SHARE = Rule("a share of pixels above 0, at most 1", lambda value: 0 < value <= 1)
LARGEST = 480  # of crops that the images decide
TRIES = 10  # crops drawn until one holds enough of a second class, as mmsegmentation's RandomCrop


class Window(NamedTuple):
    """What a view sees of an image.

    size: (height, width) that it was resized to. corner: (top, left) of what is seen of that.
    shown: its rows and columns, mirrored or not; the rest of the view's `side` is no image.
    """

    size: tuple[int, int]
    corner: tuple[int, int]
    shown: tuple[int, int]
    side: int
    mirrored: bool

    def of(self, maps: Tensor, stride: int) -> Tensor:
        """The same of maps that cover the image, at an s-th of the view's resolution.

        Args:
            maps: float32 [N, C, h, w].
            stride: s, pixels of the view in one of what is returned.

        Returns:
            [N, C, side / s, side / s], bilinear at the centres; zeros beyond the image.
        """
        at = (torch.arange(self.side // stride) + 0.5) * stride
        rows, columns = self.shown
        x = (self.corner[1] + (columns - at if self.mirrored else at)) / self.size[1]
        y = (self.corner[0] + at) / self.size[0]
        grid = torch.stack(torch.meshgrid(2 * y - 1, 2 * x - 1, indexing="ij")[::-1], dim=-1)
        grid = grid.expand(len(maps), -1, -1, -1)
        seen = grid_sample(maps, grid, padding_mode="border", align_corners=False)
        return seen * ((at <= rows)[:, None] & (at <= columns))


@dataclass(frozen=True)
class Augment(Section):
    """The random views that training sees; mmsegmentation's Swin configurations have cat_max_ratio
    0.75, photometric true, colour 0.

    crop: side c of a view in pixels; 0 for the images' shorter side, at most 480.

    scale: range of the factor that an image is resized by before it.

    flip: probability that a view is mirrored.

    colour: brightness, contrast, saturation are each times a number in 1 - colour .. 1 + colour.

    cat_max_ratio: a crop of which one class has this share or more is drawn again, ten times at
    most.

    photometric: mmsegmentation's PhotoMetricDistortion.

    operations: of kornia, by name: a section [augment.operations] with a table of keys for each.
    """

    crop: int = within(CROP, 0)
    scale: tuple[float, float] = within(RANGE, (0.5, 2.0))
    flip: float = within(FLIP, 0.5)
    colour: float = within(COLOUR, 0.4)
    cat_max_ratio: float = within(SHARE, 1.0, later=True)
    photometric: bool = within(Rule("true or false", lambda value: True), False, later=True)
    operations: dict[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def further(self) -> list[Operation]:
        """The operations, made once a process; InputError: none of these, or not installed."""
        return operations_of(self.operations, self.crop)

    def fitted(self, sizes: NDArray[np.int64], stride: int) -> Augment:
        """The same with a crop that fits images; a line on stderr says it, or that it does not.

        Args:
            sizes: (H, W) of images that stand for all, [n, 2].
            stride: the network's.
        """
        chosen = self
        height, width = (round(side) for side in np.median(sizes, axis=0))
        if not self.crop:
            unit = math.lcm(32, stride)
            side = min(LARGEST, int(np.median(sizes.min(axis=1))))
            chosen = replace(self, crop=max(unit, side // unit * unit))
            remark(f"augment: crop is {chosen.crop}, for images of {height}x{width}")
        if (unseen := chosen.padding(sizes)) > 0.5:
            got = f"crop is {self.crop} and images {height}x{width}"
            wasted = f"{unseen:.0%} of what is trained on lies beyond the image"
            remark(f"warning: augment: {got}, so that {wasted}; leave crop out to have it fit")
        _ = chosen.further  # made here, so that a run finds at its start what is wrong
        return chosen

    def padding(self, sizes: NDArray[np.int64]) -> float:
        """The mean share of a view that lies beyond images of these (H, W), [n, 2]."""
        factors = np.linspace(*self.scale, 65)[:, None, None]
        return float(1 - np.minimum(1, sizes * factors / self.crop).prod(axis=-1).mean())

    def __call__(
        self, image: Image.Image, mask: NDArray[np.integer], draw: np.random.Generator, void: int
    ) -> tuple[Tensor, Tensor]:
        """One view: float32 [3, c, c] and int64 [c, c]; mean colour and void beyond the border."""
        view, target, _ = self.seen(image, mask, draw, void)
        return view, target

    def seen(
        self, image: Image.Image, mask: NDArray[np.integer], draw: np.random.Generator, void: int
    ) -> tuple[Tensor, Tensor, Window]:
        """The same, and which window of the image it is."""
        factor = draw.uniform(*self.scale)
        width, height = (max(1, round(side * factor)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        labels = np.array(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
        left, top = self._corner(labels, draw, void)
        right, bottom = min(left + self.crop, width), min(top + self.crop, height)
        image = image.crop((left, top, right, bottom))
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = enhance(image).enhance(draw.uniform(1 - self.colour, 1 + self.colour))
        if self.photometric:
            image = Image.fromarray(distorted(np.asarray(image), draw))
        view = standardised(applied(self.further, scaled(image), draw))
        target = torch.from_numpy(labels[top:bottom, left:right].astype(np.int64))
        flipped = draw.random() < self.flip
        if flipped:
            view, target = view.flip(-1), target.flip(-1)
        margin = (0, self.crop - view.shape[2], 0, self.crop - view.shape[1])
        shown = bottom - top, right - left
        window = Window((height, width), (top, left), shown, self.crop, flipped)
        return pad(view, margin), pad(target, margin, value=void), window

    def _corner(
        self, labels: NDArray[np.integer], draw: np.random.Generator, void: int
    ) -> tuple[int, int]:
        """(left, top) of a crop of labels [H, W]."""
        room = [max(0, side - self.crop) for side in labels.shape[::-1]]
        left, top = (int(draw.integers(0, most + 1)) for most in room)
        for _ in range(TRIES if self.cat_max_ratio < 1 else 0):
            window = labels[top : top + self.crop, left : left + self.crop]
            counts = np.unique(window[window != void], return_counts=True)[1]
            if len(counts) > 1 and counts.max() / counts.sum() < self.cat_max_ratio:
                break
            left, top = (int(draw.integers(0, most + 1)) for most in room)
        return left, top
