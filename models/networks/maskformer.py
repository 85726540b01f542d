"""MaskFormer on Swin, the paper's basic family (section 2.1); needs the extra 'models'.

Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation" (2021), from
the transformers library; scores and loss are `queries`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from fusion.errors import InputError
from fusion.models.networks import swin
from fusion.models.networks.queries import MaskClassification
from fusion.models.registry import preset_of, register


@register("maskformer")
class MaskFormer(MaskClassification):
    """preset: one of `swin.SIZES`. pretrained: the backbone's published weights.

    Output: scores [N, C, H / 4, W / 4], above 0.
    """

    def __init__(self, classes: int, preset: str = "tiny", pretrained: bool = False) -> None:
        super().__init__()
        transformers, size = swin.library(), preset_of(swin.SIZES, preset, "maskformer")
        channels, micro = min(size.decoder, 256), preset == "micro"  # else as published
        config = transformers.MaskFormerConfig(
            # set again below: the library makes any Swin here one of four stages
            backbone_config=swin.backbone_config(size),
            decoder_config=transformers.DetrConfig(
                d_model=channels,
                encoder_layers=0,
                decoder_layers=2 if micro else 6,
                decoder_ffn_dim=2 * channels if micro else 2048,
                decoder_attention_heads=2 if micro else 8,
                num_queries=20 if micro else 100,
                dropout=0.0 if micro else 0.1,
            ),
            fpn_feature_size=channels,
            mask_feature_size=channels,
            num_labels=classes,
            use_auxiliary_loss=True,  # every decoder layer is trained, as published, which
            output_hidden_states=True,  # the library cannot do, nor predict, without these
        )
        config.backbone_config = swin.maskformer_backbone_config(size)
        self.model = transformers.MaskFormerForInstanceSegmentation(config)
        self.model.model.register_forward_hook(_supervised_as_published)
        self._start_queries_apart()
        if pretrained:
            self.start_from(swin.published_backbone(size, preset).state_dict())

    def _start_queries_apart(self) -> None:
        """The published initialisation of the transformer; the library's deviation is 0.02.

        There all queries start as one, and training takes thousands of steps to tell them apart.
        """
        module = self.model.model.transformer_module
        for weight in (*module.decoder.parameters(), *self.model.mask_embedder.parameters()):
            if weight.ndim > 1:
                nn.init.xavier_uniform_(weight)
        nn.init.normal_(module.queries_embedder.weight)

    def start_from(self, backbone: Mapping[str, Tensor]) -> None:
        """Takes the weights of a Swin backbone's state."""
        encoder = self.model.model.pixel_level_module.encoder
        found = encoder.load_state_dict(swin.renamed_for_maskformer(backbone), strict=False)
        # indices follow from the window; the last norm's output is not used here
        known = ("relative_position_index", "model.layernorm")
        odd = [name for name in found.missing_keys if not any(part in name for part in known)]
        if odd := odd + found.unexpected_keys:
            got = f"backbone tensor {odd[0]!r} has no counterpart"
            raise InputError(f"pretrained: {got}; use the tested transformers (constraints.txt)")


def _supervised_as_published(model: nn.Module, _: tuple[Tensor, ...], found: Any) -> Any:
    """The queries that deep supervision learns from, as the authors' TransformerDecoder returns
    them (mask_former/modeling/transformer/transformer.py): after each layer, each normalised.

    The library's begin with the zeros before the first layer, one term more than layers, and only
    the last of them are normalised.
    """
    if (states := found.transformer_decoder_hidden_states) is not None:
        norm: nn.Module = model.transformer_module.decoder.layernorm  # type: ignore
        found["transformer_decoder_hidden_states"] = (*map(norm, states[1:-1]), states[-1])
    return found
