"""torchmetrics: `MulticlassConfusionMatrix` and `MulticlassJaccardIndex`.

Its `segmentation.MeanIoU` averages over images, which is another number, and is left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks.peers.peer import Peer

NEEDS: dict[str, Any] = {"needs": ("torchmetrics",), "install": "torchmetrics"}


def confusion_matrix(targets: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    from torchmetrics.classification import MulticlassConfusionMatrix

    metric = MulticlassConfusionMatrix(classes, ignore_index=255, validate_args=False)
    return _updated(metric, targets, labels).numpy()


def jaccard(targets: np.ndarray, labels: np.ndarray, classes: int) -> float:
    from torchmetrics.classification import MulticlassJaccardIndex

    metric = MulticlassJaccardIndex(classes, ignore_index=255, validate_args=False)
    return float(_updated(metric, targets, labels))


def _updated(metric: Any, targets: np.ndarray, labels: np.ndarray) -> torch.Tensor:
    for known, found in zip(targets, labels, strict=True):
        metric.update(torch.from_numpy(found), torch.from_numpy(known))
    return metric.compute()


COUNTS = Peer("torchmetrics confusion", confusion_matrix, **NEEDS)
MIOU = Peer("torchmetrics JaccardIndex", jaccard, **NEEDS)
