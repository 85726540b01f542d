"""What a wheel's kernels are compiled for: one library for every level of a processor's features.

Plain Python alone: setup.py runs this file before anything is installed. All levels give the same
bits: no fused multiply-add (-ffp-contract=off) and no -ffast-math, so that float32 arithmetic is
one rounding per operation, as in `fusion.kernels.arithmetic`.

CC names a compiler; the loops are GNU C, which gcc and clang (on Windows too) understand.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FLAGS = (
    *("-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-shared"),
    *(() if os.name == "nt" else ("-fPIC",)),
)
TIMEOUT = 300  # seconds
PATIENCE = 2  # seconds without a word
HEARD = 64 << 10  # bytes of what a compiler says, the last ones
DEFAULT = "clang" if os.name == "nt" else "cc"
ENDING = ".dll" if os.name == "nt" else ".so"

# From the lowest, as fusion_level of level.c counts them.
_WIDE = ("-march=x86-64-v4", "-mprefer-vector-width=512")  # clang would take half a register
_X86 = {
    "x86-64-v2": ("-march=x86-64-v2",),
    "x86-64-v3": ("-march=x86-64-v3",),
    "x86-64-v4": _WIDE,
    "x86-64-v4-vbmi": (*_WIDE, "-mavx512vbmi"),
}
_ARM: dict[str, tuple[str, ...]] = {"arm64": ()}  # NEON belongs to all of them
_LEVELS: dict[str, dict[str, tuple[str, ...]]] = {
    **{"x86_64": _X86, "amd64": _X86},
    **{"aarch64": _ARM, "arm64": _ARM},
}


def machine() -> str:
    """The processor that this Python is built for, or (of two in one file) runs on."""
    name = sysconfig.get_platform().rsplit("-", 1)[-1].lower()
    return platform.machine().lower() if name == "universal2" else name


def here() -> dict[str, tuple[str, ...]]:
    """Names and flags of the levels of this kind of processor, from the lowest; maybe none."""
    return _LEVELS.get(machine(), {})


def file_name(level: str) -> str:
    return f"kernels-{level}{ENDING}"


def compiler() -> list[str]:
    """The words of CC, or of what such a compiler is usually called.

    Raises:
        RuntimeError: there is none of this name.
    """
    name = os.environ.get("CC") or DEFAULT
    try:
        words = shlex.split(name)
    except ValueError as error:
        raise RuntimeError(f"CC={name!r} is no command: {error}") from error
    if not words or shutil.which(words[0]) is None:
        raise RuntimeError(f"there is no C compiler {name!r}")
    return words


def digest(kernels: Path) -> str:
    """Of all C below the folder `kernels`, wherever that lies."""
    paths = (*sorted(kernels.glob("*/*.c")), *sorted(kernels.glob("*/*.h")))
    texts = [path.read_text(encoding="utf-8") for path in paths]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:24]


def compile_library(
    kernels: Path,
    target: Path,
    words: Sequence[str],
    flags: Sequence[str],
    timeout: float,
    *,
    slow: Callable[[], None] = lambda: None,
    umask: int = -1,
) -> None:
    """Compiles all C below `kernels` into one library, which knows the digest of its sources.

    Args:
        kernels: folder of the operations' folders.
        target: file to write.
        words: the compiler's command.
        flags: of the processor.
        timeout: seconds.
        slow: called once, if it takes more than PATIENCE.
        umask: of the compiler; -1 is this process's.

    Raises:
        subprocess.SubprocessError: the compiler fails, or takes longer.
    """
    command = [*words, *FLAGS, *flags, f'-DFUSION_SOURCES="{digest(kernels)}"']
    if sys.platform == "darwin":
        command += ["-arch", machine()]  # the wheel's, where it is built for another
    command += [f"-I{kernels / 'native'}", "-o", str(target)]
    command += [*map(str, sorted(kernels.glob("*/*.c"))), *(() if os.name == "nt" else ("-lm",))]
    _run(command, timeout, slow, umask)


def _run(command: list[str], timeout: float, slow: Callable[[], None], umask: int) -> None:
    """Runs a compiler to its end, or it and all that it started to theirs."""
    own_group = {} if os.name == "nt" else {"process_group": 0, "umask": umask}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, **pipes, **own_group)  # type: ignore[call-overload]
    said = bytearray()

    def listen() -> None:
        with process.stdout as pipe:
            while part := pipe.read1(HEARD):
                said.extend(part)
                del said[:-HEARD]

    ear = threading.Thread(target=listen, daemon=True)  # a compiler's child may hold the pipe
    ear.start()
    try:
        try:
            process.wait(min(timeout, PATIENCE))
        except subprocess.TimeoutExpired:
            slow()
            process.wait(max(0, timeout - PATIENCE))
    finally:
        if process.poll() is None:  # late, or the user has stopped this
            with contextlib.suppress(OSError):
                _kill(process)
            process.wait()
        ear.join(1)
    if process.returncode:
        text = bytes(said).decode(errors="replace")
        raise subprocess.CalledProcessError(process.returncode, command, stderr=text)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)


def compile_levels(kernels: Path, folder: Path) -> list[Path]:
    """A library in `folder` for every level of this kind of processor.

    Raises:
        RuntimeError: there is no compiler.
        subprocess.SubprocessError: it fails.
    """
    words, levels = compiler(), here()
    folder.mkdir(parents=True, exist_ok=True)
    targets = [folder / file_name(level) for level in levels]

    def task(target: Path, flags: tuple[str, ...]) -> None:
        compile_library(kernels, target, words, flags, TIMEOUT)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(task, targets, levels.values()))
    return targets
