"""Mask classification: Q queries, each with class probabilities and a mask.

Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation" (2021). A
query q has class probabilities p_q [C] and a mask probability m_q per pixel; a pixel's score of
class c is sum_q p_q(c) m_q. These are not logits and do not add up to 1: `values` says
"probabilities". The loss matches queries to the image's classes (Hungarian algorithm).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fusion.models.registry import Criterion, Network


class MaskClassification(Network):
    """A model of the transformers library that gives class_queries_logits, masks_queries_logits."""

    values = "probabilities"
    classifier = "model.class_predictor"
    model: Any

    def found(self, images: Tensor, **labels: Any) -> Any:
        """What the model says of images [N, 3, H, W]; its loss too, where labels are given."""
        return self.model(images, **labels)

    def logits(self, images: Tensor) -> Tensor:
        found = self.found(images)
        # the last class is "no object"
        classes = found.class_queries_logits.float().softmax(dim=-1)[..., :-1]
        masks = functional.logsigmoid(found.masks_queries_logits.float())
        # a factor per pixel cancels when the scores are normalised, and keeps them from vanishing
        # where no query claims the pixel
        masks = (masks - masks.amax(dim=1, keepdim=True)).exp()
        return torch.einsum("nqc,nqhw->nchw", classes, masks)

    def loss(self, images: Tensor, targets: Tensor, criterion: Criterion) -> Tensor:
        """The matching loss, of images that have labels; `criterion` is for per-pixel networks."""
        count = self.model.config.num_labels
        classes = [torch.unique(target[target < count]) for target in targets]
        kept = [n for n, present in enumerate(classes) if len(present)]
        if not kept:
            return torch.stack([parameter.sum() for parameter in self.parameters()]).sum() * 0.0
        masks = [(targets[n] == classes[n][:, None, None]).float() for n in kept]
        truth = {"mask_labels": masks, "class_labels": [classes[n] for n in kept]}
        return self.found(images[kept], **truth).loss.squeeze()
