"""Building the compiled loops: what a user is told when that fails, and what works all the same."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from fusion.kernels.native import build
from fusion.kernels.native.build import UncompiledWarning

USE = """
import numpy as np, torch
from fusion import kernels
for _ in range(3):
    ids = np.array([0, 1, 1, 255], np.uint8)
    assert kernels.confusion(ids, np.array([0, 1, 0, 9], np.uint8), 2).tolist() == [[1, 0], [1, 1]]
    z = torch.tensor([[1.0, 2.0], [2.0, 1.0]])
    assert kernels.softmax_average([z], [1]).labels.tolist() == [1, 0]
    assert kernels.upsample_softmax_average([z[None].movedim(0, 1)], [1], (2, 4)).labels.sum() == 4
"""


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """No build in memory or in the cache folder, and none of a wheel."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FUSION_COMPILED", "native")
    build._library.cache_clear()
    yield tmp_path
    build._library.cache_clear()


def fake_compiler(folder: Path, script: str) -> str:
    path = folder / "fakecc"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def one_warning(monkeypatch, compiler: str) -> str:
    monkeypatch.setenv("CC", compiler)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert build.library() is None
        assert build.library() is None
    assert [warning.category for warning in caught] == [UncompiledWarning]
    text = str(caught[0].message)
    assert "up to 95 times as long" in text
    assert "gcc" in text
    assert "CC=" in text
    assert "FUSION_COMPILED=0" in text
    return text


def test_a_compiler_that_fails_is_quoted(fresh, monkeypatch):
    lines = "; ".join(f"echo line {k} >&2" for k in range(20))
    text = one_warning(monkeypatch, fake_compiler(fresh, f"{lines}; exit 3"))
    assert "fakecc failed with exit code 3" in text
    assert "line 19" in text
    assert "line 14" not in text
    assert not (fresh / "cache").exists()


def test_a_missing_compiler_is_named(fresh, monkeypatch):
    assert "no C compiler '/no/such/cc'" in one_warning(monkeypatch, "/no/such/cc")


def test_a_compiler_with_unbalanced_quotes_is_named(fresh, monkeypatch):
    assert "No closing quotation" in one_warning(monkeypatch, "'cc -O2")


def test_checkouts_share_a_build(fresh):
    """The same sources in another folder are the same build."""
    shutil.copytree(build.KERNELS, fresh / "copy")
    other = runpy.run_path(str(fresh / "copy/native/build.py"))
    assert other["KERNELS"] != build.KERNELS
    assert other["_record"](["cc"]) == build._record(["cc"])


def test_a_compiler_that_hangs_is_given_up(fresh, monkeypatch):
    monkeypatch.setattr(build, "TIMEOUT", 0.2)
    text = one_warning(monkeypatch, fake_compiler(fresh, "exec sleep 30"))
    assert "was not done after 0.2 seconds" in text


def test_a_compiler_that_writes_nonsense_is_not_loaded(fresh, monkeypatch):
    script = 'while [ "$1" != -o ]; do shift; done; echo nonsense > "$2"'
    assert "cannot be built or loaded" in one_warning(monkeypatch, fake_compiler(fresh, script))


def test_no_warning_where_the_slow_path_is_a_choice(fresh, monkeypatch):
    monkeypatch.setenv("FUSION_COMPILED", "0")
    monkeypatch.setenv("CC", "/no/such/cc")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert build.library() is None


def test_cc_may_hold_options(fresh, monkeypatch):
    monkeypatch.setenv("CC", "cc -DNOTHING")
    assert build.library() is not None


def test_threads_share_one_build(fresh, monkeypatch):
    compiler = fake_compiler(fresh, f'echo x >> {fresh}/runs; exec cc "$@"')
    monkeypatch.setenv("CC", compiler)
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(build.library())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert None not in found
    assert (fresh / "runs").read_text() == "x\n"


@pytest.mark.parametrize("choice", ["native", "0"])
def test_a_process_is_warned_once_and_gets_its_results(tmp_path, choice):
    environment = {**os.environ, "CC": fake_compiler(tmp_path, "echo cannot compile >&2; exit 1")}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "PYTHONWARNINGS": "always"}
    environment |= {"FUSION_COMPILED": choice}
    command = [sys.executable, "-c", USE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("UncompiledWarning") == (1 if choice == "native" else 0)
    assert ("cannot compile" in done.stderr) == (choice == "native")
