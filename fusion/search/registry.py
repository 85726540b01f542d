"""The search methods by name: a new one is its file and a line here."""

from __future__ import annotations

from typing import Any

from fusion.errors import InputError
from fusion.search.auto import Auto
from fusion.search.exact.climb import Exact
from fusion.search.greedy import Greedy
from fusion.search.grid import Grid
from fusion.search.learned.method import Learned
from fusion.search.method import Method
from fusion.search.study import Optuna


class Methods(dict[str, type[Method]]):
    """Name -> class; InputError for a name that is none."""

    def __missing__(self, name: str) -> Any:
        raise InputError(f"method: got {name!r}; choose one of {list(self)}")


METHODS = Methods({kind.name: kind for kind in (Auto, Grid, Optuna, Greedy, Exact, Learned)})
