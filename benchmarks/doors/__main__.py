"""python -m benchmarks.doors [NAME ...]: each door on data that it makes, with its lines."""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import tempfile
import time
from pathlib import Path
from types import ModuleType

from fusion.text import table

DOORS = ("binary", "volumes", "rasters", "cityscapes", "huggingface", "arrays")


def door(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.doors.{name}")


def glue(module: ModuleType) -> int:
    """Lines that a user writes: commands, or the statements of `use` without imports and return."""
    if commands := getattr(module, "COMMANDS", None):
        return len(commands)
    (function,) = ast.parse(inspect.getsource(module.use)).body
    nodes = (node for node in ast.walk(function) if isinstance(node, ast.stmt))
    plain = (ast.FunctionDef, ast.Import, ast.ImportFrom, ast.Return)
    return sum(not isinstance(node, plain) for node in nodes)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.doors", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*DOORS, []], default=[], metavar="NAME")
    rows = []
    for name in parser.parse_args().names or DOORS:
        module = door(name)
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "data"
            module.make(root)
            began = time.perf_counter()
            module.use(root)
            rows.append((name, str(glue(module)), f"{time.perf_counter() - began:.1f}"))
    print(table(rows, ("door", "lines", "seconds")))


if __name__ == "__main__":
    main()
