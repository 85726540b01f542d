"""Fenced blocks of a Markdown page, and a session that runs them in order:

<!-- data: NAME -->          the page's folder holds what `docs.data` makes of NAME, which may
                             also give names to the page's python
<!-- not run: REASON -->     before a block: it is shown only
```python                    run; one namespace a page
```bash                      run; `segfusion` and `cd` in this process
```json title="a.json"       any block with a title is written as that file
```text                      after a block that ran: lines of what it prints, ... for anything
"""

from __future__ import annotations

import contextlib
import doctest
import glob
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docs import data
from fusion.__main__ import main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n+)?"
    r"^(?P<indent> *)```(?P<language>\w+)(?P<facts>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
DATA = re.compile(r"^<!-- data: (\w+) -->$", re.MULTILINE)
RUN = ("python", "bash")
LOOSE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    """A fenced block. mark: of the comment before it. line: of its first line in the page."""

    language: str
    title: str
    text: str
    line: int
    mark: str

    @property
    def shown_only(self) -> bool:
        # .ci/run runs README's two commands in a fresh environment
        return self.mark.startswith(("not run: ", "command: "))


def blocks(page: str) -> list[Block]:
    """All that have a language, in order."""
    found = []
    for match in FENCE.finditer(page):
        lines = match["text"].splitlines(keepends=True)
        text = "".join(line.removeprefix(match["indent"]) for line in lines)
        title = re.search(r'title="([^"]+)"', match["facts"])
        line = page.count("\n", 0, match.start("text")) + 1
        mark = match["mark"] or ""
        found.append(Block(match["language"], title[1] if title else "", text, line, mark))
    return found


def given(page: str) -> list[str]:
    return DATA.findall(page)


@dataclass
class Session:
    """One page in its folder, which is the current one."""

    page: str
    folder: Path
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "page"})
    said: str | None = None  # by the block before

    def run(self, block: Block) -> None:
        """Runs, writes or compares a block; AssertionError and whatever it raises itself."""
        if block.title:
            path = self.folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif block.language == "text" and self.said is not None:
            checker = doctest.OutputChecker()
            where = f"{self.page}:{block.line}"
            message = f"{where} shows\n{block.text}\nbut the block before printed\n{self.said}"
            want, got = f"...\n{block.text}...\n", f".\n{self.said}\n.\n"  # some of its lines
            assert checker.check_output(want, got, LOOSE), message
        if block.title or block.language not in RUN or block.shown_only:
            self.said = None
            return
        with contextlib.redirect_stdout(io.StringIO()) as out:
            run = self._python if block.language == "python" else self._bash
            run(block)
        self.said = out.getvalue()

    def _python(self, block: Block) -> None:
        text = "\n" * (block.line - 1) + block.text  # tracebacks name the page's lines
        exec(compile(text, self.page, "exec"), self.names)

    def _bash(self, block: Block) -> None:
        for line in block.text.replace("\\\n", " ").splitlines():
            for command in line.split("&&"):
                if words := shlex.split(command, comments=True):
                    self._command(words, command)

    def _command(self, words: list[str], command: str) -> None:
        if words[:2] == ["python", "-m"] and words[2].startswith("fusion."):
            words = ["segfusion", words[2].removeprefix("fusion."), *words[3:]]
        if words[0] == "cd":
            os.chdir(words[1])
            self.folder = Path.cwd()
        elif words[:3] == ["python", "-m", "docs.data"]:
            assert data.main(words[3:]) == 0
        elif words[0] == "segfusion":
            with contextlib.redirect_stderr(io.StringIO()) as errors:
                status = main([*_expanded(words[1:])])
            assert status == 0, f"{self.page}: {command}\n{errors.getvalue()}"
        else:
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            how: dict[str, Any] = {"capture_output": True, "text": True, "check": False}
            how["env"] = os.environ | {"PATH": path}
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], **how)
            assert done.returncode == 0, f"{self.page}: {command}\n{done.stderr}"
            print(done.stdout, end="")


def _expanded(words: list[str]) -> Iterator[str]:
    for word in words:
        yield from (sorted(glob.glob(word)) or [word]) if "*" in word else [word]
