"""Tensors that torch.save or safetensors wrote: a file per video, image or frame.

SOURCE/<video>.pt|pth|safetensors            [T, C, H, W], or [C, H, W] of an image
SOURCE/<video>/<frame>.pt|pth|safetensors    [C, H, W]

A file holds a tensor, or a dict of tensors of which `key` chooses one. What torch.load would have
to run code for is refused.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fusion.errors import InputError
from fusion.stores.codec import MAX_FRAME_ELEMENTS
from fusion.stores.importers.arrays import ArrayFiles, choose_key

SUFFIXES = (".safetensors", ".pt", ".pth")


def load_tensor(path: Path, key: str | None) -> np.ndarray:
    """The tensor of a file, or one of them, as an array; code is never run."""
    try:
        named = _safetensors(path, key) if path.suffix == ".safetensors" else _torch(path)
        if isinstance(named, dict):
            named = named[choose_key([*map(str, named)], key, path)]
        return _array(named)
    except InputError:
        raise
    except Exception as error:  # of pickle, zipfile, torch and safetensors
        reason = (str(error) or type(error).__name__).splitlines()[0][:160]
        advice = "save one tensor or a dict of tensors, with torch.save or safetensors"
        raise InputError(f"{path}: not a readable tensor ({reason}); {advice}") from error


def _safetensors(path: Path, key: str | None) -> Any:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:  # its bfloat16 is nothing that NumPy knows
        chosen = choose_key([*file.keys()], key, path)
        return file.get_tensor(chosen)


def _torch(path: Path) -> Any:
    import torch

    if zipfile.is_zipfile(path):  # torch allocates what the members claim
        with zipfile.ZipFile(path) as archive:
            size, there = sum(item.file_size for item in archive.infolist()), path.stat().st_size
        if size > there:  # torch packs nothing
            raise ValueError(f"claims {size} bytes in {there}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what kind of pickle it is
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise TypeError("a pickle of more than tensors, which could run code") from error
    if isinstance(found, dict):
        found = {name: each for name, each in found.items() if isinstance(each, torch.Tensor)}
    elif not isinstance(found, torch.Tensor):
        raise TypeError(f"holds {type(found).__name__}")
    return found


def _array(tensor: Any) -> np.ndarray:
    import torch

    plain = tensor.layout == torch.strided and not tensor.is_quantized
    if not plain or not tensor.dtype.is_floating_point:
        raise TypeError(
            f"holds {tensor.dtype}, {tensor.layout}; floats are needed, plainly laid out"
        )
    if tensor.numel() > MAX_FRAME_ELEMENTS or tensor.untyped_storage().nbytes() < tensor.nbytes:
        raise ValueError(f"claims {list(tensor.shape)}, more than it holds")
    tensor = tensor.detach()
    wide = tensor if tensor.dtype.itemsize == 8 else tensor.float()
    return wide.numpy() if tensor.dtype != torch.float16 else tensor.numpy()


@dataclass(frozen=True)
class Tensors(ArrayFiles):
    """.pt, .pth and .safetensors files."""

    kind: ClassVar[str] = "tensors"
    name: ClassVar[str] = "tensors"
    holds: ClassVar[str] = "<video>.pt|safetensors [T,C,H,W] or <video>/<frame>.pt|safetensors"
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES

    def load(self, path: Path) -> np.ndarray:
        return load_tensor(path, self.key)
