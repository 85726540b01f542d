"""How 22 real networks err: what the simulated ones are made to resemble.

ESPNets and DiCENets trained on Cityscapes, on 142 frames of CamVid that none of them saw; road and
pavement are one class here, so are poles and signs, pedestrians and bicyclists. Measured by

    SEGFUSION_DATA=FOLDER python -m benchmarks.errors

which prints what it finds beside these numbers. Statistics only: no picture and no label is here.
"""

from __future__ import annotations

import numpy as np

# of the mix head over the best single model, on held-out clips: benchmarks/README.md, Search
HEAD_GAIN = 0.0915

# what each number is: benchmarks/errors.py
PROFILE: dict[str, float] = {
    "accuracy": 0.821,
    "accuracy: spread of models": 0.063,
    "accuracy: spread of clips": 0.046,
    "mIoU": 0.534,
    "mIoU: spread of models": 0.066,
    "mIoU: best model over the mean": 0.098,
    "mIoU: all fused over the mean": 0.080,
    "classes: share of the most frequent": 0.355,
    "classes: share of the rarer half": 0.102,
    "recall: frequent half": 0.808,
    "recall: rarer half": 0.517,
    "predicted over true: spread of classes": 0.297,
    "habits: spread of families": 0.163,
    "habits: spread within": 0.452,
    "one class in all groups": 0.900,
    "wrong by most models": 0.124,
    "disagree, within a family": 0.166,
    "err alike, within a family": 0.333,
    "disagree, between": 0.191,
    "err alike, between": 0.266,
    "borders: share of pixels": 0.179,
    "error at borders": 0.445,
    "error away from borders": 0.121,
    "errors: share in whole patches": 0.781,
    "confidence where right": 0.935,
    "confidence where wrong": 0.731,
    "flicker": 0.040,
    "errors that stay a frame later": 0.873,
    "truth that stays a frame later": 0.955,
}

# of a pixel of the row's class, percent that a network gives the column's, mean of the 22; classes
# as in `scenes.CLASSES`
CONFUSION = np.array(
    [
        [73.8, 13.3, 0.1, 10.7, 1.0, 0.1, 0.9, 0.0],
        [1.2, 91.9, 1.1, 0.7, 0.6, 1.6, 1.2, 1.7],
        [0.0, 5.1, 91.9, 0.4, 0.1, 1.1, 0.2, 1.2],
        [0.9, 26.4, 0.2, 65.5, 3.2, 0.7, 2.0, 1.1],
        [0.0, 64.8, 0.6, 11.4, 12.6, 2.3, 1.3, 7.0],
        [0.0, 5.6, 1.4, 0.6, 0.5, 87.4, 0.6, 3.8],
        [1.0, 45.1, 1.4, 6.2, 3.0, 9.3, 30.5, 3.5],
        [0.0, 14.2, 2.0, 3.3, 0.1, 2.6, 1.5, 76.3],
    ]
)
