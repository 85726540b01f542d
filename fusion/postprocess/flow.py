"""Where things have gone from one frame to another: dense optical flow, and maps moved along it.

    flow t -> s: pixel x of frame t is at x + f(x) in frame s
    P_s moved to t: P_s(x + f(x)), bilinear; it counts where |f(x) + g(x + f(x))| is small, g the
    flow s -> t, and x + f(x) lies in the frame

Flow: OpenCV's DIS (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016).
Forward-backward check: Sundaram, Brox and Keutzer, ECCV 2010, equation 5. h w map pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fusion.errors import InputError
from fusion.postprocess.operation import Frame, Video

MOTIONS = ("none", "images", "maps")
WIDEST = 480  # pixels of the pictures that flow is estimated on
LEAST = 96  # and of maps, which are enlarged to it
Flow = NDArray[np.float32]  # [h, w, 2]: x, y


class Motion:
    """Flow between the frames of a video.

    Args:
        video: whose pictures are looked at.
        source: "images", or "maps": a grey picture made of the fused probabilities.
    """

    def __init__(self, video: Video, source: str) -> None:
        self.video, self.source = video, source
        self._grey: dict[str, NDArray[np.uint8]] = {}
        self._flow: dict[tuple[str, str], Flow] = {}
        self._estimate = _estimator()

    def keep(self, frames: Sequence[Frame]) -> None:
        """Forgets all frames but these."""
        names = {frame.name for frame in frames}
        self._grey = {name: grey for name, grey in self._grey.items() if name in names}
        self._flow = {pair: flow for pair, flow in self._flow.items() if names >= set(pair)}

    def moved(self, frame: Frame, centre: Frame) -> tuple[Tensor, Tensor]:
        """A neighbour's map [C, h, w] where the centre's pixels have gone, and float32 [h, w]: 1
        where that can be believed, else 0.
        """
        shape = centre.values.shape[-2:]
        flows = self._between(centre, frame), self._between(frame, centre)
        there, back = (_resized(flow, shape).to(centre.values.device) for flow in flows)
        grid, inside = _places(there)
        values = _looked_up(frame.values, grid)
        returned = _looked_up(back, grid)
        lengths = (there**2).sum(0) + (returned**2).sum(0)
        believed = (((there + returned) ** 2).sum(0) <= 0.01 * lengths + 0.5) & inside
        return values, believed.float()

    def _between(self, one: Frame, other: Frame) -> Flow:
        pair = (one.name, other.name)
        if pair not in self._flow:
            self._flow[pair] = self._estimate(self._picture(one), self._picture(other))
        return self._flow[pair]

    def _picture(self, frame: Frame) -> NDArray[np.uint8]:
        if frame.name not in self._grey:
            images = self.source == "images"
            made = _grey_image(self.video.image(frame.name)) if images else grey_map(frame.values)
            self._grey[frame.name] = made
        return self._grey[frame.name]


def _estimator() -> Any:
    """(grey [h, w], grey [h, w]) -> flow [h, w, 2]. InputError: no OpenCV."""
    cv2 = _opencv()
    method = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return lambda one, other: method.calc(one, other, None)


def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        do = "pip install 'segfusion[motion]'"
        raise InputError(f"motion: needs the package opencv-python-headless; {do}") from None
    return cv2


def _grey_image(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture [H, W, 3] in grey, at most WIDEST wide."""
    cv2 = _opencv()
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    factor = min(1.0, WIDEST / grey.shape[1])
    size = (max(1, round(grey.shape[1] * factor)), max(1, round(grey.shape[0] * factor)))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def grey_map(values: Tensor) -> NDArray[np.uint8]:
    """A picture of fused probabilities [C, h, w]: each class has a grey of its own, neighbouring
    ids far apart.
    """
    classes = len(values)
    tones = torch.arange(classes, dtype=torch.float32) * 0.6180339887 % 1
    grey = torch.tensordot(tones.to(values.device), values, dims=1) if classes > 1 else values[0]
    height, width = grey.shape
    factor = max(1.0, LEAST / min(height, width))
    size = (round(height * factor), round(width * factor))
    grey = functional.interpolate(grey[None, None], size, mode="bilinear")[0, 0]
    return np.asarray((grey.clamp(0, 1) * 255).round().cpu().numpy(), np.uint8)


def _resized(flow: Flow, shape: Sequence[int]) -> Tensor:
    """Flow [2, h, w] in pixels of maps of this shape."""
    found = torch.from_numpy(np.ascontiguousarray(flow)).permute(2, 0, 1)[None]
    scale = torch.tensor([shape[1] / found.shape[-1], shape[0] / found.shape[-2]])
    resized = functional.interpolate(found, tuple(shape), mode="bilinear")[0]
    return resized * scale[:, None, None]


def _places(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Where pixels have gone, as `grid_sample` wants it, and whether that is inside."""
    _, height, width = flow.shape
    y, x = torch.meshgrid(
        torch.arange(height, device=flow.device),
        torch.arange(width, device=flow.device),
        indexing="ij",
    )
    there_x, there_y = x + flow[0], y + flow[1]
    inside = (there_x >= 0) & (there_x <= width - 1) & (there_y >= 0) & (there_y <= height - 1)
    scaled = (2 * there_x / max(width - 1, 1) - 1, 2 * there_y / max(height - 1, 1) - 1)
    return torch.stack(scaled, dim=-1)[None], inside


def _looked_up(values: Tensor, grid: Tensor) -> Tensor:
    how = {"mode": "bilinear", "padding_mode": "border", "align_corners": True}
    return functional.grid_sample(values[None], grid, **how)[0]  # type: ignore[arg-type]
