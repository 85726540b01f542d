"""The page: facts as one HTML file."""

from __future__ import annotations

import html
from pathlib import Path

from fusion import files
from fusion.report.facts import Facts

MARKER = "<!-- segfusion report -->"


def write_page(facts: Facts, out: Path, *, figures: bool = True) -> list[Path]:
    """Writes report.html into a folder; returns what was written."""
    text = f"<!doctype html>\n{MARKER}\n<title>{html.escape(facts.title)}</title>\n"
    files.write_bytes(out / "report.html", f"{text}<p>{html.escape(facts.verdict)}</p>\n".encode())
    return [out / "report.html"]
