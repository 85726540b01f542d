"""Each row of the tables beside tests names tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")
# faults: rows of the design, and causes of what was found, by paths below tests/
TABLES = {"faults": (TESTS, 50), "models": (TESTS / "models", 20)}


@pytest.mark.parametrize("room", TABLES)
def test_the_tests_that_rows_name_are_there(room):
    folder, least = TABLES[room]
    rows = [
        line
        for line in (TESTS / room / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and ".py::" in line
    ]
    assert len(rows) >= least
    for row in rows:
        named = NAMED.findall(row)
        assert len(named) == row.count(".py::"), row
        for file, name in named:
            tree = ast.parse((folder / file).read_text(encoding="utf-8"))
            there = {each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)}
            assert f"test_{name}" in there, (row, file, name)
