"""Commands as a user types them, run in this process's Python."""

from __future__ import annotations

import glob
import shlex
import subprocess
import sys
from pathlib import Path


def run(command: str, folder: Path) -> str:
    """What a `segfusion` command prints on stdout, run in a folder; its patterns are expanded.

    RuntimeError: it failed; with what it said.
    """
    words = shlex.split(command)
    words = [each for word in words[1:] for each in _expanded(word, folder)]
    program = [sys.executable, "-m", "fusion", *words]
    done = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command}\n{done.stderr.strip()}")
    return done.stdout


def _expanded(word: str, folder: Path) -> list[str]:
    return sorted(glob.glob(word, root_dir=folder)) or [word] if "*" in word else [word]
