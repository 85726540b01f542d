"""Mask2Former on Swin; needs the extra 'models'.

Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation" (2022), from the
transformers library. Settings are those of the authors' configs/ade20k/semantic-segmentation/swin,
which the library has as its defaults; scores are `queries`.
"""

from __future__ import annotations

from typing import Any

from fusion.models.networks import swin
from fusion.models.networks.queries import MaskClassification
from fusion.models.registry import preset_of, register

MICRO: dict[str, Any] = {
    "feature_size": 32,
    "mask_feature_size": 32,
    "hidden_dim": 32,
    "encoder_layers": 1,
    "encoder_feedforward_dim": 64,
    "decoder_layers": 3,  # two, and the loss on the queries before them
    "dim_feedforward": 64,
    "num_attention_heads": 2,
    "num_queries": 20,
    "train_num_points": 256,
}


@register("mask2former")
class Mask2Former(MaskClassification):
    """preset: one of `swin.SIZES`. pretrained: the backbone's published weights.

    Output: scores [N, C, H / 4, W / 4], above 0.
    """

    def __init__(self, classes: int, preset: str = "tiny", pretrained: bool = False) -> None:
        super().__init__()
        transformers, size = swin.library(), preset_of(swin.SIZES, preset, "mask2former")
        config = transformers.Mask2FormerConfig(
            backbone_config=swin.backbone_config(size),
            num_labels=classes,
            **(MICRO if preset == "micro" else {}),
        )
        self.model = transformers.Mask2FormerForUniversalSegmentation(config)
        if pretrained:
            backbone = swin.published_backbone(size, preset)
            self.model.model.pixel_level_module.encoder = backbone
