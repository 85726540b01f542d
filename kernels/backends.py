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

from fusion.kernels.native import build


@dataclass(frozen=True)
class Backend:
    """name: of its modules. device: type of the tensors it takes. ready: whether it runs here."""

    name: str
    device: str
    ready: Callable[[], bool] = lambda: True

    def supports(self, operation: str, device: str) -> bool:
        """Whether it takes the operation on a device type; NumPy arrays are on "cpu"."""
        return device == self.device and find_spec(self._module(operation)) is not None

    def module(self, operation: str) -> ModuleType:
        return import_module(self._module(operation))

    def _module(self, operation: str) -> str:
        return f"fusion.kernels.{operation}.{self.name}"


BACKENDS = (
    Backend("triton", "cuda"),  # ROCm devices are "cuda" to torch
    Backend("cpu", "cpu", lambda: build.library() is not None),
    Backend("naive", "cpu"),
)


def choose(operation: str, device: str = "cpu") -> ModuleType:
    """The operation's code for a device type: of the first backend that supports both and is ready.

    Raises ValueError for a device that no backend takes.
    """
    for backend in BACKENDS:
        if backend.supports(operation, device) and backend.ready():
            return backend.module(operation)
    raise ValueError(f"device: got {device}; fusion runs on cpu and cuda (ROCm included)")
