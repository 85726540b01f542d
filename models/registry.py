"""What a network is, and networks by name.

A network is one class in one file:

    @register("my-net")
    class MyNet(Network):
        classifier = "head"                                # its last layer, for logit adjustment
        def __init__(self, classes: int, width: int = 64) -> None: ...
        def logits(self, images: Tensor) -> Tensor: ...    # [N, 3, H, W] -> [N, C, h, w]

`[network] name = "my-net"`, `module = "my_file"` in a training configuration use it; further keys
there are keyword arguments of the class. N images, C classes, H W image pixels (multiples of
`stride`), h w the network's own resolution, whose grid covers the image exactly.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from fusion.errors import InputError
from fusion.text import did_you_mean

# logits [N, C, h, w], targets int64 [N, H, W] with void >= C -> scalar
Criterion = Callable[[Tensor, Tensor], Tensor]


class Network(nn.Module):
    """What training and prediction ask of a network.

    values: "logits", or "probabilities" where `logits` returns non-negative scores proportional to
    them, which whoever reads the store normalises per pixel. stride: H and W of the input are
    multiples of it. classifier: path of the last layer, a Linear or 1 x 1 Conv2d, which logit
    adjustment replaces.
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
        """Training loss, a scalar; a network with a loss of its own overrides this."""
        return over_heads(self.heads(images), targets, criterion)

    def heads(self, images: Tensor) -> list[tuple[float, Tensor]]:
        """What `loss` learns from by one criterion, logits and their factor: those of `logits`
        first, then of heads that only training uses.
        """
        return [(1.0, self.logits(images))]

    @classmethod
    def begun(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a new run: those given, and others than the class's defaults.

        Defaults are what files mean that say nothing; so a better one comes in here, and files say
        it from then on.
        """
        return dict(options)


def over_heads(
    heads: Sequence[tuple[float, Tensor]], targets: Tensor, criterion: Criterion
) -> Tensor:
    """Sum of factor times criterion."""
    first, *others = [factor * criterion(logits, targets) for factor, logits in heads]
    return sum(others, start=first)


Entry = TypeVar("Entry")
Built = TypeVar("Built", bound=type[Network])
_NETWORKS: dict[str, type[Network]] = {}
_OURS = ("maskformer", "plain", "swin-upernet")  # files in networks/, imported when asked for


def register(name: str) -> Callable[[Built], Built]:
    """Class decorator that gives a `Network` its name. InputError: the name is another class's."""

    def add(network: Built) -> Built:
        there = _NETWORKS.setdefault(name, network)
        if (there.__module__, there.__qualname__) != (network.__module__, network.__qualname__):
            owner = f"{there.__module__}.{there.__qualname__}"
            raise InputError(f"network {name!r} is registered by {owner}; choose another name")
        return network

    return add


def names() -> list[str]:
    """Every name that `build` takes now."""
    return sorted({*_OURS, *_NETWORKS})


def build(
    name: str, classes: int, options: Mapping[str, Any] | None = None, *, module: str | None = None
) -> Network:
    """A network with random weights.

    Args:
        options: keyword arguments of the network's class.
        module: imported first, for networks of one's own: code, which runs as its user.
    Raises:
        InputError: an unknown name, option or module; names the closest name.
    """
    options = dict(options or {})
    try:
        return named(name, module=module)(classes, **options)
    except TypeError as error:
        raise InputError(f"network {name!r}: options {options} do not fit ({error})") from error


def named(name: str, *, module: str | None = None) -> type[Network]:
    """The class of a network; arguments and errors as of `build`."""
    if module and not all(part.isidentifier() for part in module.split(".")):
        do = "give the name of a file in the folder you run from, without .py"
        raise InputError(f"network: module is {module!r}, no name of a module; {do}")
    try:
        if module:
            importlib.import_module(module)
    except ImportError as error:
        got = f"network module {module!r} cannot be imported ({error})"
        raise InputError(f"{got}; run from its folder, or set PYTHONPATH") from error
    if name not in _NETWORKS and name in _OURS:
        importlib.import_module(f".networks.{name.replace('-', '_')}", __package__)
    if name not in _NETWORKS:
        hint = did_you_mean(name, names())
        raise InputError(f"network: no {name!r}{hint}; a network of your own needs its module too")
    return _NETWORKS[name]


def preset_of(presets: Mapping[str, Entry], name: str, network: str) -> Entry:
    """The entry of a network's table of sizes; InputError with the choices otherwise."""
    if name in presets:
        return presets[name]
    raise InputError(f"network {network!r}: no preset {name!r}{did_you_mean(name, presets)}")
