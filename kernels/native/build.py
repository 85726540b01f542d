"""The compiled loops, loaded by ctypes: those of the wheel, or ``kernels/*/*.c`` built here once.

A wheel holds one library for each of a few levels of processor (levels.py), and the highest that
this one has is taken: those files are as trusted as the Python beside them. Elsewhere, as in a
checkout, the machine's C compiler builds one for exactly this processor at first use, and kept.py
says which builds of a cache are loaded. Without a working compiler `library` is None: one warning
says so, and the naive paths return the same bits.

FUSION_COMPILED chooses: 0 turns all this off, `native` builds here in any case, and a level's name
(such as x86-64-v3) takes that library of the wheel and no other. CC names a compiler,
XDG_CACHE_HOME the folder of caches.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path

from fusion.errors import InputError
from fusion.kernels.native import bindings, kept, levels

KERNELS = Path(__file__).parents[1]
PACKAGED = Path(__file__).with_name("built")  # by setup.py; in wheels alone
TIMEOUT = levels.TIMEOUT
LAST_LINES = 5  # of what a compiler says

_REFUSED = (OSError, RuntimeError, kept.Untrusted)  # of the cache, or of what lies there

_lock = threading.Lock()  # callers in several threads make one build and get one warning


class UncompiledWarning(RuntimeWarning):
    """The compiled loops are not to be had; everything works, up to 95 times slower."""


class PrivateBuildWarning(RuntimeWarning):
    """The compiled loops work, but there is no folder to keep them in: each process builds them."""


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
        return _built(levels.compiler())
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


def _built(compiler: list[str]) -> ctypes.CDLL:
    """The library of these sources for this processor and compiler, from the cache or built now."""
    record, doubt = _record(compiler), ""
    try:
        library = kept.read(record)
        if library is not None:
            return _usable(library)
    except _REFUSED as error:
        doubt = _words(error)
    library = _compiled(compiler, _flags())
    found = _usable(library)
    try:
        kept.write(record, library)
    except _REFUSED as error:
        warnings.warn(_unkept(error), PrivateBuildWarning, stacklevel=5)
    else:
        if doubt:
            _say(f"the compiled kernels in {kept.cache_folder()} were built again: {doubt}")
    return found


def _record(compiler: list[str]) -> dict[str, str]:
    """What a build depends on."""
    program = Path(shutil.which(compiler[0]) or compiler[0]).resolve()
    found = program.stat()  # an update is another compiler
    return {
        "sources": _digest(),
        "compiler": shlex.join(compiler),
        "program": f"{program} {found.st_size} {found.st_mtime_ns}",
        "flags": shlex.join([*levels.FLAGS, *_flags()]),
        "processor": hashlib.sha256(_cpu_name().encode()).hexdigest(),
    }


def _flags() -> list[str]:
    native = "-mcpu=native" if levels.machine() in ("aarch64", "arm64") else "-march=native"
    return [native]


def _compiled(compiler: list[str], flags: list[str]) -> bytes:
    """A library as the compiler writes it, in a folder that is this user's alone."""

    def slow() -> None:
        _say(f"building the compiled kernels with {shlex.join(compiler)}, once ...")

    with tempfile.TemporaryDirectory(prefix="segfusion-", ignore_cleanup_errors=True) as folder:
        target = Path(folder) / "library"
        levels.compile_library(KERNELS, target, compiler, flags, TIMEOUT, slow=slow, umask=0o077)
        try:
            return kept.read_own(target)
        except (OSError, kept.Untrusted) as error:
            raise RuntimeError(f"{compiler[0]} wrote no library ({error})") from error


def _usable(library: bytes) -> ctypes.CDLL:
    """These bytes as a library with all functions. OSError or RuntimeError: they are none."""
    found = kept.loaded(library)
    try:
        bindings.declare(found)
    except AttributeError as error:
        raise RuntimeError(f"the library lacks a function ({error})") from error
    if found.fusion_sources() != _digest().encode():
        raise RuntimeError("the library is of other sources")
    return found


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


def _say(text: str) -> None:
    print(f"fusion: {text}", file=sys.stderr, flush=True)


def _words(error: Exception) -> str:
    """Without paths by way of a handle."""
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _unkept(error: Exception) -> str:
    with contextlib.suppress(RuntimeError):  # no home
        error = RuntimeError(f"{kept.cache_folder()} ({_words(error)})")
    return (
        f"fusion's compiled kernels cannot be kept: {error}\n"
        "They were built for this process alone, and will be for each. XDG_CACHE_HOME=... names "
        "a folder that is yours and that nobody else can write to."
    )


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
