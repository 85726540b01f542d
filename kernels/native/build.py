"""The compiled loops, loaded by ctypes: those of the wheel, or ``kernels/*/*.c`` built here once.

A wheel holds one library for each of a few levels of processor (levels.py), and the highest that
this one has is taken. Elsewhere, as in a checkout, the machine's C compiler builds one for exactly
this processor at first use. Without a working compiler `library` is None: one warning says so, and
the naive paths return the same bits.

FUSION_COMPILED chooses: 0 turns all this off, `native` builds here in any case, and a level's name
(such as x86-64-v3) takes that library of the wheel and no other. CC names a compiler,
XDG_CACHE_HOME the folder of builds.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import subprocess
import threading
import warnings
from pathlib import Path

from fusion import files
from fusion.errors import InputError
from fusion.kernels.native import bindings, levels

KERNELS = Path(__file__).parents[1]
PACKAGED = Path(__file__).with_name("built")  # by setup.py; in wheels alone
TIMEOUT = levels.TIMEOUT
LAST_LINES = 5  # of what a compiler says

_lock = threading.Lock()  # callers in several threads make one build and get one warning


class UncompiledWarning(RuntimeWarning):
    """The compiled loops are not to be had; everything works, up to 95 times slower."""


def library() -> ctypes.CDLL | None:
    """The compiled kernels with their types declared, or None where no compiler works.

    Raises:
        InputError: FUSION_COMPILED names a level that the package or the processor lacks.
    """
    with _lock:
        return _library()


@functools.cache
def _library() -> ctypes.CDLL | None:
    choice = os.environ.get("FUSION_COMPILED", "")
    if choice == "0":
        return None
    found = None if choice == "native" else _packaged("" if choice == "1" else choice)
    if found is not None:
        return bindings.declare(found)
    try:
        return bindings.declare(ctypes.CDLL(str(_built(levels.compiler()))))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        warnings.warn(_without(_reason(error)), UncompiledWarning, stacklevel=4)
        return None


def _packaged(choice: str) -> ctypes.CDLL | None:
    """The wheel's library of a level; of the highest that works here where `choice` is empty."""
    names = list(levels.here())
    lowest = _opened(names[0]) if names else None
    reach = 0 if lowest is None else int(lowest.fusion_level())
    usable = {name: found for name in names[:reach] if (found := _opened(name))}
    if not choice:
        return list(usable.values())[-1] if usable else None
    if choice not in usable:
        words = ", ".join(["0", "native", *usable])
        raise InputError(f"FUSION_COMPILED={choice!r} is not to be had here; choose of {words}")
    return usable[choice]


def _opened(level: str) -> ctypes.CDLL | None:
    """The wheel's library of a level, or None where it is missing or of other sources."""
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(str(PACKAGED / levels.file_name(level)))
        library.fusion_sources.restype = ctypes.c_char_p
        if library.fusion_sources() == _digest().encode():
            return library
    return None


@functools.cache
def _digest() -> str:
    return levels.digest(KERNELS)


def _built(compiler: list[str]) -> Path:
    """The library of these sources for this processor and compiler, from the cache or built now."""
    flags = ["-mcpu=native" if levels.machine() in ("aarch64", "arm64") else "-march=native"]
    words = "\0".join([_cpu_name(), *compiler, *levels.FLAGS, *flags, levels.digest(KERNELS)])
    name = f"kernels-{hashlib.sha256(words.encode()).hexdigest()[:24]}{levels.ENDING}"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    target = Path(base) / "segfusion" / name
    if not target.is_file():
        with files.replacing(target) as scratch:  # two processes may build at once
            levels.compile_library(KERNELS, scratch, compiler, flags, TIMEOUT)
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


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew_lock)  # its owner may not exist in the child
