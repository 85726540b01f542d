"""scikit-learn: `confusion_matrix`."""

from __future__ import annotations

import numpy as np

from benchmarks.peers.peer import Peer


def confusion_matrix(targets: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    from sklearn import metrics

    counted = targets != 255
    return metrics.confusion_matrix(targets[counted], labels[counted], labels=np.arange(classes))


COUNTS = Peer("sklearn confusion_matrix", confusion_matrix, ("sklearn",), "scikit-learn")
