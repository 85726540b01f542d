"""The compiled loops: ``kernels/*/*.c`` built once with the machine's C compiler, loaded by ctypes.

Without a working compiler `library` is None: one warning says so, and the naive paths return the
same bits. No fused multiply-add (-ffp-contract=off) and no -ffast-math: float32 arithmetic is one
rounding per operation, as in `fusion.kernels.arithmetic`.

CC names a compiler, XDG_CACHE_HOME the folder of builds; FUSION_COMPILED=0 turns all this off.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import threading
import warnings
from pathlib import Path

from fusion import files
from fusion.kernels.native import bindings

KERNELS = Path(__file__).parents[1]
FLAGS = (
    *("-std=c11", "-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno"),
    *("-fno-trapping-math", "-shared", "-fPIC"),
)
TIMEOUT = 300  # seconds
LAST_LINES = 5  # of what a compiler says

_lock = threading.Lock()  # callers in several threads make one build and get one warning


class UncompiledWarning(RuntimeWarning):
    """The compiled loops are not to be had; everything works, up to 95 times slower."""


def library() -> ctypes.CDLL | None:
    """The compiled kernels with their types declared, or None where no compiler works."""
    with _lock:
        return _library()


@functools.cache
def _library() -> ctypes.CDLL | None:
    if os.environ.get("FUSION_COMPILED") == "0":
        return None
    try:
        return bindings.declare(ctypes.CDLL(str(_built(_compiler()))))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        warnings.warn(_without(_reason(error)), UncompiledWarning, stacklevel=4)
        return None


def _compiler() -> list[str]:
    name = os.environ.get("CC") or "cc"
    try:
        words = shlex.split(name)
    except ValueError as error:
        raise RuntimeError(f"CC={name!r} is no command: {error}") from error
    if not words or shutil.which(words[0]) is None:
        raise RuntimeError(f"there is no C compiler {name!r}")
    return words


def _built(compiler: list[str]) -> Path:
    """The library of these sources for this processor and compiler, from the cache or built now."""
    sources = sorted(KERNELS.glob("*/*.c"))
    texts = [path.read_text() for path in (*sources, *sorted(KERNELS.glob("*/*.h")))]
    words = "\0".join([_cpu_name(), *compiler, *FLAGS, *texts])
    name = f"kernels-{hashlib.sha256(words.encode()).hexdigest()[:24]}.so"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    target = Path(base) / "segfusion" / name
    if not target.is_file():
        with files.replacing(target) as scratch:  # two processes may build at once
            places = [f"-I{KERNELS / 'native'}", "-o", str(scratch), *map(str, sources)]
            command = [*compiler, *FLAGS, *places, "-lm"]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT)
    return target


def _cpu_name() -> str:
    """-march=native binds a build to a processor; a cache folder may be shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = ("model name", "flags", "Features", "CPU part")
    return "".join(sorted({line for line in lines if line.startswith(names)}))


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        said = (error.stderr or error.stdout or "").strip().splitlines()[-LAST_LINES:]
        return "\n".join([f"{error.cmd[0]} failed with exit code {error.returncode}", *said])
    if isinstance(error, subprocess.TimeoutExpired):
        return f"{error.cmd[0]} was not done after {TIMEOUT} seconds"
    return str(error)


def _without(reason: str) -> str:
    return (
        f"fusion's compiled kernels cannot be built or loaded: {reason}\n"
        "Results stay the same, but the CPU takes up to 95 times as long. Install a C compiler "
        "such as gcc, or name one with CC=...; XDG_CACHE_HOME=... names a folder for the build; "
        "FUSION_COMPILED=0 chooses the slow path in silence."
    )


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)  # its owner may not exist in the child
