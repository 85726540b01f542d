"""Checkpoints as other people publish them, under the names of our networks' tensors.

    Swin            microsoft/Swin-Transformer: swin_*_patch4_window*.pth
    UPerNet         its Swin-Transformer-Semantic-Segmentation; open-mmlab/mmsegmentation
    MaskFormer      facebookresearch/MaskFormer
    Mask2Former     facebookresearch/Mask2Former

Names are those of the authors' code; transformers' conversion scripts, convert_swin_*,
convert_swin_upernet_to_pytorch, convert_maskformer_* and convert_mask2former_*, map the same ones
to that library's earlier names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

from fusion.errors import InputError
from fusion.models.networks.swin import renamed_for_maskformer

# "{}" in a name: rows of queries, keys and values in one tensor, which are three of ours
Names = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]

_SWIN: Names = (
    (r"^patch_embed\.proj(ection)?\.", "swin.embeddings.patch_embeddings.projection."),
    (r"^patch_embed\.norm\.", "swin.embeddings.norm."),
    (r"^(layers|stages)\.", "swin.encoder.layers."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.(w_msa\.)?relative", ".attention.relative_position_bias.relative"),
    (r"\.attn\.(w_msa\.)?qkv\.", ".attention.{}_proj."),
    (r"\.attn\.(w_msa\.)?proj\.", ".attention.o_proj."),
    (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
    (r"^norm\.", "swin.layernorm."),
    (r"^norm(\d)\.", lambda found: f"hidden_states_norms.stage{int(found[1]) + 1}."),
)
_UPERNET: Names = (
    (r"^", "model."),
    (r"\.conv_seg\.", ".classifier."),
    (r"\.bn\.", ".batch_norm."),
)
_PREDICTOR = r"^sem_seg_head\.predictor\."
_DECODER, _TRANSFORMER = (
    "model.model.pixel_level_module.decoder.",
    "model.model.transformer_module.",
)
_QUERIES: Names = (  # of both
    (r"^criterion\.", "model.criterion."),
    # the pixel decoder's name came with the second version of the authors' code
    (r"^sem_seg_head\.(?!predictor\.)(pixel_decoder\.)?", _DECODER),
    (rf"^{re.escape(_DECODER)}mask_features\.", f"{_DECODER}mask_projection."),
    (rf"{_PREDICTOR}class_embed\.", "model.class_predictor."),
    (rf"{_PREDICTOR}query_embed\.", f"{_TRANSFORMER}queries_embedder."),
    (r"\.in_proj_(weight|bias)$", r".{}_proj.\1"),
)
_MASKFORMER: Names = (
    *_QUERIES,
    (rf"{_PREDICTOR}mask_embed\.layers\.(\d)\.", r"model.mask_embedder.\1.0."),
    (rf"{_PREDICTOR}input_proj\.", f"{_TRANSFORMER}input_projection."),
    (rf"{_PREDICTOR}transformer\.decoder\.norm\.", f"{_TRANSFORMER}decoder.layernorm."),
    (rf"{_PREDICTOR}transformer\.decoder\.", f"{_TRANSFORMER}decoder."),
    (r"\.multihead_attn\.", ".encoder_attn."),
    (r"\.out_proj\.", ".o_proj."),
    (r"\.linear(\d)\.", r".mlp.fc\1."),
    (r"\.norm1\.", ".self_attn_layer_norm."),
    (r"\.norm2\.", ".encoder_attn_layer_norm."),
    (r"\.norm3\.", ".final_layer_norm."),
)
_LAYERS = f"{_TRANSFORMER}decoder.layers."
_MASK2FORMER: Names = (
    *_QUERIES,
    (r"\.multihead_attn\.{}_proj\.(\w+)$", r".multihead_attn.in_proj_\1"),  # one here too
    (r"\.((?:adapter|layer)_\d)\.norm\.", r".\1.1."),
    (r"\.((?:adapter|layer)_\d)\.weight$", r".\1.0.weight"),
    (r"\.input_proj\.", ".input_projections."),
    (rf"^{re.escape(_DECODER)}transformer\.", _DECODER),
    (r"(encoder\.layers\.\d+)\.linear(\d)\.", r"\1.fc\2."),
    (r"(encoder\.layers\.\d+)\.norm1\.", r"\1.self_attn_layer_norm."),
    (r"(encoder\.layers\.\d+)\.norm2\.", r"\1.final_layer_norm."),
    (rf"{_PREDICTOR}(?:static_query|query_feat)\.", f"{_TRANSFORMER}queries_features."),
    (rf"{_PREDICTOR}level_embed\.", f"{_TRANSFORMER}level_embed."),
    (rf"{_PREDICTOR}decoder_norm\.", f"{_TRANSFORMER}decoder.layernorm."),
    (
        rf"{_PREDICTOR}mask_embed\.layers\.(\d)\.",
        rf"{_TRANSFORMER}decoder.mask_predictor.mask_embedder.\1.0.",
    ),
    (
        rf"{_PREDICTOR}transformer_self_attention_layers\.(\d+)\.norm",
        rf"{_LAYERS}\1.self_attn_layer_norm",
    ),
    (
        rf"{_PREDICTOR}transformer_self_attention_layers\.(\d+)\.self_attn",
        rf"{_LAYERS}\1.self_attn",
    ),
    (
        rf"{_PREDICTOR}transformer_cross_attention_layers\.(\d+)\.norm",
        rf"{_LAYERS}\1.cross_attn_layer_norm",
    ),
    (
        rf"{_PREDICTOR}transformer_cross_attention_layers\.(\d+)\.multihead_attn",
        rf"{_LAYERS}\1.cross_attn",
    ),
    (rf"{_PREDICTOR}transformer_ffn_layers\.(\d+)\.norm", rf"{_LAYERS}\1.final_layer_norm"),
    (rf"{_PREDICTOR}transformer_ffn_layers\.(\d+)\.linear(\d)", rf"{_LAYERS}\1.fc\2"),
)
# follow from the window and the image
_DERIVED = re.compile(r"\.(relative_position_index|attn_mask|relative_coords_table)$")


@dataclass(frozen=True)
class Source:
    """Whose checkpoint it is. whole: it has the head's tensors, not the backbone's alone."""

    name: str
    heads: Names
    whole: bool = True


_SOURCES = (  # a tensor that only it has
    (
        r"^sem_seg_head\.predictor\.transformer_cross_attention_layers\.",
        Source("Mask2Former of its authors", _MASK2FORMER),
    ),
    (
        r"^sem_seg_head\.predictor\.transformer\.decoder\.",
        Source("MaskFormer of its authors", _MASKFORMER),
    ),
    (r"^decode_head\.psp_modules\..*\.bn\.", Source("UPerNet of MMSegmentation", _UPERNET)),
    (
        r"^(backbone\.)?(layers|stages)\.0\.blocks\.0\.attn\.",
        Source("Swin of its authors", (), False),
    ),
)


def recognised(names: Collection[str]) -> Source | None:
    """Whose checkpoint has tensors of these names; None where nobody's known here."""
    if not any(re.search(_SOURCES[-1][0], name) for name in names):
        return None  # not on a Swin
    for pattern, source in _SOURCES:
        if any(re.search(pattern, name) for name in names):
            return source
    return None


