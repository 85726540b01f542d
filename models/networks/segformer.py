"""SegFormer; needs the extra 'models'.

Xie et al., "SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers"
(2021), from the transformers library. Sizes are those of the paper's Table 6.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fusion.errors import InputError
from fusion.models.networks.huggingface import taken
from fusion.models.networks.swin import library
from fusion.models.registry import Network, preset_of, register


@dataclass(frozen=True)
class Size:
    """widths: channels of the four stages. blocks, heads: per stage. decoder: its channels."""

    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    decoder: int
    heads: tuple[int, ...] = (1, 2, 5, 8)


_WIDTHS = (64, 128, 320, 512)
SIZES = {
    "micro": Size((8, 16, 24, 32), (1, 1, 1, 1), 32, (1, 1, 2, 2)),
    "b0": Size((32, 64, 160, 256), (2, 2, 2, 2), 256),
    "b1": Size(_WIDTHS, (2, 2, 2, 2), 256),
    "b2": Size(_WIDTHS, (3, 4, 6, 3), 768),
    "b3": Size(_WIDTHS, (3, 4, 18, 3), 768),
    "b4": Size(_WIDTHS, (3, 8, 27, 3), 768),
    "b5": Size(_WIDTHS, (3, 6, 40, 3), 768),
}


@register("segformer")
class SegFormer(Network):
    """preset: one of `SIZES`. pretrained: the encoder's published weights (ImageNet-1k).

    Output: logits [N, C, H / 4, W / 4].
    """

    classifier = "model.decode_head.classifier"

    def __init__(self, classes: int, preset: str = "b0", pretrained: bool = False) -> None:
        super().__init__()
        transformers, size = library(), preset_of(SIZES, preset, "segformer")
        if pretrained and preset == "micro":
            got = "there are no published weights for preset 'micro'"
            raise InputError(f"pretrained: {got}; choose a larger preset or pretrained = false")
        settings = transformers.SegformerConfig(
            hidden_sizes=list(size.widths),
            depths=list(size.blocks),
            num_attention_heads=list(size.heads),
            decoder_hidden_size=size.decoder,
            num_labels=classes,
        )
        kind = transformers.SegformerForSemanticSegmentation
        self.model = taken(kind, f"nvidia/mit-{preset}", settings) if pretrained else kind(settings)

    def logits(self, images: Tensor) -> Tensor:
        return self.model(images).logits
