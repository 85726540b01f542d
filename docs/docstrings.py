"""Docstrings that say `__doc__ = Other.__doc__`: griffe reads sources and does not run them."""

from __future__ import annotations

import ast
from typing import Any

import griffe


class Borrowed(griffe.Extension):
    """A class that has another's docstring is shown with it."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        lender = getattr(cls.members.get("__doc__"), "value", None)
        if cls.docstring or lender is None:
            return
        name = ast.unparse(ast.parse(str(lender))).removesuffix(".__doc__")
        home = cls.module.resolve(name)
        file = griffe.load(home.rpartition(".")[0], resolve_aliases=True)
        cls.docstring = file[home.rpartition(".")[2]].docstring
