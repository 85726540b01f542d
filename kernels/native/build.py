"""The compiled inner steps: ``kernels/*.c`` built once with the machine's C compiler and loaded with ctypes.

Without a compiler `library` returns None and callers take their torch twin, which returns the same bits. No fused multiply-add
(-ffp-contract=off) and no -ffast-math: float32 arithmetic is one rounding per operation, as in kernels/reference.py.
FUSION_COMPILED=0 turns this off; CC names a compiler.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from fusion.kernels.native import bindings

FLAGS = (
    "-std=c11",
    "-O3",
    "-march=native",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-shared",
    "-fPIC",
)


def _cpu_name() -> str:
    """-march=native binds a build to a processor; a cache folder may be shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "".join(
        sorted(
            {
                line
                for line in lines
                if line.startswith(("model name", "flags", "Features", "CPU part"))
            }
        )
    )


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "segfusion"


def _build(compiler: str, sources: list[Path]) -> Path:
    texts = [s.read_text() for s in (*sources, *Path(__file__).parent.glob("*.h"))]
    terms = "\0".join([_cpu_name(), compiler, *FLAGS, *texts])
    key = hashlib.sha256(terms.encode()).hexdigest()[:24]
    folder = _cache_folder()
    target = folder / f"kernels-{key}.so"
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            fresh = Path(scratch) / target.name
            subprocess.run(
                [compiler, *FLAGS, "-o", fresh, *sources, "-lm"],
                check=True,
                capture_output=True,
                timeout=300,
            )
            fresh.replace(target)  # atomic: two processes may build at once
    return target


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where there is no working compiler."""
    compiler = shutil.which(os.environ.get("CC") or "cc")
    if os.environ.get("FUSION_COMPILED") == "0" or compiler is None:
        return None
    try:
        built = _build(compiler, sorted(Path(__file__).parents[1].glob("*/*.c")))
        return bindings.declare(ctypes.CDLL(str(built)))
    except (OSError, subprocess.SubprocessError):
        return None
