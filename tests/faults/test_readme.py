"""Each row of the table of faults names tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def test_the_tests_that_rows_name_are_there():
    rows = [
        line
        for line in (TESTS / "faults" / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and ".py::" in line
    ]
    assert len(rows) >= 50  # rows of the design, and causes of what was found
    for row in rows:
        named = NAMED.findall(row)
        assert len(named) == row.count(".py::"), row
        for file, name in named:
            tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
            there = {each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)}
            assert f"test_{name}" in there, (row, file, name)
