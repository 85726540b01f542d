"""Who computes an operation: every backend says what it supports, and one function chooses.

A backend's code for an operation is the module kernels/<operation>/<backend>.py. A new backend is
one entry of BACKENDS, before those it is preferred to, and a module for each operation it takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from fusion.errors import InputError
from fusion.kernels.native import build


@dataclass(frozen=True)
class Backend:
    """name: of its modules. device: type of the tensors it takes. ready: whether it runs here."""

    name: str
    device: str
    ready: Callable[[], bool] = lambda: True


BACKENDS = (
    Backend("triton", "cuda"),  # ROCm devices are "cuda" to torch
    Backend("cpu", "cpu", lambda: build.library() is not None),
    Backend("naive", "cpu"),
)


def choose(operation: str, device: str = "cpu") -> ModuleType:
    """The operation's code for a device type: of the first backend that supports both and is ready.

    NumPy arrays are on "cpu". Raises ValueError for a device that no backend takes.
    """
    for backend in BACKENDS:
        name = f"fusion.kernels.{operation}.{backend.name}"
        if backend.device == device and find_spec(name) is not None and backend.ready():
            return import_module(name)
    raise InputError(f"device: got {device}; fusion runs on cpu and cuda (ROCm included)")
