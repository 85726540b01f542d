"""Scores of label maps from one engine: an int64 confusion matrix [C, C] per video, rows targets.

Every score follows from those matrices, so they can be summed, bootstrapped and cross-validated
without touching a pixel again. Importing this package loads NumPy only; `map_videos` loads Dask
when it is called, `confusion` torch.
"""

from fusion.metrics.calibration import Calibration
from fusion.metrics.confusion import class_iou, confusion, miou
from fusion.metrics.consistency import VARIANTS, VideoWindows, stable_windows, video_consistency
from fusion.metrics.objectives import CONVENTIONS, miou_of_counts
from fusion.metrics.scores import Scores
from fusion.parallel import map_videos

__all__ = ["CONVENTIONS", "VARIANTS", "Calibration", "Scores", "VideoWindows", "stable_windows"]
__all__ += ["class_iou", "confusion", "map_videos", "miou", "miou_of_counts", "video_consistency"]
