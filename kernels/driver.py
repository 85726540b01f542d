"""What a stream of frames through a GPU needs of its driver: memory, two streams, events, graphs.

`Cuda` is torch's (ROCm's too). What uses a driver takes any object of the same methods, so that
tests count launches, copies and waits, and run them as late or as early as a GPU might.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor

from fusion.errors import InputError

Work = Callable[[], None]


class Driver(Protocol):
    """Two queues of one device: `copies`, of copies to it, and `compute`, of all else.

    Work of a queue runs in order; between queues events decide.
    """

    device: torch.device
    copies: Any
    compute: Any

    def pinned(self, size: int) -> Tensor:
        """uint8 [size] of host memory that copies read and write beside other work."""

    def memory(self, size: int) -> Tensor:
        """uint8 [size] of the device's."""

    def event(self) -> Any:
        """A mark that is set when a queue gets to it."""

    def record(self, event: Any, queue: Any) -> None:
        """Sets the mark behind all work of a queue so far."""

    def wait(self, event: Any, queue: Any) -> None:
        """Lets a queue go on when the mark is set; the caller does not wait."""

    def synchronize(self, event: Any) -> None:
        """Lets the caller wait for the mark."""

    def copy(self, target: Tensor, source: Tensor, queue: Any) -> None:
        """Enqueues a copy between pinned memory and the device."""

    def run(self, work: Work, queue: Any) -> None:
        """Enqueues all launches that `work` makes."""

    def graph(self, work: Work, queue: Any) -> Work | None:
        """The launches of `work` recorded, to be enqueued at once by a call; None if it cannot.

        They are the ones for the memory of now. `work` ran before, on the same memory.
        """

    def aside(self) -> AbstractContextManager[Any]:
        """Within it copies to the device are made at once, even while launches are recorded."""

    def current(self) -> Any:
        """The queue of the caller's own launches."""


class Cuda:
    """torch.cuda as a `Driver`.

    Args:
        device: of type "cuda".

    Raises:
        InputError: no Triton, or a driver or GPU that Triton does not take; names it.
    """

    def __init__(self, device: torch.device) -> None:
        check_triton(device)
        self.device = device
        with torch.cuda.device(device):
            self.copies, self.compute = torch.cuda.Stream(device), torch.cuda.Stream(device)
            self._aside, self._pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()

    def pinned(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def memory(self, size: int) -> Tensor:
        with torch.cuda.stream(self.compute):
            return torch.empty(size, dtype=torch.uint8, device=self.device)

    def event(self) -> torch.cuda.Event:
        return torch.cuda.Event()

    def record(self, event: torch.cuda.Event, queue: torch.cuda.Stream) -> None:
        event.record(queue)

    def wait(self, event: torch.cuda.Event, queue: torch.cuda.Stream) -> None:
        queue.wait_event(event)

    def synchronize(self, event: torch.cuda.Event) -> None:
        event.synchronize()

    def copy(self, target: Tensor, source: Tensor, queue: torch.cuda.Stream) -> None:
        with torch.cuda.stream(queue):
            target.copy_(source, non_blocking=True)

    def run(self, work: Work, queue: torch.cuda.Stream) -> None:
        with torch.cuda.stream(queue):
            work()

    def graph(self, work: Work, queue: torch.cuda.Stream) -> Work | None:
        made = torch.cuda.CUDAGraph()
        # what lies between the launches has addresses of its own: their tables are copied aside
        how: dict[str, Any] = {"pool": self._pool, "capture_error_mode": "relaxed"}
        try:
            with torch.cuda.graph(made, stream=queue, **how):
                work()
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            said = f"{self.device}: launches cannot be recorded ({first_line(error)})"
            warnings.warn(f"{said}; each frame is launched by itself", stacklevel=2)
            return None

        def replay() -> None:
            with torch.cuda.stream(queue):
                made.replay()

        return replay

    def aside(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self._aside)

    def current(self) -> torch.cuda.Stream:
        return torch.cuda.current_stream(self.device)


def check_triton(device: torch.device) -> None:
    """InputError where kernels cannot run on a GPU; names what is missing, or what is too old."""
    do = "use device='cpu', or install what is missing"
    try:
        import triton
    except ImportError as error:
        raise InputError(f"device {device}: Triton is not installed ({error}); {do}") from error
    try:
        name = torch.cuda.get_device_name(device)
        with torch.cuda.device(device):
            target = triton.runtime.driver.active.get_current_target()
    except Exception as error:  # whatever a driver's module raises
        got = f"Triton {triton.__version__} finds no driver that it supports"
        raise InputError(f"device {device}: {got} ({first_line(error)}); {do}") from error
    if target.backend == "cuda" and target.arch < OLDEST:
        got = f"{name} has compute capability {target.arch / 10}, the kernels need {OLDEST / 10}"
        raise InputError(f"device {device}: {got}; use device='cpu'")


OLDEST = 80  # compute capability 8.0: what the kernels are compiled for in tests


def first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:200] or type(error).__name__


def out_of_memory(error: BaseException) -> bool:
    """Whether a GPU, or pinned memory beside it, ran out."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "out of memory" in str(error).lower()
    )
