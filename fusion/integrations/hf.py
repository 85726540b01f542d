"""Hugging Face: a transformers model for semantic segmentation over a data set, into a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fusion.errors import InputError
from fusion.integrations.batches import Batches
from fusion.integrations.inference import fill
from fusion.integrations.pictures import Key, Pictures
from fusion.integrations.units import Units
from fusion.stores import LogitStore

QUERIES = ("maskformer", "mask2former", "oneformer", "eomt")  # models of classes and masks


def cache(
    model: Any,
    dataset: Any,
    path: str | Path,
    *,
    processor: Any = None,
    unit: Key | None = None,
    frame: Key | None = None,
    image: str = "image",
    classes: Sequence[str] | None = None,
    values: str | None = None,
    batch_size: int = 4,
    device: str | None = None,
    amp: bool | torch.dtype = False,
    **store: Any,
) -> LogitStore:
    """Predicts what a store lacks, at the model's own resolution. Run it again to go on.

    Args:
        model: of transformers: one with `.logits` [N, C, h, w], or of queries (MaskFormer,
            Mask2Former, ...), whose classes and masks become scores per class.
        dataset: a `datasets.Dataset`, or any sequence of dicts.
        path: the store.
        processor: the model's image processor; None: items hold "pixel_values" [3, H, W].
        unit: key or function of an item: id of its video or image; default: 00000, 00001, ...
        frame: the same for frame ids of clips, which stand together; default: an image a unit.
        image: key of the picture, whose size the labels have.
        classes: C names; default: `model.config.id2label`.
        values: default "logits", of queries "probabilities" (normalised per pixel); "scores" keeps
            their sums as they are and needs profile="exact".
        batch_size: images at a time; only equal sizes go together, so that none is padded.
        device: "auto", "cpu", "cuda", ...; default: where the model is.
        amp: autocast, in the device's own type or the one given.
        store: more of `LogitWriter`: profile, model, provenance.

    Returns:
        The store.

    Raises:
        InputError: a picture, key or output that cannot be used; names the unit.
    """
    config = model.config
    if classes is None:
        classes = [config.id2label[index] for index in sorted(config.id2label)]
    values = values or ("probabilities" if config.model_type in QUERIES else "logits")
    with Units(path, classes, pack=True, values=values, **store) as units:
        pictures = Pictures(dataset, processor, unit, frame, image, batch_size, units)
        keys = Batches("unit", frame and "frame", "size", "pixel_values", _PerClass(values))
        fill(model, pictures, units, keys, device=device, amp=amp)
    return LogitStore(path)


@dataclass(frozen=True)
class _PerClass:
    """[N, C, h, w] of a model's output."""

    values: str

    def __call__(self, output: Any) -> Tensor:
        if not hasattr(output, "class_queries_logits"):
            return getattr(output, "logits", output)
        if self.values not in ("probabilities", "scores"):
            problem = f"values: got {self.values!r}, but this model scores classes by its queries"
            raise InputError(f"{problem}; give values='probabilities' (or 'scores')")
        # the last class is "no object"
        classes = output.class_queries_logits.float().softmax(dim=-1)[..., :-1]
        masks = functional.logsigmoid(output.masks_queries_logits.float())
        if self.values == "probabilities":
            # a factor per pixel cancels when they are normalised, and keeps them from vanishing
            masks = masks - masks.amax(dim=1, keepdim=True)
        return torch.einsum("nqc,nqhw->nchw", classes, masks.exp())
