"""A store as the teacher of a network: its probabilities in the views that training sees.

Any logit store will do, a fused one above all (`fusion.predict --format store`). Its maps are cut
and mirrored with the image, at a quarter of the crop's side, which is where most networks answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from fusion.errors import InputError
from fusion.models.data.augment import Window
from fusion.stores import LogitStore
from fusion.stores.format import METADATA
from fusion.text import listed

STRIDE = 4  # pixels of a crop in one of the teacher's


def is_store(path: str) -> bool:
    """Whether a teacher is a store's folder, and no weights file."""
    return bool(path) and (Path(path).is_dir() or (Path(path) / METADATA).exists())


class StoreTeacher:
    """Probabilities of a store's frames.

    Args:
        path: the store.
        classes: of the student, in label order.
        pairs: (video, frame) that will be asked for.

    Raises:
        StoreError: no store.
        InputError: other classes, channels or scores, a frame that it lacks.
    """

    def __init__(
        self, path: str | Path, classes: Sequence[str], pairs: Sequence[tuple[str, str]]
    ) -> None:
        self.store, self.where = LogitStore(path), f"loss: teacher {path}"
        store = self.store
        if store.classes != tuple(classes):
            got = f"has classes {listed(store.classes)}, the student {listed(classes)}"
            raise InputError(f"{self.where} {got}; give a store of these, in this order")
        if store.channels or store.kernel_values != "logits":
            got = f"holds {store.values}, which are no distribution over classes"
            raise InputError(f"{self.where} {got}; give one of logits or probabilities")
        lacking = sorted({v for v, _ in pairs} - set(store.videos))
        if lacking:
            got = f"lacks {len(lacking)} videos of the training data, the first {lacking[0]!r}"
            raise InputError(f"{self.where} {got}; predict them too")
        known = {video: set(store.frames(video)) for video in {v for v, _ in pairs}}
        odd = next((pair for pair in pairs if pair[1] not in known[pair[0]]), None)
        if odd is not None:
            got = f"video {odd[0]!r} has no frame {odd[1]!r}"
            raise InputError(f"{self.where}: {got}; predict it too")

    def view(self, video: str, frame: str, size: tuple[int, int], window: Window) -> Tensor:
        """A frame's probabilities in a window of its image.

        Args:
            video: its id.
            frame: its id.
            size: (H, W) of the image.
            window: what of it, and how, is seen.

        Returns:
            float32 [C, c / 4, c / 4]; zeros beyond the border of the image.

        Raises:
            InputError: the store's frame is of an image of another size.
        """
        own = self.store.describe(video).size
        if own != size:
            got = f"video {video!r} is of {own[0]}x{own[1]} images, here {size[0]}x{size[1]}"
            raise InputError(f"{self.where}: {got}; give a store of these images")
        logits = torch.from_numpy(self.store.read(video, [frame]))
        return window.of(functional.softmax(logits, dim=1), STRIDE)[0]
