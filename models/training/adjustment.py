"""Logit adjustment (section 3.1): a prior of classes in training, after it, or neither.

    in training, cosine   logit_y = s (w_y.f / (|w_y| |f|) + tau log pi_y), equation 2; without
                          tau's term after training, equation 3
    in training, own      logit_y = w_y.f + b_y + s tau log pi_y: the same prior before the
                          network's own last layer, equation 10 of Menon et al., "Long-tail learning
                          via logit adjustment" (2021)
    after training        logit_y - tau log pi_y, their equation 9, of any network

tau = 0 leaves the head alone, so that what the head does and what the prior does can be told apart.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.errors import InputError
from fusion.models.registry import Network

TAU = 0.03
COSINE, OWN = HEADS = ("cosine", "own")


class CosineClassifier(nn.Module):
    """A last layer: equation 2 in training, equation 3 afterwards.

    Args:
        features: their number D.
        outputs: rows of the layer, C or more (MaskFormer's "no object" comes last, without prior).
        log_prior: [C] log of each class's share of the training pixels.
        tau: factor of the prior.
        scale: factor s of all of it. The equations have none (s = 1), and their probabilities are
            nearly flat: no class can be more than e^2 times as probable as another. s = 1 / tau is
            the adjustment of Menon et al., "Long-tail learning via logit adjustment" (2021).
        axis: of the features in what comes in, 1 for [N, D, h, w], -1 for [..., Q, D].
    """

    log_prior: Tensor

    def __init__(
        self,
        features: int,
        outputs: int,
        log_prior: Tensor,
        tau: float = TAU,
        scale: float = 1.0,
        axis: int = 1,
    ) -> None:
        super().__init__()
        self.tau, self.scale, self.axis = tau, scale, axis
        self.weight = nn.Parameter(torch.empty(outputs, features))
        nn.init.normal_(self.weight, std=features**-0.5)
        self.register_buffer("log_prior", _padded(log_prior, outputs))

    def forward(self, features: Tensor) -> Tensor:
        unit = functional.normalize(features, dim=self.axis).movedim(self.axis, -1)
        logits = functional.linear(unit, functional.normalize(self.weight, dim=1))
        if self.training:
            logits = logits + self.tau * self.log_prior
        return self.scale * logits.movedim(-1, self.axis)


def adjust(
    network: Network, log_prior: Tensor, tau: float = TAU, scale: float = 1.0, head: str = COSINE
) -> None:
    """Adjusts a network's last layer; InputError where that has no name.

    Args:
        network: is changed.
        log_prior: [C] log of each class's share of the training pixels.
        tau: factor of the prior.
        scale: factor s.
        head: "cosine" puts a `CosineClassifier` in the last layer's place; "own" keeps the layer
            and adds s tau log_prior to what it gives in training.
    """
    if not network.classifier:
        got = f"{type(network).__name__} names no last layer"
        raise InputError(f"logit adjustment: {got}; set its `classifier` to the layer's path")
    weight = network.get_parameter(f"{network.classifier}.weight")
    (outputs, features), axis = weight.shape[:2], 1 if weight.ndim == 4 else -1
    if head == COSINE:
        cosine = CosineClassifier(features, outputs, log_prior, tau, scale, axis)
        return network.set_submodule(network.classifier, cosine)
    layer = network.get_submodule(network.classifier)
    layer.register_buffer("log_prior", _padded(log_prior, outputs))
    layer.register_forward_hook(partial(_with_prior, strength=scale * tau, axis=axis))


def _padded(log_prior: Tensor, outputs: int) -> Tensor:
    return functional.pad(log_prior.float(), (0, outputs - len(log_prior)))


def _with_prior(
    layer: nn.Module, _: tuple[Tensor, ...], logits: Tensor, *, strength: float, axis: int
) -> Tensor | None:
    """A hook, so that the layer's tensors keep their names; None leaves what the layer gave."""
    if not layer.training:
        return None
    prior = strength * layer.get_buffer("log_prior")
    return (logits.movedim(axis, -1) + prior).movedim(-1, axis)


class PostHoc(Network):
    """A trained network whose outputs forget tau times the prior (Menon et al., equation 9).

    Logits lose tau log pi; non-negative scores are divided by pi^tau, which is the same once they
    are probabilities.

    Args:
        network: any, trained without a prior of its own.
        log_prior: [C] log of each class's share of the training pixels, as of
            `data.statistics.read`.
        tau: 0 changes nothing; 1 makes classes equally likely beforehand.
    """

    log_prior: Tensor

    def __init__(self, network: Network, log_prior: Tensor, tau: float = 1.0) -> None:
        super().__init__()
        self.network, self.tau = network, tau
        self.values, self.stride = network.values, network.stride
        self.register_buffer("log_prior", log_prior.float()[:, None, None])

    def logits(self, images: Tensor) -> Tensor:
        outputs = self.network.logits(images).float()
        if self.values == "logits":
            return outputs - self.tau * self.log_prior
        # a factor per pixel cancels; this one keeps scores no larger than they were
        rarest = self.log_prior.amin()
        return outputs * (self.tau * (rarest - self.log_prior)).exp()
