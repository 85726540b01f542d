"""Swin + UPerNet, the paper's auxiliary family (section 2.1); needs the extra 'models'.

Xiao et al., "Unified Perceptual Parsing for Scene Understanding" (2018). The transformers library
interpolates its logits to the image; here they stay at a quarter of that, where stores keep them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from fusion.models.networks.auxiliary import all_heads, main_logits
from fusion.models.networks.swin import SIZES, backbone_config, library, published_backbone
from fusion.models.registry import Network, preset_of, register

# mmsegmentation's configs/_base_/models/upernet_swin.py, the same for all sizes of Swin
PUBLISHED = {"decoder": 512, "auxiliary": 256, "dropout": 0.1}


@register("swin-upernet")
class SwinUPerNet(Network):
    """Output: logits [N, C, H / 4, W / 4].

    preset: one of `swin.SIZES`. pretrained: the backbone's published weights. decoder: channels of
    the head, 0 for the size's. auxiliary: channels of a second head, on the third stage, that only
    training uses; 0 for none. dropout: of whole channels before each last layer. A new run has
    these as published (`PUBLISHED`; none of it in "micro"); a file that does not say them was
    written before there was a choice.
    """

    classifier = "model.decode_head.classifier"

    def __init__(
        self,
        classes: int,
        preset: str = "tiny",
        pretrained: bool = False,
        decoder: int = 0,
        auxiliary: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        transformers, size = library(), preset_of(SIZES, preset, "swin-upernet")
        config = transformers.UperNetConfig(
            backbone_config=backbone_config(size),
            hidden_size=decoder or size.decoder,
            num_labels=classes,
            use_auxiliary_head=bool(auxiliary),
            auxiliary_channels=auxiliary or 256,
            auxiliary_in_channels=None,  # as many as the stage has
        )
        self.model = transformers.UperNetForSemanticSegmentation(config)
        last = [self.model.decode_head.fpn_bottleneck]
        last += [self.model.auxiliary_head.convs[-1]] if auxiliary else []
        if dropout:
            for layer in last:  # has no tensors, so none changes its name
                layer.activation = nn.Sequential(layer.activation, nn.Dropout2d(dropout))
        if pretrained:
            self.model.backbone = published_backbone(size, preset)

    @classmethod
    def begun(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        published = PUBLISHED if options.get("preset") != "micro" else {}
        return {**options, **{key: published[key] for key in published.keys() - options.keys()}}

    def logits(self, images: Tensor) -> Tensor:
        return main_logits(self.model, images)

    def heads(self, images: Tensor) -> list[tuple[float, Tensor]]:
        return all_heads(self.model, images)
