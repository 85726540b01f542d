"""The compiled kernels under the compiler's sanitizers: memory, undefined behaviour, races.

    python -m tests.faults.sanitized [address|undefined|both|thread ...] [--level LEVEL]

Builds the library with the project's own flags and -fsanitize=..., for every level that this
processor has, and runs the kernels' contracts, the generated calls and the threaded ones on it in a
process that has the sanitizer's runtime preloaded. Whatever a sanitizer says fails the run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from fusion.kernels.native import build, levels

ROOT = Path(__file__).parents[2]
LIMIT = 3600  # seconds of one run
CALLS = "tests/faults/test_native_calls.py"
CONTRACTS = (
    *(f"tests/kernels/{name}/test_cpu.py" for name in ("average", "confusion", "contested")),
    *("tests/kernels/head/test_cpu.py", "tests/kernels/upsample/test_cpu.py"),
    *("tests/kernels/resized", "tests/kernels/sweep", "tests/kernels/test_cheap.py", CALLS),
)


@dataclass(frozen=True)
class Sanitizer:
    """flags: of -fsanitize. runtime: its library, preloaded. options: environment, name to text.
    tests: what is run."""

    flags: str
    runtime: str
    options: str
    tests: tuple[str, ...] = CONTRACTS


SANITIZERS = {
    "address": Sanitizer("address", "asan", "detect_leaks=0:halt_on_error=1"),
    "undefined": Sanitizer("undefined", "ubsan", "print_stacktrace=1"),
    "thread": Sanitizer("thread", "tsan", "halt_on_error=0:report_signal_unsafe=0", (CALLS,)),
    # one build and one run for both, where time is short; it ends at the first that is said, for
    # beside the other one undefined behaviour has no file to be said in
    "both": Sanitizer("address,undefined", "asan", "detect_leaks=0:halt_on_error=1"),
}
WHOLE = ("address", "undefined", "thread")
RUNTIMES = ("ASAN", "UBSAN", "TSAN")
# Of another compiler's library, whose waits are its own, no race can be told from order.
FOREIGN = "called_from_lib:libgomp\nrace:libgomp\nrace:libtorch\nrace:libc10\nrace:python\n"
# The system frees an ended thread's own memory in another one, which the kernel tells it of.
FOREIGN += "race:_dl_deallocate_tls\n"


def runtime(name: str) -> Path | None:
    """The sanitizer's library, where this compiler has one."""
    return found(f"lib{SANITIZERS[name].runtime}.so")


def found(library: str) -> Path | None:
    """A library of the compiler's."""
    try:
        words = [*levels.compiler(), f"-print-file-name={library}"]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    except (OSError, RuntimeError, subprocess.SubprocessError):
        return None
    path = Path(said.strip())
    return path if path.is_absolute() and path.is_file() else None


def lacking(name: str) -> str:
    """Why a sanitizer cannot run here; nothing where it can."""
    if not levels.here():
        return f"no level of processor is known for {levels.machine()}"
    return "" if runtime(name) else f"the C compiler has no lib{SANITIZERS[name].runtime}.so"


def usable() -> list[str]:
    """The levels that this processor has, from the lowest."""
    library = build.library()
    return list(levels.here())[: 0 if library is None else library.fusion_level()]


def compiled(name: str, level: str, folder: Path, extra: tuple[str, ...] = ()) -> None:
    """The sanitized library of a level, where `run` looks for it: under the lowest level's name."""
    flags = [*levels.here()[level], f"-fsanitize={SANITIZERS[name].flags}", "-g1", *extra]
    flags.append("-fno-omit-frame-pointer")
    target = folder / levels.file_name(next(iter(levels.here())))
    levels.compile_library(build.KERNELS, target, levels.compiler(), flags, LIMIT)


def run(name: str, folder: Path, arguments: tuple[str, ...]) -> tuple[int, str]:
    """pytest on the library in a folder: its exit code, and what it and the sanitizer said."""
    sanitizer, report = SANITIZERS[name], folder / "report"
    (folder / "foreign").write_text(FOREIGN)
    options = f"{sanitizer.options}:log_path={report}"
    if name == "thread":
        options += f":suppressions={folder / 'foreign'}"
    environment = {
        **os.environ,
        "LD_PRELOAD": f"{runtime(name)} {found('libstdc++.so.6')}",  # whose throw it wraps
        **{f"{each}_OPTIONS": options for each in RUNTIMES},  # two of them where both are asked
        "FUSION_COMPILED": next(iter(levels.here())),
        "OMP_NUM_THREADS": "1" if name == "thread" else "2",
        "OMP_WAIT_POLICY": "PASSIVE",  # torch's threads: those that spin take a busy machine's time
        # blocks of the address sanitizer's are seen too
        "PYTHONMALLOC": "malloc" if sanitizer.runtime == "asan" else "pymalloc",
    }
    command = [sys.executable, "-m", "tests.faults.sanitized", "--child", str(folder), *arguments]
    setarch = shutil.which("setarch")
    if name == "thread" and setarch:  # older runtimes know few layouts of memory
        command = [setarch, "-R", *command]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT
    )
    said = [path.read_text(errors="replace") for path in sorted(folder.glob("report.*"))]
    code = done.returncode or int(any(said))
    return code, "\n".join([done.stdout[-3000:], done.stderr[-3000:], *said])


def child(folder: str, arguments: list[str]) -> int:
    """pytest in this process, whose kernels are those of a folder."""
    build.PACKAGED = Path(folder)
    library = build.library()
    assert library is not None
    assert Path(library._name).parent == Path(folder)
    import pytest

    return int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *arguments]))


def main(words: list[str]) -> int:
    if words[:1] == ["--child"]:
        return child(words[1], words[2:])
    parser = argparse.ArgumentParser(prog="python -m tests.faults.sanitized")
    parser.add_argument("names", nargs="*", metavar="|".join(SANITIZERS), default=[])
    parser.add_argument("--level", action="append", choices=list(levels.here()))
    parser.add_argument("--pytest", nargs=argparse.REMAINDER, default=[], help="instead of all")
    options = parser.parse_args(words)
    if not set(options.names) <= set(SANITIZERS):
        parser.error(f"there is {', '.join(SANITIZERS)}")
    worst = 0
    for name in options.names or WHOLE:
        if reason := lacking(name):
            print(f"{name}: not run: {reason}")
            continue
        for level in options.level or usable():
            with tempfile.TemporaryDirectory() as folder:
                began = time.monotonic()
                compiled(name, level, Path(folder))
                tests = tuple(options.pytest) or SANITIZERS[name].tests
                code, said = run(name, Path(folder), tests)
            worst = max(worst, abs(code))
            print(f"{name}, {level}: {'clean' if not code else said}", flush=True)
            print(f"  {' '.join(tests)}: {time.monotonic() - began:.0f} s", flush=True)
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
