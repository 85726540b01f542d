"""Swin backbones (Liu et al. 2021) of the transformers library: sizes and published weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fusion.errors import InputError, StoreError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import SwinConfig


@dataclass(frozen=True)
class Size:
    """One size of a backbone and its head.

    width: channels of the first stage. blocks, heads: per stage. decoder: channels of the
    segmentation head where nothing else is said. published: end of the name of the weights on the
    Hugging Face hub, if any.
    """

    width: int
    blocks: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    decoder: int
    published: str = ""


# micro is for tests and the paper in miniature, three stages because images of 100 pixels have
# nothing to say at 1/32; large with ImageNet-22k weights is the paper's backbone
SIZES = {
    "micro": Size(16, (1, 1, 1), (1, 2, 4), 4, 64),
    "tiny": Size(96, (2, 2, 6, 2), (3, 6, 12, 24), 7, 256, "224"),
    "small": Size(96, (2, 2, 18, 2), (3, 6, 12, 24), 7, 256, "224"),
    "base": Size(128, (2, 2, 18, 2), (4, 8, 16, 32), 12, 512, "384-in22k"),
    "large": Size(192, (2, 2, 18, 2), (6, 12, 24, 48), 12, 512, "384-in22k"),
}


def library() -> Any:
    """The transformers module; InputError where the extra is not installed."""
    try:
        import scipy.optimize  # noqa: F401  # MaskFormer's matcher needs it, and says so late
        import transformers
    except ImportError as error:
        advice = "pip install 'segfusion[models]', or use 'plain'"
        raise InputError(f"this network needs the extra 'models' ({error}); {advice}") from error
    return transformers


def backbone_config(size: Size) -> SwinConfig:
    return library().SwinConfig(
        embed_dim=size.width,
        depths=list(size.blocks),
        num_heads=list(size.heads),
        window_size=size.window,
        drop_path_rate=0.1 if size.width < 96 else 0.3,
        out_features=[f"stage{k + 1}" for k in range(len(size.blocks))],
    )


def maskformer_backbone_config(size: Size) -> Any:
    """The same backbone for the library's MaskFormer, which has a Swin of its own."""
    config = backbone_config(size)
    options = {key: value for key, value in config.to_dict().items() if key != "model_type"}
    own = library().MaskFormerSwinConfig.from_dict(options)
    own.out_features = config.out_features
    return own


def published_backbone(size: Size, preset: str) -> Any:
    """A Swin with published weights. InputError: there are none. StoreError: not to be had."""
    if not size.published:
        got = f"there are no published weights for preset {preset!r}"
        raise InputError(f"pretrained: {got}; choose a larger preset or pretrained = false")
    name = f"microsoft/swin-{preset}-patch4-window{size.window}-{size.published}"
    try:
        return library().SwinBackbone.from_pretrained(name, config=backbone_config(size))
    except OSError as error:
        got = f"{name} cannot be loaded ({str(error).splitlines()[0]})"
        advice = "connect, or fill the local Hugging Face cache"
        raise StoreError(f"pretrained: {got}; {advice}") from error


# The library has two Swins, the second inside MaskFormer, with the same tensors under other names.
_NAMES = (
    (r"^swin\.", "model."),
    (r"attention\.q_proj", "attention.self.query"),
    (r"attention\.k_proj", "attention.self.key"),
    (r"attention\.v_proj", "attention.self.value"),
    (r"attention\.o_proj", "attention.output.dense"),
    (r"attention\.relative_position_bias\.", "attention.self."),
    (r"mlp\.fc1", "intermediate.dense"),
    (r"mlp\.fc2", "output.dense"),
    *((rf"^hidden_states_norms\.stage{k + 1}", f"hidden_states_norms.{k}") for k in range(4)),
)


def renamed_for_maskformer(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A Swin backbone's state under the names of MaskFormer's encoder."""
    renamed = {}
    for name, tensor in state.items():
        for pattern, other in _NAMES:
            name = re.sub(pattern, other, name)
        renamed[name] = tensor
    return renamed
