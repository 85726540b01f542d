"""What the tests of compiled kernels share: a compiler that is quick, and a process's first use.

A script stands for the compiler: it counts its runs and copies the library that was built before.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from fusion import kernels
from fusion.kernels.native import build, kept, levels
from fusion.kernels.native.build import PrivateBuildWarning, UncompiledWarning

COPY = 'while [ "$1" != -o ]; do shift; done; cp {} "$2"'


def built(folder: Path) -> Path:
    """The kernels, out of the ordinary cache."""
    path, words = folder / "kernels", levels.compiler()
    build.library()
    path.write_bytes(kept.read(build._record(words)) or build._compiled(words, build._flags()))
    return path


def empty_cache(tmp_path: Path, library: Path, monkeypatch) -> Iterator[Path]:
    """An empty cache and a compiler that is quick; the folder in which builds are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FUSION_COMPILED", "native")
    compiler(monkeypatch, tmp_path, COPY.format(library))
    build._library.cache_clear()
    yield tmp_path / "cache/segfusion/compiled"
    build._library.cache_clear()


def compiler(monkeypatch, folder: Path, script: str) -> None:
    path = folder / "fakecc"
    path.write_text(f"#!/bin/sh\necho x >> {folder}/runs\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("CC", str(path))


def runs(cache: Path) -> int:
    return len((cache.parents[2] / "runs").read_text().split())


def works() -> bool:
    """A new process's first use, and a result."""
    build._library.cache_clear()
    found = build.library()
    labels = kernels.softmax_average([torch.eye(3)], [1]).labels
    return found is not None and labels.tolist() == [0, 1, 2]


def said(category: type[Warning]) -> str:
    """The one warning of a first use, which is of this category."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert works() == (category is PrivateBuildWarning)
        assert (build.library() is None) == (category is UncompiledWarning)
    assert [warning.category for warning in caught] == [category]
    return str(caught[0].message)


def kept_file(cache: Path) -> Path:
    assert works()
    (path,) = cache.iterdir()
    return path
