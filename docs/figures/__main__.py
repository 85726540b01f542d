"""python -m docs.figures [NAME ...] [--out DIR]: draws NAME.svg and NAME-dark.svg."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from docs.figures.style import both

HERE = Path(__file__).parent
FIGURES = ("methods", "condensation", "line_search", "multipliers", "selection", "intervals")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m docs.figures", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*FIGURES, []], default=[], metavar="NAME")
    parser.add_argument("--out", type=Path, default=HERE, help="default: beside the scripts")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.names or FIGURES:
        module = importlib.import_module(f"docs.figures.{name}")
        both(module.draw, module.compute(), options.out / name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
