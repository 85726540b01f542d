"""Networks by name: the protocol, the decorator, and what a weights file must say to build its network again.

A network is one class in one file:

    @register("my-net")
    class MyNet(Network):
        classifier = "head"                                # its last layer, only needed for logit adjustment
        def __init__(self, classes: int, width: int = 64) -> None: ...
        def logits(self, images: Tensor) -> Tensor: ...    # [N, 3, H, W] -> [N, C, h, w]

`[network] name = "my-net"`, `module = "my_file"` in a training configuration is all that using it takes; further keys of that section
are keyword arguments of the class. N images, C classes, H W image pixels (multiples of `stride`), h w the network's own resolution,
whose grid covers the image exactly.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from fusion.errors import InputError

Criterion = Callable[
    [Tensor, Tensor], Tensor
]  # logits [N, C, h, w], targets int64 [N, H, W], void >= C -> scalar


class Network(nn.Module):
    """What training and prediction ask of a network.

    values: what `logits` returns: "logits", or "probabilities" for non-negative scores that are proportional to class probabilities
    (the store then says so, and each pixel's scores are normalised there). stride: H and W of the input are multiples of it.
    classifier: path of the last layer, a Linear or a 1 x 1 Conv2d, which logit adjustment replaces.
    """

    values: ClassVar[str] = "logits"
    stride: ClassVar[int] = 32
    classifier: ClassVar[str] = ""

    def logits(self, images: Tensor) -> Tensor:
        """float32 standardised images [N, 3, H, W] to [N, C, h, w]."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(images)

    def loss(self, images: Tensor, targets: Tensor, criterion: Criterion) -> Tensor:
        """Training loss, a scalar; networks with a loss of their own (MaskFormer) override this."""
        return criterion(self.logits(images), targets)


Built = TypeVar("Built", bound=type[Network])
_NETWORKS: dict[str, type[Network]] = {}
_HOMES = {
    "plain": "plain",
    "swin-upernet": "swin_upernet",
    "maskformer": "maskformer",
}  # loaded when first asked for


def register(name: str) -> Callable[[Built], Built]:
    """Class decorator that gives a `Network` its name. InputError: the name is another class's."""

    def add(network: Built) -> Built:
        there = _NETWORKS.setdefault(name, network)
        if (there.__module__, there.__qualname__) != (network.__module__, network.__qualname__):
            raise InputError(
                f"network {name!r} is registered by {there.__module__}.{there.__qualname__}; choose another name"
            )
        return network

    return add


def names() -> list[str]:
    """Every name that `build` takes now."""
    return sorted({*_HOMES, *_NETWORKS})


def build(
    name: str, classes: int, options: Mapping[str, Any] | None = None, *, module: str | None = None
) -> Network:
    """A network with random weights.

    options: keyword arguments of the network's class. module: imported first, for networks of one's own. InputError: unknown name
    (names the closest), an option that the network does not have, a module that cannot be imported.
    """
    if module:
        _load(module)
    if name not in _NETWORKS and name in _HOMES:
        importlib.import_module(f".networks.{_HOMES[name]}", __package__)
    if name not in _NETWORKS:
        raise InputError(
            f"network: no {name!r}{nearest(name, names())}; a network of your own needs its module too"
        )
    try:
        return _NETWORKS[name](classes, **(options or {}))
    except TypeError as error:
        raise InputError(
            f"network {name!r}: options {dict(options or {})} do not fit ({error})"
        ) from error


def _load(module: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"network module {module!r} cannot be imported ({error}); run from its folder, or set PYTHONPATH"
        ) from error


def preset_of(presets: Mapping[str, Any], name: str, network: str) -> Any:
    """The entry of a network's table of sizes; InputError with the choices otherwise."""
    if name not in presets:
        raise InputError(f"network {network!r}: no preset {name!r}{nearest(name, list(presets))}")
    return presets[name]


def nearest(name: str, known: Sequence[str]) -> str:
    """'; did you mean ...?', or the choices."""
    close = difflib.get_close_matches(str(name), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; choose one of {', '.join(known)}"


@dataclass(frozen=True)
class Architecture:
    """What a weights file says about its network. tau, scale: of logit adjustment (equation 2), tau None without it."""

    network: str
    classes: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    tau: float | None = None
    scale: float = 1.0

    def build(
        self,
        log_prior: Tensor | None = None,
        *,
        module: str | None = None,
        pretrained: bool = False,
    ) -> Network:
        """The network with random weights. log_prior: [C] log class frequencies; loading a weights file brings its own.

        pretrained: start from the published backbone that belongs to the network's preset, where it has one.
        """
        from fusion.models.training.losses import adjust

        options = {**self.options, **({"pretrained": True} if pretrained else {})}
        network = build(self.network, len(self.classes), options, module=module)
        if self.tau is not None:
            adjust(network, len(self.classes), self.tau, log_prior, self.scale)
        return network

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Architecture:
        return cls(
            document["network"],
            tuple(document["classes"]),
            dict(document["options"]),
            document["tau"],
            document["scale"],
        )
