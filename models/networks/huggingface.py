"""Any segmentation model of the transformers library; needs the extra 'models'.

    [network]
    name = "huggingface"
    model = "nvidia/segformer-b0-finetuned-ade-512-512"    # or a folder that save_pretrained wrote
    # or, with random weights: config = {model_type = "segformer", depths = [2, 2, 2, 2]}

Models of AutoModelForSemanticSegmentation give logits [N, C, h, w] at their own resolution, and are
trained like every per-pixel network, auxiliary heads with the weight that the configuration gives
them (use_auxiliary_head = false: without). Models of queries and masks (Mask2Former, MaskFormer,
EoMT) are `queries.MaskClassification`. Weights are read from safetensors files alone, and no code
of a model's folder is run.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fusion.cli import remark
from fusion.errors import InputError, StoreError
from fusion.models.networks.auxiliary import all_heads, main_logits
from fusion.models.networks.queries import MaskClassification
from fusion.models.networks.swin import library
from fusion.models.registry import Network, register
from fusion.parsing import parse_json
from fusion.text import did_you_mean, listed

# whose outputs are class_queries_logits and masks_queries_logits, of an image alone
QUERIES = ("eomt", "eomt_dinov3", "mask2former", "maskformer")
# of the images that networks are given (`data.clips.standardised`)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# of a configuration: which file it was read from, and names of classes
_NOT_KEPT = (
    "_name_or_path",
    "architectures",
    "dtype",
    "id2label",
    "label2id",
    "num_labels",
    "transformers_version",
)


class _Model(Network):
    """A model and what it wants of its input."""

    factor: Tensor
    shift: Tensor

    def __init__(self, model: Any, pixels: Mapping[str, Any]) -> None:
        """model: of the library. pixels: `mean`, `std` of its images and `bgr`, where others."""
        super().__init__()
        self.model, self.kind = model, model.config.model_type
        self.options = {"config": _kept(model.config), **pixels}
        inner = getattr(model.config, "backbone_config", None)
        patch = getattr(model.config, "patch_size", getattr(inner, "patch_size", None))
        if isinstance(patch, int) and 32 % patch:
            self.stride = 2 * patch  # the coarsest map of a pyramid over patches is half of theirs
        mean, std = (torch.tensor(pixels.get(k, d)) for k, d in (("mean", MEAN), ("std", STD)))
        factor, shift = torch.tensor(STD) / std, (torch.tensor(MEAN) - mean) / std
        self.register_buffer("factor", factor.view(3, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(3, 1, 1), persistent=False)
        self.same, self.bgr = not pixels, bool(pixels.get("bgr"))

    def run(self, ask: Callable[..., Any], images: Tensor, **labels: Any) -> Any:
        """What `ask` gives for images as the model wants them.

        InputError: the model takes images of one size only.
        """
        if not self.same:
            images = images * self.factor + self.shift
            images = images.flip(1) if self.bgr else images
        try:
            return ask(images, **labels)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError) as error:
            side, got = getattr(self.model.config, "image_size", None), tuple(images.shape[-2:])
            if not isinstance(side, int) or got == (side, side):
                raise
            here = f"network 'huggingface': {self.kind} takes images of {side} x {side} pixels only"
            found = f"got {got[0]} x {got[1]} ({str(error).splitlines()[0]})"
            advice = f"train with crop = {side} and predict in windows of that size"
            raise InputError(f"{here}, {found}; {advice}") from error


def _kept(settings: Any) -> dict[str, Any]:
    """The keys of a configuration that make the same one again with `_described`."""
    known = library().AutoConfig.for_model(settings.model_type)
    keys = parse_json(settings.to_json_string(use_diff=False))
    return {k: v for k, v in keys.items() if hasattr(known, k) and k not in _NOT_KEPT}


class Pixels(_Model):
    """A model that classifies pixels."""

    def logits(self, images: Tensor) -> Tensor:
        return self.run(partial(main_logits, self.model), images)

    def heads(self, images: Tensor) -> list[tuple[float, Tensor]]:
        return self.run(partial(all_heads, self.model), images)


class Queries(_Model, MaskClassification):
    """A model of queries and masks."""

    def found(self, images: Tensor, **labels: Any) -> Any:
        return self.run(self.model, images, **labels)


@register("huggingface")
def huggingface(
    classes: int,
    model: str = "",
    config: Mapping[str, Any] | None = None,
    pretrained: bool = True,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
    bgr: bool = False,
) -> Network:
    """A model by name or folder, with its weights, or by its configuration, with random ones.

    Args:
        classes: of the data set; the last layer of weights for others stays random.
        model: name on the Hugging Face hub, or a folder of config.json and model.safetensors.
        config: keys of the model's configuration, model_type among them.
        pretrained: false takes the configuration of `model` alone.
        mean, std, bgr: of the images that the model was trained with, as fractions of 1 and
            channel by channel; a model's folder says its own.

    Raises:
        InputError: both of model and config or none, or a configuration that is none.
        StoreError: the model cannot be had.
    """
    transformers = library()
    if bool(model) == (config is not None):
        raise InputError("network 'huggingface': give one of model and config")
    settings = _described(config) if config is not None else _published(model)
    settings.num_labels = classes
    kind: type[Pixels] | type[Queries]
    if settings.model_type in _semantic():
        kind, auto = Pixels, transformers.AutoModelForSemanticSegmentation
    else:
        kind, auto = Queries, transformers.AutoModelForUniversalSegmentation
    if model:
        mean, std, bgr = _images_of(model, mean, std, bgr)
    pixels: dict[str, Any] = {}
    if (tuple(mean), tuple(std)) != (MEAN, STD):
        pixels = {"mean": list(mean), "std": list(std)}
    pixels |= {"bgr": True} if bgr else {}
    with _making(settings.model_type):
        built = taken(auto, model, settings) if model and pretrained else auto.from_config(settings)
    network = kind(built, pixels)
    network.classifier = _last_layer(auto, settings, network)
    return network


def taken(auto: Any, model: str, settings: Any) -> nn.Module:
    """A model with its published weights; tensors that do not fit stay random, which is said.

    Args:
        auto: class of the library that makes it.
        model: name or folder.
        settings: configuration.

    Raises:
        StoreError: the weights cannot be had.
    """
    quiet = library().utils.logging
    before = quiet.get_verbosity()
    quiet.set_verbosity_error()  # its table of the same is said below in a line
    how = {"ignore_mismatched_sizes": True, "use_safetensors": True, "trust_remote_code": False}
    try:
        built, found = auto.from_pretrained(
            model, config=settings, dtype=torch.float32, output_loading_info=True, **how
        )
    except (OSError, ValueError, ImportError) as error:
        raise _not_to_be_had(model, error) from error
    finally:
        quiet.set_verbosity(before)
    sizes = {name: f"{name} ({list(there)} there)" for name, there, _ in found["mismatched_keys"]}
    left = {name: name for name in sorted(found["missing_keys"])} | sizes
    own = {name for name, _ in built.named_parameters()}
    count = f"{len(own - left.keys())} of {len(own)} tensors taken"
    rest = f"; left random: {listed(left.values(), 4)}" if left else ""
    remark(f"network: {model}: {count}{rest}")
    return built


def _not_to_be_had(model: str, error: Exception) -> StoreError:
    got = f"{model} cannot be had ({' '.join(str(error).split())[:200]})"
    advice = "give a folder with config.json and model.safetensors, as save_pretrained writes them"
    return StoreError(f"network: {got}; {advice}, or connect")


def _published(model: str) -> Any:
    """The configuration of a name or folder."""
    try:
        settings = library().AutoConfig.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError, _refusal()) as error:
        raise _not_to_be_had(model, error) from error
    if settings.model_type not in (*_semantic(), *QUERIES):
        raise _no_segmentation(settings.model_type)
    return settings


def _described(config: Mapping[str, Any]) -> Any:
    """The configuration of a table of keys."""
    table, name = dict(config), str(config.get("model_type", ""))
    if name not in (*_semantic(), *QUERIES):
        raise _no_segmentation(name)
    table.pop("model_type")
    with _making(name):
        settings = library().AutoConfig.for_model(name, **table)
    known = library().AutoConfig.for_model(name)
    if odd := [key for key in table if not hasattr(known, key)]:
        hint = did_you_mean(odd[0], known.to_dict())
        raise InputError(f"network 'huggingface': {name} has no key {odd[0]!r}{hint}")
    return settings


@contextlib.contextmanager
def _making(name: str) -> Iterator[None]:
    """InputError for what a configuration's own checks, and layers made of it, refuse."""
    refused = (ValueError, TypeError, AttributeError, RuntimeError, LookupError)
    try:
        yield
    except (*refused, _refusal()) as error:
        got = f"no {name} of this configuration ({' '.join(str(error).split())[:200]})"
        raise InputError(f"network 'huggingface': {got}; see its page of transformers") from error


