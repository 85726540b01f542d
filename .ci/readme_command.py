"""Prints the command that README.md has in the fenced block after <!-- command: NAME -->, so that
CI cannot drift from it."""

import re
import sys
from pathlib import Path

name = sys.argv[1]
readme = Path(__file__).parents[1] / "README.md"
found = re.findall(
    rf"<!-- command: {re.escape(name)} -->\n```[a-z]*\n(.+?)\n```",
    readme.read_text(encoding="utf-8"),
    re.DOTALL,
)
if len(found) != 1:
    sys.exit(f"README.md: {len(found)} blocks marked <!-- command: {name} -->, expected one")
print(found[0])
