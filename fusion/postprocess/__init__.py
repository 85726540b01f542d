"""What is done to an ensemble's predictions after fusion: an operation a file, one registration.

    maps            fused probabilities [C, h, w] at store resolution     ema window ...
    -> interpolated to the labels' resolution
    probabilities   [C, H, W]                                             guided-filter ...
    -> label = argmax_c b_c F_c
    labels          [H, W]                                                vote ...

Operations are applied in the order they are given in, stage by stage. All work on a stream of
frames and hold a few of them, however long the clip. A new operation is a file with a frozen
dataclass of `Operation`, and its name in OPERATIONS; its tests are `OperationContract`'s.
"""

from fusion.postprocess.operation import Frame, Operation, Video, parameter
from fusion.postprocess.pipeline import NOTHING, Pipeline
from fusion.postprocess.registry import OPERATIONS, operation_of, pipeline_of

__all__ = [
    "NOTHING",
    "OPERATIONS",
    "Frame",
    "Operation",
    "Pipeline",
    "Video",
    "operation_of",
    "parameter",
    "pipeline_of",
]
