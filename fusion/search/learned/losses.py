"""What training lowers: cross-entropy, and a surrogate of the objective beside it.

Cross-entropy makes probabilities of scores. The surrogate follows what is maximised: the
Lovász-softmax for objectives of IoU, soft Dice for those of Dice, over the objective's own classes
and, where it is per case, case by case.

N cells, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from fusion.metrics.objectives import Objective


@dataclass(frozen=True, eq=False)
class Loss:
    """The loss of scores S [N, C] on cells.

    Args:
        counts: [N, C], label pixels of each class.
        case: int64 [N].
        objective: what is maximised.
        share: of the surrogate beside cross-entropy.
    """

    counts: Tensor
    case: Tensor
    objective: Objective
    share: float

    @cached_property
    def _classes(self) -> Tensor:
        """Weights [C] of the classes in the mean."""
        rows = self.counts.sum(dim=0)
        weights = torch.from_numpy(self.objective.class_weights(len(rows))).to(rows)
        return weights * rows if self.objective.frequency else weights

    @cached_property
    def _cases(self) -> list[Tensor]:
        """Places of the cells of each case."""
        if not self.objective.per_case:
            return [torch.arange(len(self.case), device=self.case.device)]
        return [torch.nonzero(self.case == case)[:, 0] for case in torch.unique(self.case)]

    def __call__(self, scores: Tensor) -> Tensor:
        logs = torch.log_softmax(scores, dim=1)
        loss = -(self.counts * logs).sum() / self.counts.sum()
        if self.share == 0:
            return loss
        surrogate = soft_dice if self.objective.dice else lovasz_softmax
        each = [
            surrogate(logs[case].exp(), self.counts[case], self._classes) for case in self._cases
        ]
        return loss + self.share * torch.stack(each).mean()


def lovasz_softmax(probabilities: Tensor, counts: Tensor, weights: Tensor) -> Tensor:
    """The Lovász extension of 1 - IoU at the errors of each class, mean over classes with targets.

    Berman, Triki, Blaschko, "The Lovász-Softmax loss", CVPR 2018, equations 8 and 9; a cell counts
    as so many pixels of its most frequent class as it has labels.

    Args:
        probabilities: [N, C].
        counts: [N, C].
        weights: [C], of the classes in the mean.
    """
    target, size = counts.argmax(dim=1), counts.sum(dim=1)
    value: Tensor = _Lovasz.apply(probabilities, target, size, weights)
    return value


class _Lovasz(torch.autograd.Function):
    """The loss and its gradient from one sort a class: d loss / d error is the step there."""

    @staticmethod
    def forward(
        ctx: Any, probabilities: Tensor, target: Tensor, size: Tensor, weights: Tensor
    ) -> Tensor:
        rows, slopes = probabilities.T.contiguous(), torch.zeros_like(probabilities.T)
        value, total = probabilities.new_zeros(()), 0.0
        for c, weight in enumerate(weights.tolist()):
            inside = target == c
            if weight == 0 or not bool(inside.any()):
                continue
            errors = torch.where(inside, 1 - rows[c], rows[c])
            order = falling(errors)
            errors, hits = errors[order], (inside * size)[order].cumsum(0)
            union = hits[-1] + size[order].cumsum(0) - hits
            steps = torch.diff(1 - (hits[-1] - hits) / union, prepend=hits.new_zeros(1))
            value, total = value + weight * (errors * steps).sum(), total + weight
            slopes[c, order] = weight * steps
            slopes[c][inside] *= -1  # errors of pixels of the class fall as it rises
        ctx.save_for_backward(slopes.T / (total or 1.0))
        return value / (total or 1.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (slopes,) = ctx.saved_tensors
        return slopes * gradients[0], None, None, None


def falling(errors: Tensor) -> Tensor:
    """Places of errors from the largest to the smallest, equal ones by place.

    Half the time of training is spent here. The bits of numbers that are not negative rise with
    them, so on the CPU one sort of integers, bits above place, does what a stable sort of numbers
    with its places beside them does in twice the time.

    Args:
        errors: [N], at least 0 but for rounding.
    """
    if errors.dtype != torch.float32 or errors.is_cuda:
        return torch.sort(errors, descending=True, stable=True)[1]
    bits = errors.clamp(min=0).view(torch.int32).to(torch.int64)
    keys = (0x7FFFFFFF - bits << 32) | torch.arange(len(errors))
    keys.numpy().sort()
    return keys & 0xFFFFFFFF


def soft_dice(probabilities: Tensor, counts: Tensor, weights: Tensor) -> Tensor:
    """1 - Dice of probabilities for predictions, mean over classes with targets.

    Milletari, Navab, Ahmadi, "V-Net", 3DV 2016, with plain sums. Arguments: `lovasz_softmax`.
    """
    size, rows = counts.sum(dim=1, keepdim=True), counts.sum(dim=0)
    union = rows + (probabilities * size).sum(dim=0)  # 0 of a class that nothing is, or may be
    dice = 2 * (probabilities * counts).sum(dim=0) / union.clamp(min=1e-30)
    present = weights * (rows > 0)
    return ((1 - dice) * present).sum() / present.sum().clamp(min=1e-30)
