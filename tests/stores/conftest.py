"""Fixtures of the store tests."""

from __future__ import annotations

import pytest

from tests.stores.common import NAMES, TINY, run, write


@pytest.fixture(params=["folder", "pack"])
def store(tmp_path, request):
    """A small store of one video, "v", in a folder of its own or in a pack."""
    return write(tmp_path / "s.zarr", {"v": TINY}, packed=request.param == "pack")


@pytest.fixture
def video_store(tmp_path):
    """The same, in a folder of its own."""
    return write(tmp_path / "s.zarr", {"v": TINY})


@pytest.fixture
def classes(tmp_path):
    (tmp_path / "classes.txt").write_text("\n".join(NAMES) + "\n\n")
    return tmp_path / "classes.txt"


@pytest.fixture
def bring(tmp_path, classes, capsys):
    """Runs the import command on tmp_path/source into tmp_path/s.zarr: (code, stdout, stderr)."""

    def bring(*options, source="source", dest="s.zarr") -> tuple[int, str, str]:
        folders = tmp_path / source, tmp_path / dest
        return run(capsys, "import", *folders, "--classes", classes, *options)

    return bring