def renamed(
    tensors: Mapping[str, Tensor], source: Source, own: Collection[str]
) -> dict[str, dict[str, Tensor]]:
    """For each tensor of a checkpoint those of a network that it is.

    Args:
        tensors: of the checkpoint.
        source: what `recognised` says of them.
        own: names of the network's tensors.

    Returns:
        By the checkpoint's name: the network's name (which it may lack) and what belongs there.
        Tensors that follow from the window are left out.

    Raises:
        InputError: the network has no Swin.
    """
    place, of_maskformer = backbone(own)
    layers = [int(found[1]) for name in tensors if (found := re.search(r"\.layer_(\d)\.", name))]
    result = {}
    for name, tensor in tensors.items():
        if _DERIVED.search(name):
            continue
        if not source.whole or name.startswith("backbone."):
            inner = name.removeprefix("backbone.")
            if inner.startswith("stages.") and ".downsample." in inner:
                tensor = _as_authors_merge(tensor)
            parts = _split(_substituted(inner, _SWIN), tensor)
            parts = renamed_for_maskformer(parts) if of_maskformer else parts
            result[name] = {f"{place}{key}": part for key, part in parts.items()}
        else:
            key = _substituted(name, source.heads)
            if source.heads is _MASKFORMER:
                key = _of_pyramid(key, max(layers, default=0))
            result[name] = _split(key, tensor)
    return result


def _substituted(name: str, names: Names) -> str:
    for pattern, other in names:
        name = re.sub(pattern, other, name)
    return name


def _split(name: str, tensor: Tensor) -> dict[str, Tensor]:
    if "{}" not in name:
        return {name: tensor}
    return {name.format(k): part for k, part in zip("qkv", tensor.chunk(3), strict=True)}


def _of_pyramid(name: str, levels: int) -> str:
    """MaskFormer's pixel decoder: its authors count levels from the finest, the library from the
    coarsest, which it calls the stem."""

    def other(found: re.Match[str]) -> str:
        level = int(found[2])
        kind = {"adapter": "proj", "layer": "block"}[found[1]]
        where = "stem" if level == levels else f"layers.{levels - 1 - level}.{kind}"
        return f".fpn.{where}.{1 if found[3] else 0}."

    return re.sub(r"\.(adapter|layer)_(\d)\.(norm\.)?", other, name)


def _as_authors_merge(tensor: Tensor) -> Tensor:
    """MMSegmentation's merging of 2 x 2 patches unfolds them: each channel's four pixels row by
    row. The authors' has the pixels' channels one after the other, column by column."""
    four = tensor.unflatten(-1, (-1, 4))[..., [0, 2, 1, 3]]
    return four.transpose(-1, -2).flatten(-2)


def backbone(own: Collection[str]) -> tuple[str, bool]:
    """What comes before the names of a network's Swin, and whether it is MaskFormer's own."""
    first = "embeddings.patch_embeddings.projection.weight"
    for name in own:
        for mark, of_maskformer in (("swin.", False), ("encoder.model.", True)):
            if name.endswith(f"{mark}{first}"):
                place = name.removesuffix(first).removesuffix("swin.").removesuffix("model.")
                return place, of_maskformer
    raise InputError("network: start is a checkpoint on a Swin, which this network has none of")
