"""Compilers that fail, hang, are another or write something else; two builds at once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fusion.kernels.native import build, levels
from fusion.kernels.native.build import UncompiledWarning
from tests.faults.compiled import COPY, built, compiler, empty_cache, kept_file, runs, said, works

USE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # which jobs in the background ignore
from fusion.kernels.native import build
print(build.library() is not None)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    return built(tmp_path_factory.mktemp("library"))


@pytest.fixture
def cache(tmp_path, library, monkeypatch):
    """The folder in which builds will be kept."""
    yield from empty_cache(tmp_path, library, monkeypatch)


def broken(kind: str, library: Path) -> bytes:
    content = library.read_bytes()
    return {
        "garbage": b"nonsense" * 1000,
        "empty": b"",
        "another architecture": content[:18] + b"\xf3\x00" + content[20:],
        "32 bits": content[:4] + b"\x01" + content[5:],
        "cut": content[: len(content) // 2],
        "cut short": content[:4096],
        "header alone": content[:60],
        "other sources": content.replace(build._digest().encode(), b"0" * 24),
        "no function": content.replace(b"fusion_average", b"fusion_avarage"),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("garbage", "file too short|invalid ELF header"),
        ("empty", "too short"),
        ("another architecture", "cannot be built or loaded"),
        ("32 bits", "wrong ELF class"),
        ("cut", "a library of [0-9]+ bytes, of which there are [0-9]+"),
        ("cut short", "of which there are 4096"),
        ("header alone", "of which there are 60"),
        ("other sources", "is of other sources"),
        ("no function", "lacks a function .*undefined symbol: fusion_average"),
    ],
)
def test_a_compiler_that_writes_something_else(cache, tmp_path, library, monkeypatch, kind, words):
    (tmp_path / "broken").write_bytes(broken(kind, library))
    compiler(monkeypatch, tmp_path, COPY.format(tmp_path / "broken"))
    text = said(UncompiledWarning)
    assert re.search(words, text), text
    assert not cache.exists()


def test_a_compiler_that_writes_nothing(cache, tmp_path, monkeypatch):
    compiler(monkeypatch, tmp_path, "exit 0")
    assert "fakecc wrote no library" in said(UncompiledWarning)


def test_a_compiler_that_prints_without_end_is_quoted_at_its_last(cache, tmp_path, monkeypatch):
    script = "head -c 30000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 1"
    compiler(monkeypatch, tmp_path, script)
    text = said(UncompiledWarning)
    assert "the end" in text
    assert len(text) < 100_000


def test_another_compiler_of_the_same_name_builds_again(cache, tmp_path, library, monkeypatch):
    kept_file(cache)
    compiler(monkeypatch, tmp_path, f"{COPY.format(library)}  # a newer version")
    assert works()
    assert runs(cache) == 2


def gone(pid: int) -> bool:
    """Whether a process has ended, or is only to be waited for by somebody."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_compiler_that_hangs_is_ended_with_all_that_it_started(
    cache, tmp_path, monkeypatch, capsys
):
    """After a line on stderr, which nobody else says."""
    monkeypatch.setattr(build, "TIMEOUT", 0.6)
    monkeypatch.setattr(levels, "PATIENCE", 0.3)
    compiler(monkeypatch, tmp_path, f"sleep 300 & echo $! > {tmp_path}/child; wait")
    assert "was not done after 0.6 seconds" in said(UncompiledWarning)
    line = f"fusion: building the compiled kernels with {os.environ['CC']}, once ...\n"
    assert capsys.readouterr().err == line
    assert gone(int((tmp_path / "child").read_text()))


def test_a_quick_build_says_nothing(cache, capsys):
    assert works()
    assert capsys.readouterr().err == ""


def started() -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", USE], **pipes)


def test_ctrl_c_ends_the_compiler_and_leaves_nothing(cache, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    name = f"mv {tmp_path}/number {tmp_path}/child"  # whole at once
    compiler(monkeypatch, tmp_path, f"sleep 300 & echo $! > {tmp_path}/number; {name}; wait")
    process = started()
    while not (tmp_path / "child").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 130), text
    assert gone(int((tmp_path / "child").read_text()))
    assert list(scratch.iterdir()) == []
    assert not cache.exists()


def test_two_processes_that_build_at_once(cache, tmp_path, library, monkeypatch):
    """Both wait until the other builds too; both have a library, and one is kept."""
    wait = f"while [ $(wc -l < {tmp_path}/runs) -lt 2 ]; do sleep 0.05; done"
    compiler(monkeypatch, tmp_path, f"{wait}\n{COPY.format(library)}")
    processes = [started() for _ in range(2)]
    for process in processes:
        out, text = process.communicate(timeout=120)
        assert (out, process.returncode) == ("True\n", 0), text
    assert len(list(cache.iterdir())) == 1
    assert works()
    assert runs(cache) == 2


@pytest.mark.parametrize("kills", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_a_build_that_is_killed(cache, tmp_path, library, monkeypatch, kills):
    """At moments over all of it, -9: afterwards there is a whole build or none."""
    compiler(monkeypatch, tmp_path, f"sleep 0.1; {COPY.format(library)}")
    began = time.monotonic()
    started().communicate(timeout=60)
    took = time.monotonic() - began
    whole = kept_file(cache).read_bytes()
    for kill in range(kills):
        kept_file(cache).unlink()
        process = started()
        time.sleep(took * (kill + 1) / (kills + 1))
        process.kill()
        process.communicate(timeout=60)
        left = [path for path in cache.iterdir() if not path.name.endswith(".tmp")]
        assert [path.read_bytes() for path in left] in ([], [whole])
        assert works()
        for path in cache.glob(".*.tmp"):
            path.unlink()
