"""Small files that claim, or unpack to, gigabytes are refused before anybody allocates them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.faults.bombs import BOMBS
from tests.faults.fuzz import ROOT

# what is read all the same, in little memory: nothing in it is asked for
HARMLESS = {"png: 200,000 chunks", "nifti.gz: 100 MB behind its numbers"}


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, str]]:
    """Of every bomb, in one process under a limit of memory."""
    command = [sys.executable, "-m", "tests.faults.bombs"]
    how = {"stdout": subprocess.PIPE, "text": True, "timeout": 300, "cwd": ROOT}
    done = subprocess.run(command, check=True, **how)
    lines = map(json.loads, done.stdout.splitlines())
    return {said["name"]: said for said in lines}


@pytest.mark.parametrize("name", BOMBS)
def test_it_is_refused(outcomes, name):
    assert name in outcomes, "the process died before it"
    said = outcomes[name]
    assert said["outcome"] == ("read" if name in HARMLESS else "refused"), said["what"]
    if name not in HARMLESS:
        assert "\n" not in said["what"]
