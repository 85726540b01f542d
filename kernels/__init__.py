"""Fusion kernels: weighted averages of the softmaxes of many models, linear heads over their
log-probabilities, and confusion counts.

Each operation is a folder: its public function, `naive.py` (the oracle), and one file a backend.
CUDA and ROCm tensors go to the Triton kernels, all others to the CPU; what they compute is written
down in `fusion.kernels.arithmetic`. Importing this loads neither torch nor triton.

Method: "5th Place Solution for VSPW 2021 Challenge", section 2.3, equation 1.
"""

from fusion.kernels.average import softmax_average
from fusion.kernels.confusion import confusion
from fusion.kernels.head import head
from fusion.kernels.upsample import upsample_softmax_average

__all__ = ["confusion", "head", "softmax_average", "upsample_softmax_average"]
