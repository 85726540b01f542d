"""Parts of the reference that are made from the registries and parsers, so that they are never old.

`MADE` has a function of no arguments for every `<!-- made: NAME -->`; each returns Markdown.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any

import fusion
from fusion.__main__ import COMMANDS, main, usage
from fusion.ensemble.heads import HEADS
from fusion.labels import LAYOUTS, MAPS
from fusion.metrics import objectives
from fusion.outputs.registry import OUTPUTS
from fusion.postprocess import OPERATIONS
from fusion.search import METHODS
from fusion.stores.importers import IMPORTERS

WIDTH = "84"  # of the help texts, in characters
PARTS = {"stores": ("import", "info", "verify", "gc")}
SECTIONS = {  # where a public name lives -> the heading that it stands under; else its room's name
    "fusion.hierarchical": "Ensembles",
    "fusion.stores": "Stores",
    "fusion.integrations.loader": "Stores",
    "fusion.labels": "Labels",
    "fusion.metrics": "Scores and searches",
    "fusion.search.result": "Scores and searches",
    "fusion.arrays": "Arrays in memory",
    "fusion.errors": "Errors",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [list(head), ["---"] * len(head)]
    lines += [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def code(words: Iterable[object]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def public() -> str:
    """Every name of `fusion.__all__`, under the headings of SECTIONS."""
    found: dict[str, list[str]] = {}
    for name in fusion.__all__:
        home = fusion._HOMES.get(name)
        if home is not None:  # the version and the kernels are no classes or functions
            found.setdefault(SECTIONS.get(home, home.split(".")[1]), []).append(name)
    order = [*dict.fromkeys(SECTIONS.values()), *found]
    parts = [f"## {head}\n\n{_entries('fusion', found[head])}" for head in dict.fromkeys(order)]
    return "\n\n".join(parts)


def kernels() -> str:
    """The public operations."""
    return _entries("fusion.kernels", fusion.kernels.__all__)


def _entries(home: str, names: Iterable[str]) -> str:
    return "\n\n".join(f"::: {home}.{name}" for name in names)


def objective_table() -> str:
    """The table of the module that computes them."""
    lines = (objectives.__doc__ or "").replace("``", "`").splitlines()
    return "\n".join(line for line in lines if line.startswith("|"))


def methods() -> str:
    """Every search method, and its options."""
    rows, parts = [(f"`{kind.name}`", kind.about) for kind in METHODS.values()], []
    for kind in METHODS.values():
        options = [
            (f"`{field.name}`", f"`{flag}`", field.metadata["form"]["help"])
            for flag, field in kind.flags().items()
        ]
        if options:
            parts.append(f"### `{kind.name}`\n\n{table(('option', 'flag', 'what'), options)}")
    return "\n\n".join([table(("method", "what"), rows), *parts])


def heads() -> str:
    rows = [
        (f"`{kind.name}`", kind.about, f"`{kind.below}`" if kind.below else "geometric mean")
        for kind in HEADS.values()
    ]
    return table(("form", "what", "pulled towards"), rows)


def layouts() -> str:
    rows = [
        (f"`{name}`", f"`{kind.holds}`", code(kind.takes), "yes" if kind.splits else "")
        for name, kind in LAYOUTS.items()
    ]
    return table(("layout", "holds", "options", "own splits"), rows)


def class_maps() -> str:
    rows = []
    for name, make in MAPS.items():
        known = make()
        rows.append((f"`{name}`", str(len(known.names) or "any"), code(map(_value, known.void))))
    return table(("map", "classes", "void"), rows)


def _value(value: Any) -> str:
    return str(value)


def importers() -> str:
    rows = [
        (f"`{kind.kind}`", kind.holds, code(field.name for field in fields(kind)))
        for kind in IMPORTERS
    ]
    return table(("kind", "holds", "options"), rows)


def outputs() -> str:
    rows = [
        (f"`{name}`", f"`{kind.about}`", code(field.name for field in fields(kind)))
        for name, kind in OUTPUTS.items()
    ]
    return table(("format", "what", "options"), rows)


def operations() -> str:
    """Every operation of postprocessing, and its parameters."""
    rows = [
        (f"`{name}`", kind.about, kind.stage, code(kind.parameters()))
        for name, kind in OPERATIONS.items()
    ]
    return table(("operation", "does", "works on", "parameters"), rows)


def help_of(*words: str) -> str:
    """What `segfusion WORDS --help` prints."""
    said, before = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDTH
    try:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            main([*words, "--help"])
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before
    return said.getvalue().strip()


def commands() -> str:
    parts = [f"```text\n{usage()}\n```"]
    for name, command in COMMANDS.items():
        if command.first:  # another command with an option
            parts.append(f"## segfusion {name}\n\n{command.help.capitalize()}.")
            continue
        for words in ((name,), *((name, part) for part in PARTS.get(name, ()))):
            title = f"{'##' if len(words) == 1 else '###'} segfusion {' '.join(words)}"
            parts.append(f"{title}\n\n```text\n{help_of(*words)}\n```")
    return "\n\n".join(parts)


MADE: dict[str, Callable[[], str]] = {
    "public": public,
    "kernels": kernels,
    "objectives": objective_table,
    "methods": methods,
    "heads": heads,
    "layouts": layouts,
    "class-maps": class_maps,
    "importers": importers,
    "outputs": outputs,
    "operations": operations,
    "commands": commands,
}
