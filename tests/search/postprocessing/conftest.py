"""Clips on disk, made once."""

from __future__ import annotations

import pytest

from tests.search.postprocessing.clips import write_clips


@pytest.fixture(scope="session")
def still(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("still"), still=True)


@pytest.fixture(scope="session")
def moving(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("moving"), still=False)
