"""The random views of an image and its mask that training sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from fusion.models.data.clips import standardised
from fusion.models.section import Rule, Section, within

CROP = Rule("a crop that is a multiple of 32", lambda side: side >= 32 and side % 32 == 0)
RANGE = Rule("two numbers, 0 < scale[0] <= scale[1]", lambda ends: 0 < ends[0] <= ends[1])
FLIP = Rule("a probability in 0..1", lambda value: 0 <= value <= 1)
COLOUR = Rule("a number in 0..<1", lambda value: 0 <= value < 1)


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
    """crop: side c in pixels. scale: range of the resize before it. flip: probability.

    colour: brightness, contrast, saturation are each times a number in 1 - colour .. 1 + colour.
    """

    crop: int = within(CROP, 480)
    scale: tuple[float, float] = within(RANGE, (0.5, 2.0))
    flip: float = within(FLIP, 0.5)
    colour: float = within(COLOUR, 0.4)

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
        room = (max(0, side - self.crop) for side in (width, height))
        left, top = (int(draw.integers(0, most + 1)) for most in room)
        right, bottom = min(left + self.crop, width), min(top + self.crop, height)
        image = image.crop((left, top, right, bottom))
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = enhance(image).enhance(draw.uniform(1 - self.colour, 1 + self.colour))
        view = standardised(image)
        target = torch.from_numpy(labels[top:bottom, left:right].astype(np.int64))
        flipped = draw.random() < self.flip
        if flipped:
            view, target = view.flip(-1), target.flip(-1)
        margin = (0, self.crop - view.shape[2], 0, self.crop - view.shape[1])
        shown = bottom - top, right - left
        window = Window((height, width), (top, left), shown, self.crop, flipped)
        return pad(view, margin), pad(target, margin, value=void), window
