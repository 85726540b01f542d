"""The random views of an image and its mask that training sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from torch import Tensor
from torch.nn.functional import pad

from fusion.models.data.clips import standardised
from fusion.models.section import Rule, Section, within

CROP = Rule("a crop that is a multiple of 32", lambda side: side >= 32 and side % 32 == 0)
RANGE = Rule("two numbers, 0 < scale[0] <= scale[1]", lambda ends: 0 < ends[0] <= ends[1])
FLIP = Rule("a probability in 0..1", lambda value: 0 <= value <= 1)
COLOUR = Rule("a number in 0..<1", lambda value: 0 <= value < 1)


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
        if draw.random() < self.flip:
            view, target = view.flip(-1), target.flip(-1)
        margin = (0, self.crop - view.shape[2], 0, self.crop - view.shape[1])
        return pad(view, margin), pad(target, margin, value=void)
