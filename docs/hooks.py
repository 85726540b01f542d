"""What the site says of the code, asked of the code: mkdocs calls these while it builds.

`<!-- made: NAME -->` in a page is replaced by what `docs.tables` makes of that name. Documents that
live elsewhere in the repository become pages of the reference.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # `mkdocs build` of a checkout that is not installed

from docs import tables  # noqa: E402

BROUGHT = {
    "reference/benchmarks.md": "benchmarks/README.md",
    "reference/changes.md": "CHANGELOG.md",
    "reference/contributing.md": "CONTRIBUTING.md",
    "reference/security.md": "SECURITY.md",
}
AFTER = "---\nsearch: {boost: 0.5}\n---\n\n"  # pages that answer a question come first
MADE = re.compile(r"^<!-- made: ([\w-]+) -->$", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)#]+)(#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    for page, source in BROUGHT.items():
        text = LINK.sub(_linked, (ROOT / source).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=AFTER + text))
    return files


def _linked(link: re.Match[str]) -> str:
    """A link of a document in the repository as one of the site; its words where there is none."""
    words, target, part = link.groups()
    pages = {source: Path(page).name for page, source in BROUGHT.items()}
    return f"[{words}]({pages[target]}{part or ''})" if target in pages else words


def on_page_markdown(markdown: str, **_: Any) -> str:
    return MADE.sub(lambda match: tables.MADE[match.group(1)](), markdown)
