"""What a weights file says about its network, and the network that it describes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from fusion.models.registry import Network, build
from fusion.models.training.adjustment import COSINE, HEADS, adjust


@dataclass(frozen=True)
class Architecture:
    """A network by name, classes and options; tau (None: none), scale, head of logit adjustment."""

    network: str
    classes: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    tau: float | None = None
    scale: float = 1.0
    head: str = COSINE  # files say it where it is another one: earlier ones know no such key

    def build(self, log_prior: Tensor | None = None, *, module: str | None = None) -> Network:
        """The network as `registry.build` makes it.

        log_prior: [C] log class frequencies, default uniform; a weights file brings its own.
        """
        classes = len(self.classes)
        network = build(self.network, classes, self.options, module=module)
        if self.tau is not None:
            prior = torch.full((classes,), -math.log(classes)) if log_prior is None else log_prior
            adjust(network, prior, self.tau, self.scale, self.head)
        return network

    def to_json(self) -> dict[str, Any]:
        document = asdict(self)
        return {key: document[key] for key in document if key != "head" or self.head != COSINE}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Architecture:
        """What `to_json` gave; KeyError, TypeError otherwise."""
        document = {"head": COSINE, **document}
        name, classes, options, tau, scale, head = (document[key.name] for key in fields(cls))
        numbers = all(isinstance(each, (int, float)) for each in (tau or 0, scale))
        if (
            not isinstance(name, str)
            or not isinstance(options, dict)
            or not numbers
            or (head not in HEADS)
        ):
            raise TypeError("other types than training writes")
        if not isinstance(classes, list) or not all(isinstance(each, str) for each in classes):
            raise TypeError("classes are no list of names")
        return cls(name, tuple(classes), options, tau, scale, head)
