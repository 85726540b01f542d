"""Wheels: what setup.py puts into them, with a compiler and without."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fusion.kernels.native import levels

ROOT = Path(__file__).parents[3]
WHAT = ("fusion", "kernels", "models", "setup.py", "setup.cfg", "pyproject.toml")
TEXTS = ("README.md", "LICENSE")
LINK = """#!/bin/sh
while [ "$1" != -o ]; do shift; done
cp {library} "$2"
"""
USE = """
import pathlib, fusion
from fusion.kernels.native import build
print(pathlib.Path(build.library()._name).relative_to(pathlib.Path(fusion.__file__).parent))
"""


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy, since a build leaves its folders beside the sources; links stay links."""
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in (*WHAT, *TEXTS):
        source, target = ROOT / name, tmp_path / "checkout" / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=ignore)
        else:
            shutil.copy(source, target)
    assert (tmp_path / "checkout/fusion/kernels").is_symlink()
    return tmp_path / "checkout"


def wheel_of(checkout: Path, compiler: Path | str) -> Path:
    out = checkout.parent / "out"
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--no-index", "-w", str(out), str(checkout)],
        env={**os.environ, "CC": str(compiler), "PYTHONPATH": ""},
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    (wheel,) = out.glob("*.whl")
    return wheel


def test_a_wheel_holds_its_kernels_and_their_sources(checkout, tmp_path):
    """Compiled once, and copied by what stands for the compiler: the levels have their own test."""
    library, lowest = tmp_path / "library", next(iter(levels.here()))
    flags = levels.here()[lowest]
    kernels = checkout / "kernels"
    levels.compile_library(kernels, library, levels.compiler(), flags, levels.TIMEOUT)
    compiler = tmp_path / "fakecc"
    compiler.write_text(LINK.format(library=library))
    compiler.chmod(0o755)
    wheel = wheel_of(checkout, compiler)
    assert wheel.name.split("-", 2)[2].startswith("py3-none-")
    assert wheel.stem.endswith(levels.machine())
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    built = {f"fusion/kernels/native/built/{levels.file_name(level)}" for level in levels.here()}
    assert {name for name in names if "/built/" in name} == built
    sources = {f"fusion/{path.relative_to(checkout)}" for path in kernels.glob("*/*.[ch]")}
    assert sources <= names
    assert not any(name.startswith(("kernels", "models")) for name in names)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed"), "CC": "/no/such/cc"}
    environment |= {"FUSION_COMPILED": lowest}
    use = [sys.executable, "-W", "error::RuntimeWarning", "-c", USE]
    done = subprocess.run(
        use, env=environment, capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.stdout.strip() == f"kernels/native/built/{levels.file_name(lowest)}", done.stderr


@pytest.mark.parametrize("compiler", ["/no/such/cc", "false"])
def test_without_a_compiler_a_wheel_holds_the_sources_alone(checkout, compiler):
    wheel = wheel_of(checkout, compiler)
    assert wheel.name.endswith("-py3-none-any.whl") == (compiler != "false")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "fusion/kernels/average/average.c" in names
    assert not any("/built/" in name for name in names)
