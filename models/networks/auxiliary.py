"""Models of the transformers library that classify pixels, and their auxiliary heads.

UPerNet, BEiT, Data2Vec and DPT have one more head, on an earlier map, that only training uses. The
library's own loss is cross-entropy of the logits plus `config.auxiliary_loss_weight` (0.4) times
that of the head's, both interpolated to the labels; here a run's criterion takes its place.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor


def main_logits(model: Any, images: Tensor) -> Tensor:
    """[N, C, h, w] of the main head at its own resolution; the auxiliary head is not run."""
    if _interpolates(model):
        return model.decode_head(model.backbone(images).feature_maps)
    head = getattr(model, "auxiliary_head", None)
    if head is None:
        return model(images).logits
    model.auxiliary_head = None  # or the model would run it, and drop what it says
    try:
        return model(images).logits
    finally:
        model.auxiliary_head = head


def all_heads(model: Any, images: Tensor) -> list[tuple[float, Tensor]]:
    """Factors and logits [N, C, h, w] of the heads, as of `Network.heads`."""
    head = getattr(model, "auxiliary_head", None)
    if head is None:
        return [(1.0, main_logits(model, images))]
    if _interpolates(model):
        maps = model.backbone(images).feature_maps
        main, other = model.decode_head(maps), head(maps)
    else:
        heard: list[Tensor] = []
        hook = head.register_forward_hook(lambda _, given, said: heard.append(said))
        try:
            main = model(images).logits
        finally:
            hook.remove()
        (other,) = heard
    return [(1.0, main), (model.config.auxiliary_loss_weight, other)]


def _interpolates(model: Any) -> bool:
    """Whether a model interpolates its logits to the image, where stores keep them as they are."""
    return model.config.model_type == "upernet"
