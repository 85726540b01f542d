"""Any torch module as a network, without a class of one's own.

    [network]
    name = "torch"
    module = "my_file"              # imported, and so run, as its user
    factory = "make"                # make(classes, **further keys) -> nn.Module

`Wrapped(module, classes)` is the same from Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from fusion.errors import InputError
from fusion.models.registry import Network, check_options, register
from fusion.text import did_you_mean, listed

KEYS = ("out", "logits")


class Wrapped(Network):
    """A module whose forward takes images [N, 3, H, W].

    Args:
        module: its forward gives logits [N, C, h, w], or a dict or an object that has them as "out"
            (torchvision) or "logits" (transformers).
        classes: C.
        classifier: path of its last layer within the module, for logit adjustment and for weights
            of other classes.
        stride: H and W are multiples of it.
        values: "probabilities" where forward gives scores of 0 or more.
    """

    def __init__(
        self,
        module: nn.Module,
        classes: int,
        classifier: str = "",
        stride: int = 32,
        values: str = "logits",
    ) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            got = f"got {type(module).__name__} where a torch.nn.Module belongs"
            raise InputError(f"network 'torch': {got}; let the factory return one")
        if values not in ("logits", "probabilities"):
            hint = did_you_mean(values, ("logits", "probabilities"))
            raise InputError(f"network 'torch': values is {values!r}{hint}")
        if stride < 1:
            raise InputError(f"network 'torch': stride is {stride}; give 1 or more")
        layers = [name for name, layer in module.named_modules() if not list(layer.children())]
        if classifier and classifier not in layers:
            hint = did_you_mean(classifier, layers)
            raise InputError(f"network 'torch': there is no layer {classifier!r}{hint}")
        self.module, self.classes = module, classes
        self.stride, self.values = stride, values
        self.classifier = f"module.{classifier}" if classifier else ""

    def logits(self, images: Tensor) -> Tensor:
        found = self.module(images)
        for key in KEYS:
            if isinstance(found, Mapping) and key in found:
                found = found[key]
            elif isinstance(getattr(found, key, None), Tensor):
                found = getattr(found, key)
        if isinstance(found, Tensor) and found.ndim == 4 and found.shape[1] == self.classes:
            return found
        got = f"{list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        if isinstance(found, Mapping):
            got += f" of {listed(found)}"
        where = f"network 'torch': forward of {type(self.module).__name__} gave {got}"
        shape = f"[{len(images)}, {self.classes}, h, w]"
        raise InputError(f"{where}; give {shape}, or a dict with 'out' or 'logits'")


@register("torch")
def wrapped(
    classes: int,
    factory: str,
    module: ModuleType | None = None,
    classifier: str = "",
    stride: int = 32,
    values: str = "logits",
    **options: Any,
) -> Wrapped:
    """What `factory` in a module of one's own makes of (classes, **options)."""
    if module is None:
        raise InputError("network 'torch': no module; give module = \"my_file\", which has factory")
    make = getattr(module, factory, None)
    if not callable(make):
        known = [name for name, value in vars(module).items() if callable(value)]
        hint = did_you_mean(factory, known)
        raise InputError(f"network 'torch': {module.__name__} has no function {factory!r}{hint}")
    check_options(make, options, f"network 'torch': {module.__name__}.{factory}")
    return Wrapped(make(classes, **options), classes, classifier, stride, values)
