"""mmsegmentation: its loop over models and its IoU, the same operations written from its source.

It does not install beside current versions of torch. `tools/model_ensemble.py` of 0.x (1.x has no
such tool) keeps a list of every model's probabilities at the labels' size, adds them up, and takes
the argmax; `EncoderDecoder.inference` has interpolated the logits and taken the softmax.
`mmseg/evaluation/metrics/iou_metric.py` counts with torch.histc.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.peer import Peer
from benchmarks.peers.problem import Problem, decoded
from benchmarks.peers.torch_upsample import resized


def summed(logits: Sequence[Tensor], size: tuple[int, int], shares: Sequence[float]) -> Tensor:
    """Labels [H, W] from every model's logits [C, h, w]; shares of 1 are the tool's own."""
    result = [resized(z, size).softmax(dim=0).numpy() for z in logits]
    total: np.ndarray | float = 0.0
    for probabilities, share in zip(result, shares, strict=True):
        total = total + (probabilities if share == 1 else probabilities * np.float32(share))
    return torch.from_numpy(np.asarray(total).argmax(axis=0))


def model_ensemble(p: Problem) -> Tensor:
    """The tool has no weights; its maps are multiplied by them here."""
    return summed([decoded(z.cpu()) for z in p.logits], p.size, p.shares()).to(p.logits[0].device)


def areas(labels: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Pixels in both, and in either, of each class: [2, C]."""
    counted = targets != 255
    labels, targets = labels[counted], targets[counted]
    both, found, known = (
        torch.histc(some.float(), bins=classes, min=0, max=classes - 1)
        for some in (labels[labels == targets], labels, targets)
    )
    return torch.stack([both, found + known - both]).double()


def miou(targets: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """Image by image, then the mean over classes that are there."""
    pairs = zip(torch.from_numpy(labels), torch.from_numpy(targets), strict=True)
    return score(sum((areas(*pair, classes) for pair in pairs), torch.zeros(2, classes)))


def score(areas: Tensor) -> float:
    return float((areas[0] / areas[1]).nanmean())


LOGITS = Peer("mmseg loop, as written there", model_ensemble)
MIOU = Peer("mmseg IoUMetric, as written", miou)
