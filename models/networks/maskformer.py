"""MaskFormer with a Swin backbone, the paper's basic family (section 2.1); needs the extra 'models'.

Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation" (2021), from the transformers library. Each of
Q queries has class probabilities p_q [C] and a mask probability m_q per pixel; a pixel's score of class c is sum_q p_q(c) m_q. These
scores are not logits and do not add up to 1: `values` says "probabilities", and whoever fuses normalises them per pixel. Training is
by MaskFormer's own loss, a matching of queries to the image's classes (Hungarian algorithm).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.errors import InputError
from fusion.models.networks.swin import (
    SIZES,
    Size,
    backbone_config,
    library,
    maskformer_backbone_config,
    published_backbone,
    renamed_for_maskformer,
)
from fusion.models.registry import Criterion, Network, preset_of, register

QUERIES = {"micro": 20}  # 100 elsewhere, as published


@register("maskformer")
class MaskFormer(Network):
    """preset: one of `swin.SIZES`. pretrained: the backbone's published weights. Output: scores [N, C, H / 4, W / 4], above 0."""

    values = "probabilities"
    classifier = "model.class_predictor"

    def __init__(self, classes: int, preset: str = "tiny", pretrained: bool = False) -> None:
        super().__init__()
        transformers, size = library(), preset_of(SIZES, preset, "maskformer")
        channels = min(size.decoder, 256)
        config = transformers.MaskFormerConfig(
            backbone_config=backbone_config(
                size
            ),  # set again below: the library makes any Swin here one of four stages
            decoder_config=_decoder(transformers, size, channels, QUERIES.get(preset, 100)),
            fpn_feature_size=channels,
            mask_feature_size=channels,
            num_labels=classes,
            use_auxiliary_loss=preset
            != "micro",  # every decoder layer is trained, as published; too dear for what micro is for
        )
        config.backbone_config = maskformer_backbone_config(size)
        self.model = transformers.MaskFormerForInstanceSegmentation(config)
        self._start_queries_apart()
        if pretrained:
            self.start_from(published_backbone(size, preset).state_dict())

    def _start_queries_apart(self) -> None:
        """The published initialisation of the transformer; the library's (deviation 0.02, meant for trained weights to replace it)
        makes all queries start as one, and training spends thousands of steps on telling them apart."""
        module = self.model.model.transformer_module
        for weight in (*module.decoder.parameters(), *self.model.mask_embedder.parameters()):
            if weight.ndim > 1:
                nn.init.xavier_uniform_(weight)
        nn.init.normal_(module.queries_embedder.weight)

    def start_from(self, backbone: Mapping[str, Tensor]) -> None:
        """Takes the weights of a Swin backbone's state."""
        encoder = self.model.model.pixel_level_module.encoder
        found = encoder.load_state_dict(renamed_for_maskformer(backbone), strict=False)
        # what may be missing: indices that follow from the window, and a last norm whose output segmentation does not use
        lacking = [
            name
            for name in found.missing_keys
            if not name.endswith("relative_position_index") and "model.layernorm" not in name
        ]
        if lacking or found.unexpected_keys:
            name = [*lacking, *found.unexpected_keys][0]
            raise InputError(
                f"pretrained: backbone tensor {name!r} has no counterpart; use the tested transformers (constraints.txt)"
            )

    def logits(self, images: Tensor) -> Tensor:
        found = self.model(images, output_hidden_states=True)
        classes = found.class_queries_logits.float().softmax(dim=-1)[
            ..., :-1
        ]  # the last is "no object"
        masks = functional.logsigmoid(found.masks_queries_logits.float())
        # a factor per pixel cancels when the scores are normalised, and keeps them from vanishing where no query claims the pixel
        masks = (masks - masks.amax(dim=1, keepdim=True)).exp()
        return torch.einsum("nqc,nqhw->nchw", classes, masks)

    def loss(self, images: Tensor, targets: Tensor, criterion: Criterion) -> Tensor:
        """The matching loss; `criterion` is for per-pixel networks. Images without a labelled pixel do not count."""
        classes = [
            torch.unique(target[target < self.model.config.num_labels]) for target in targets
        ]
        kept = [n for n, present in enumerate(classes) if len(present)]
        if not kept:
            return torch.stack([parameter.sum() for parameter in self.parameters()]).sum() * 0.0
        masks = [(targets[n] == classes[n][:, None, None]).float() for n in kept]
        labels = [classes[n] for n in kept]
        return self.model(
            images[kept], mask_labels=masks, class_labels=labels, output_hidden_states=True
        ).loss.squeeze()


def _decoder(transformers: object, size: Size, channels: int, queries: int) -> object:
    micro = size.width < 96
    return transformers.DetrConfig(  # type: ignore[attr-defined]
        d_model=channels,
        encoder_layers=0,
        decoder_layers=2 if micro else 6,
        decoder_ffn_dim=2 * channels if micro else 2048,
        decoder_attention_heads=2 if micro else 8,
        num_queries=queries,
    )
