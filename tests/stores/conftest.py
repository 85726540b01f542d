"""Fixtures of the store tests."""

from __future__ import annotations

import inspect

import pytest

from fusion.stores import LogitWriter
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


@pytest.fixture
def places(monkeypatch):
    """What importers say of videos beside their numbers: {video: geometry, overwrite}."""
    said, video = {}, LogitWriter.video
    takes = inspect.signature(video).parameters

    def record(self, name, **facts):
        said[name] = {k: facts[k] for k in ("geometry", "overwrite") if k in facts}
        return video(self, name, **{k: v for k, v in facts.items() if k in takes})

    monkeypatch.setattr(LogitWriter, "video", record)
    return said
