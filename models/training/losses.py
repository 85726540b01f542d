"""Losses of the paper: hard example mining and self distillation.

N images, C classes, h w network pixels, H W target pixels. Logits [N, C, h, w] are interpolated to
the targets' [N, H, W] (bilinear, half-pixel centres); a target of C or more is void and counts
nowhere. A batch of void pixels only has loss 0, not NaN.

    OHEM (section 2.1)        sum of -log p_target over `hard_pixels`, by the pixels of the batch,
                              as mmsegmentation has both (OHEMPixelSampler, CrossEntropyLoss)
    self distillation (3.2)   cross-entropy + KL(teacher || student), both softened by a temperature
                              T, KL times T^2, as Hinton et al., "Distilling the Knowledge in a
                              Neural Network" (2015) have it
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.kernels.numbers import LEAST_PROBABILITY
from fusion.models.registry import Criterion, Network, over_heads

OHEM_THRESHOLD, OHEM_MIN_KEPT = 0.7, 200_000
_VOID = -100  # cross_entropy's own default


def pixel_losses(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """-log p_target, float32 [N, H, W], 0 where void; which pixels are not, bool [N, H, W]."""
    counted, size = targets < logits.shape[1], targets.shape[-2:]
    logits, targets = logits.float(), targets.masked_fill(~counted, _VOID)
    # classes last: a pixel's softmax is read as it lies, a third less time than planes of classes
    logits = logits.contiguous(memory_format=torch.channels_last)
    if logits.shape[-2:] != size:
        logits = functional.interpolate(logits, size, mode="bilinear", align_corners=False)
    pixels = logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1])
    losses = functional.cross_entropy(
        pixels, targets.flatten(), reduction="none", ignore_index=_VOID
    )
    return losses.view_as(targets), counted


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean of -log p_target over the pixels that are not void."""
    losses, counted = pixel_losses(logits, targets)
    return losses.sum() / counted.sum().clamp(min=1)


def hard_pixels(losses: Tensor, counted: Tensor, threshold: float, min_kept: int) -> Tensor:
    """Which pixels OHEM keeps, bool [N, H, W]: those that count and have p_target below a limit.

    The limit is the threshold or, where that is larger, p_target of the pixel after the N min_kept
    hardest ones of the whole batch (of the easiest where there are no more). Pixels at the limit
    are not kept, so equal ones leave together. mmsegmentation's OHEMPixelSampler
    (mmseg/structures/sampler/ohem_pixel_sampler.py).

    Args:
        losses: -log p_target, float32 [N, H, W].
        counted: bool [N, H, W], pixels that are not void.
        threshold: of p_target.
        min_kept: pixels per image.
    """
    probability = (-losses).exp()
    valid = probability[counted]
    if not len(valid):
        return counted
    place = min(min_kept * len(losses), len(valid) - 1)
    limit = valid.kthvalue(place + 1).values.clamp(min=threshold)
    return counted & (probability < limit)


def ohem_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    threshold: float = OHEM_THRESHOLD,
    min_kept: int = OHEM_MIN_KEPT,
) -> Tensor:
    """Sum of -log p_target over `hard_pixels`, divided by all N H W pixels.

    Void pixels and those that were left out are among these, as in mmsegmentation's
    CrossEntropyLoss (mmseg/models/losses/cross_entropy_loss.py) with its default, avg_non_ignore =
    False: a batch counts by how much in it is hard.
    """
    losses, counted = pixel_losses(logits, targets)
    hard = hard_pixels(losses.detach(), counted, threshold, min_kept)
    return (losses * hard).mean()


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
    network of any kind and resolution; probabilities of a store come with every batch.
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
        heads = self.network.heads(images)
        soft = self._kl * self._soft(heads[0][1], images, taught)
        if not self._labels:
            return soft
        return self._labels * over_heads(heads, targets, self._criterion) + soft

    def _soft(self, outputs: Tensor, images: Tensor, taught: Tensor | None) -> Tensor:
        if taught is not None:
            return taught_by(outputs, taught, self._temperature)
        assert self.teacher is not None
        with torch.no_grad():
            known = self.teacher.logits(images).float()
        if self.teacher.values != "logits":
            known = known / known.sum(dim=1, keepdim=True)
            return taught_by(outputs, known, self._temperature)
        if known.shape[-2:] != (size := outputs.shape[-2:]):
            known = functional.interpolate(known, size, mode="bilinear", align_corners=False)
        return distillation(outputs, known, self._temperature)
