"""Scores of label maps from one engine: an int64 confusion matrix [C, C] per video, rows targets.

Every score follows from those matrices, so they can be summed, bootstrapped and cross-validated
without touching a pixel again. Importing this package loads NumPy only; `map_videos` loads Dask
when it is called, `confusion` torch.
"""

from fusion.metrics.calibration import Calibration
from fusion.metrics.confusion import class_iou, confusion, miou
from fusion.metrics.consistency import VARIANTS, VideoWindows, stable_windows, video_consistency
from fusion.metrics.intervals import Gain, bias_corrected
from fusion.metrics.objectives import (
    CONVENTIONS,
    OBJECTIVES,
    Objective,
    miou_of_counts,
    objective,
)
from fusion.metrics.scores import Scores
from fusion.parallel import map_videos

__all__ = ["CONVENTIONS", "OBJECTIVES", "VARIANTS", "Calibration", "Gain", "Objective", "Scores"]
__all__ += ["VideoWindows", "bias_corrected", "class_iou", "confusion", "map_videos", "miou"]
__all__ += ["miou_of_counts", "objective", "stable_windows", "video_consistency"]
