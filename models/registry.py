"""What a network is, and networks by name.

A network is one class in one file:

    @register("my-net")
    class MyNet(Network):
        classifier = "head"                                # its last layer, for logit adjustment
        def __init__(self, classes: int, width: int = 64) -> None: ...
        def logits(self, images: Tensor) -> Tensor: ...    # [N, 3, H, W] -> [N, C, h, w]

`[network] name = "my-net"`, `module = "my_file"` in a training configuration use it; further keys
there are keyword arguments of the class, of the types that its annotations say. N images, C
classes, H W image pixels (multiples of `stride`), h w the network's own resolution, whose grid
covers the image exactly. Networks that are written already: `networks.huggingface` takes models of
the transformers library, `networks.wrapped` any torch module.
"""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, TypeVar

from torch import Tensor, nn

from fusion.arguments import kind_of
from fusion.errors import InputError
from fusion.text import closest, did_you_mean, listed

# logits [N, C, h, w], targets int64 [N, H, W] with void >= C -> scalar
Criterion = Callable[[Tensor, Tensor], Tensor]


class Network(nn.Module):
    """What training and prediction ask of a network.

    values: "logits", or "probabilities" where `logits` returns non-negative scores proportional to
    them, which whoever reads the store normalises per pixel. stride: H and W of the input are
    multiples of it. classifier: path of the last layer, a Linear or 1 x 1 Conv2d, which logit
    adjustment replaces. options: what builds the same architecture again, where that is more than
    the options it was built with; weights files keep them.
    """

    values: str = "logits"
    stride: int = 32
    classifier: str = ""
    options: Mapping[str, Any] | None = None

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
Built = TypeVar("Built", bound=Callable[..., Network])
_NETWORKS: dict[str, Callable[..., Network]] = {}
# files in networks/, imported when asked for
_OURS = {
    "huggingface": "huggingface",
    "mask2former": "mask2former",
    "maskformer": "maskformer",
    "plain": "plain",
    "segformer": "segformer",
    "swin-upernet": "swin_upernet",
    "torch": "wrapped",
}


def register(name: str) -> Callable[[Built], Built]:
    """Decorator that gives a `Network`, or a function that makes one, its name.

    InputError: the name is another's.
    """

    def add(network: Built) -> Built:
        there = _NETWORKS.setdefault(name, network)
        if _place(there) != _place(network):
            owner = ".".join(_place(there))
            raise InputError(f"network {name!r} is registered by {owner}; choose another name")
        return network

    return add


def _place(network: Any) -> tuple[str, str]:
    return network.__module__, network.__qualname__


def names() -> list[str]:
    """Every name that `build` takes now."""
    return sorted({*_OURS, *_NETWORKS})


def build(
    name: str, classes: int, options: Mapping[str, Any] | None = None, *, module: str | None = None
) -> Network:
    """A network with random weights, where its options ask for no others.

    Args:
        options: keyword arguments of the network's class.
        module: imported first, for networks of one's own: code, which runs as its user. A network
            that has an argument of this name gets the module.
    Raises:
        InputError: an unknown name, option or module, or an option of another type; names the
            closest name.
    """
    given, options = imported(module) if module else None, dict(options or {})
    network, what = maker(name), f"network {name!r}"
    known = check_options(network, options, what)
    try:
        return network(classes, **options, **({"module": given} if "module" in known else {}))
    except TypeError as error:
        raise InputError(f"{what}: options {options} do not fit ({error})") from error


def begun(name: str, options: Mapping[str, Any], *, module: str | None = None) -> dict[str, Any]:
    """`Network.begun` of a name; a function that makes networks has the options as they are."""
    if module:
        imported(module)
    network: Any = maker(name)
    return network.begun(options) if hasattr(network, "begun") else dict(options)


def takes(name: str, option: str, *, module: str | None = None) -> bool:
    """Whether the networks of a name have an option."""
    if module:
        imported(module)
    return option in inspect.signature(maker(name)).parameters


def maker(name: str) -> Callable[..., Network]:
    """What makes the networks of a name: a class, or a function."""
    if name not in _NETWORKS and name in _OURS:
        importlib.import_module(f".networks.{_OURS[name]}", __package__)
    if name not in _NETWORKS:
        hint = did_you_mean(name, names())
        raise InputError(f"network: no {name!r}{hint}; a network of your own needs its module too")
    return _NETWORKS[name]


def imported(module: str) -> ModuleType:
    """A module of one's own; InputError where there is none."""
    if not all(part.isidentifier() for part in module.split(".")):
        do = "give the name of a file in the folder you run from, without .py"
        raise InputError(f"network: module is {module!r}, no name of a module; {do}")
    try:
        return importlib.import_module(module)
    except ImportError as error:
        got = f"network module {module!r} cannot be imported ({error})"
        raise InputError(f"{got}; run from its folder, or set PYTHONPATH") from error


def check_options(
    maker: Callable[..., Any], options: Mapping[str, Any], what: str
) -> Mapping[str, inspect.Parameter]:
    """The parameters of a network's maker; InputError where the options are not among them.

    An option's type is checked where its annotation says one; a maker with ** takes any key.
    """
    parameters = dict(inspect.signature(maker).parameters)
    parameters.pop(next(iter(parameters), ""), None)  # the number of classes
    anything = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    keys = [key for key in parameters if key != "module"]
    try:
        hints = typing.get_type_hints(maker.__init__ if inspect.isclass(maker) else maker)
    except (NameError, TypeError, AttributeError):  # names that are imported for types alone
        hints = {}
    for key, value in options.items():
        if key not in keys and not anything:
            hint = did_you_mean(key, keys)
            every = f" (options: {listed(keys)})" if closest(key, keys) else ""
            raise InputError(f"{what}: there is no option {key!r}{hint}{every}")
        kind = kind_of(hints.get(key, Any))
        if not kind.test(value):
            raise InputError(f"{what}: {key} is {value!r}; give {kind.words}")
    return parameters


def preset_of(presets: Mapping[str, Entry], name: str, network: str) -> Entry:
    """The entry of a network's table of sizes; InputError with the choices otherwise."""
    if name in presets:
        return presets[name]
    raise InputError(f"network {network!r}: no preset {name!r}{did_you_mean(name, presets)}")