def _refusal() -> type[Exception]:
    """What the library raises for values of other types."""
    from huggingface_hub.errors import StrictDataclassError

    return StrictDataclassError


def _no_segmentation(name: str) -> InputError:
    hint = did_you_mean(name, [*_semantic(), *QUERIES])
    got = f"model_type {name!r} is no model that segments images alone" if name else "no model_type"
    return InputError(f"network 'huggingface': {got}{hint}")


def _semantic() -> list[str]:
    """The types of AutoModelForSemanticSegmentation."""
    library()
    from transformers.models.auto import modeling_auto

    return list(modeling_auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES)


def _images_of(
    model: str, mean: Sequence[float], std: Sequence[float], bgr: bool
) -> tuple[Sequence[float], Sequence[float], bool]:
    """What preprocessor_config.json says, or what is given where there is none."""
    from transformers.image_processing_utils import BaseImageProcessor

    try:
        found, _ = BaseImageProcessor.get_image_processor_dict(model)
    except (OSError, ValueError):
        return mean, std, bgr
    if not found.get("do_normalize", "image_mean" in found):
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), bool(found.get("do_flip_channel_order"))
    mean, std = found.get("image_mean", mean), found.get("image_std", std)
    return mean, std, bool(found.get("do_flip_channel_order"))


def _last_layer(auto: Any, settings: Any, network: Network) -> str:
    """Path of the layer that has a row a class: what another number of classes would change."""
    other = copy.deepcopy(settings)
    other.num_labels += 1
    with torch.device("meta"):
        more = auto.from_config(other).state_dict()
    layers = dict(network.named_modules())
    for name, tensor in network.state_dict().items():
        path, _, kind = name.rpartition(".")
        if kind == "weight" and tensor.shape != more[name.removeprefix("model.")].shape:
            layer = layers[path]
            if isinstance(layer, nn.Linear) or getattr(layer, "kernel_size", None) == (1, 1):
                return path
    return ""
