"""Swin + UPerNet, the paper's auxiliary family (section 2.1); needs the extra 'models'.

Xiao et al., "Unified Perceptual Parsing for Scene Understanding" (2018). The transformers library
interpolates its logits to the image; here they stay at a quarter of that, where stores keep them.
"""

from __future__ import annotations

from torch import Tensor

from fusion.models.networks.swin import SIZES, backbone_config, library, published_backbone
from fusion.models.registry import Network, preset_of, register


@register("swin-upernet")
class SwinUPerNet(Network):
    """preset: one of `swin.SIZES`. pretrained: the backbone's published weights.

    Output: logits [N, C, H / 4, W / 4].
    """

    classifier = "model.decode_head.classifier"

    def __init__(self, classes: int, preset: str = "tiny", pretrained: bool = False) -> None:
        super().__init__()
        transformers, size = library(), preset_of(SIZES, preset, "swin-upernet")
        head = {"hidden_size": size.decoder, "num_labels": classes, "use_auxiliary_head": False}
        config = transformers.UperNetConfig(backbone_config=backbone_config(size), **head)
        self.model = transformers.UperNetForSemanticSegmentation(config)
        if pretrained:
            self.model.backbone = published_backbone(size, preset)

    def logits(self, images: Tensor) -> Tensor:
        return self.model.decode_head(self.model.backbone(images).feature_maps)
