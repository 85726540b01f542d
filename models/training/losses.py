"""Losses of the paper: hard example mining, logit adjustment, self distillation.

N images, C classes, h w network pixels, H W target pixels. Logits [N, C, h, w] are interpolated to
the targets' [N, H, W] (bilinear, half-pixel centres); a target of C or more is void and counts
nowhere. A batch of void pixels only has loss 0, not NaN.

    OHEM (section 2.1)        mean of -log p_target over `hard_pixels`
    logit adjustment (3.1)    logit_y = s (w_y.f / (|w_y| |f|) + tau log pi_y) in training
                              (equation 2), without tau's term after it (equation 3)
    self distillation (3.2)   cross-entropy + KL(teacher || student)
    from a store              the same; both softened by a temperature T, KL times T^2, as Hinton et
                              al., "Distilling the Knowledge in a Neural Network" (2015) have it
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.errors import InputError
from fusion.kernels.numbers import LEAST_PROBABILITY
from fusion.models.registry import Criterion, Network

OHEM_THRESHOLD, OHEM_MIN_KEPT, TAU = 0.7, 200_000, 0.03
_VOID = -100  # cross_entropy's own default


def pixel_losses(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """-log p_target, float32 [N, H, W], 0 where void; which pixels are not, bool [N, H, W]."""
    counted, size = targets < logits.shape[1], targets.shape[-2:]
    logits, targets = logits.float(), targets.masked_fill(~counted, _VOID)
    if logits.shape[-2:] != size:
        logits = functional.interpolate(logits, size, mode="bilinear", align_corners=False)
    cross = functional.cross_entropy(logits, targets, reduction="none", ignore_index=_VOID)
    return cross, counted


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean of -log p_target over the pixels that are not void."""
    losses, counted = pixel_losses(logits, targets)
    return losses.sum() / counted.sum().clamp(min=1)


def hard_pixels(losses: Tensor, counted: Tensor, threshold: float, min_kept: int) -> Tensor:
    """Which pixels OHEM keeps: those that count and have p_target < threshold.

    Where these are fewer than min_kept, the min_kept largest losses (earlier pixels first among
    equals), or all that count.
    """
    hard = counted & (losses > -math.log(threshold))
    if int(hard.sum()) >= min_kept:
        return hard
    ranked = losses.masked_fill(~counted, -1.0).flatten()
    kept = torch.argsort(ranked, descending=True, stable=True)[:min_kept]
    return hard.flatten().index_fill(0, kept, True).view_as(counted) & counted


def ohem_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    threshold: float = OHEM_THRESHOLD,
    min_kept: int = OHEM_MIN_KEPT,
) -> Tensor:
    """Mean of -log p_target over `hard_pixels` of the whole batch."""
    losses, counted = pixel_losses(logits, targets)
    hard = hard_pixels(losses.detach(), counted, threshold, min_kept)
    return (losses * hard).sum() / hard.sum().clamp(min=1)


def distillation(
    student: Tensor, teacher: Tensor, temperature: float = 1.0, counted: Tensor | None = None
) -> Tensor:
    """T^2 times the mean over pixels of KL(teacher || student), both softened by T.

    No gradient goes to the teacher.

    Args:
        student, teacher: logits [N, C, h, w].
        temperature: T > 0, which divides both.
        counted: bool [N, h, w], pixels of the mean; default all.
    """
    p = functional.log_softmax(student.float() / temperature, dim=1)
    q = functional.log_softmax(teacher.detach().float() / temperature, dim=1)
    divergence = (q.exp() * (q - p)).sum(dim=1)
    if counted is None:
        return temperature**2 * divergence.mean()
    return temperature**2 * (divergence * counted).sum() / counted.sum().clamp(min=1)


def taught_by(student: Tensor, probabilities: Tensor, temperature: float = 1.0) -> Tensor:
    """`distillation` from probabilities, at the student's resolution.

    Args:
        student: logits [N, C, h, w].
        probabilities: [N, C, u, v], all zero where nothing is known, which counts nowhere.
        temperature: T.
    """
    known, size = probabilities.detach().float(), student.shape[-2:]
    if known.shape[-2:] != size:
        known = functional.interpolate(known, size, mode="bilinear", align_corners=False)
    counted = known.sum(dim=1) > 0.5  # half of a pixel at the border
    return distillation(student, known.clamp(min=LEAST_PROBABILITY).log(), temperature, counted)


class Objective(nn.Module):
    """The training loss as one module, for data parallelism to wrap.

    Without a teacher the network's own; else labels x criterion + kl x `distillation`. teacher: a
    network; probabilities of a store come with every batch.
    """

    def __init__(
        self,
        network: Network,
        criterion: Criterion,
        teacher: Network | None,
        kl: float,
        *,
        labels: float = 1.0,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.network, self.teacher, self._criterion, self._kl = network, teacher, criterion, kl
        self._labels, self._temperature = labels, temperature

    def forward(self, images: Tensor, targets: Tensor, taught: Tensor | None = None) -> Tensor:
        if self.teacher is None and taught is None:
            return self.network.loss(images, targets, self._criterion)
        outputs = self.network.logits(images)
        if taught is not None:
            soft = taught_by(outputs, taught, self._temperature)
        else:
            assert self.teacher is not None
            with torch.no_grad():
                logits = self.teacher.logits(images)
            soft = distillation(outputs, logits, self._temperature)
        if not self._labels:
            return self._kl * soft
        return self._labels * self._criterion(outputs, targets) + self._kl * soft


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
        prior = functional.pad(log_prior.float(), (0, outputs - len(log_prior)))
        self.register_buffer("log_prior", prior)

    def forward(self, features: Tensor) -> Tensor:
        unit = functional.normalize(features, dim=self.axis).movedim(self.axis, -1)
        logits = functional.linear(unit, functional.normalize(self.weight, dim=1))
        if self.training:
            logits = logits + self.tau * self.log_prior
        return self.scale * logits.movedim(-1, self.axis)


def adjust(network: Network, log_prior: Tensor, tau: float = TAU, scale: float = 1.0) -> None:
    """Puts a `CosineClassifier` in the last layer's place; InputError where that has no name."""
    if not network.classifier:
        got = f"{type(network).__name__} names no last layer"
        raise InputError(f"logit adjustment: {got}; set its `classifier` to the layer's path")
    weight = network.get_parameter(f"{network.classifier}.weight")
    (outputs, features), axis = weight.shape[:2], 1 if weight.ndim == 4 else -1
    layer = CosineClassifier(features, outputs, log_prior, tau, scale, axis)
    network.set_submodule(network.classifier, layer)
