"""The groups of an ensemble as people give them, opened: names and lists of stores."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fusion.errors import InputError
from fusion.stores import LogitStore, Store
from fusion.stores.locations import location_of

StoreLike = str | Path | Store
Groups = Mapping[str, Sequence[StoreLike] | StoreLike] | Sequence[StoreLike] | StoreLike
Stores = tuple[Store, ...]
Opened = Mapping[str, Sequence[Store]]
MOST_NAMED = 6  # models that a line can name


def named_groups(groups: Groups) -> Mapping[str, Sequence[StoreLike] | StoreLike]:
    """Groups with their names, of which those that are given with names are not opened yet.

    Args:
        groups: name -> stores, of which one may stand alone; or stores, each then a group of its
            own, named by its model. A store is an open one, a path, a URL, or a glob for several.

    Raises:
        InputError: no store, one twice, or a glob without a match.
    """
    return groups if isinstance(groups, Mapping) else single_groups(_opened("groups", groups, {}))


def open_groups(groups: Mapping[str, Sequence[StoreLike] | StoreLike]) -> dict[str, Stores]:
    """Every group's stores in their order of summation; raises as `named_groups`."""
    once: dict[str, Store] = {}  # a store in two groups is opened, and read, once
    opened = {name: _opened(f"group {name!r}", given, once) for name, given in groups.items()}
    return {name: tuple(sorted(stores, key=_order)) for name, stores in opened.items()}


def single_groups(stores: Sequence[Store]) -> dict[str, list[Store]]:
    """Group names for single stores: the model's name, its place where two models share one."""
    names = [store.model for store in stores]
    return {s.model if names.count(s.model) == 1 else s.place: [s] for s in stores}


def said_groups(groups: Opened, weights: Mapping[str, float]) -> str:
    """Equation 1 in a line: weights, groups, and their models where these are few."""
    few = sum(map(len, groups.values())) <= MOST_NAMED

    def members(name: str) -> str:
        models = [store.model for store in groups[name]]
        if models == [name]:
            return ""
        return f" ({', '.join(models) if few else len(models)})"

    return " + ".join(f"{weights[name]:g} x {name}{members(name)}" for name in groups)


def _order(store: Store) -> tuple[str, str]:
    return store.model, store.identity


def _opened(where: str, given: Any, once: dict[str, Store]) -> list[Store]:
    """The stores that are meant, as listed; `once` has all opened so far, by identity."""
    alone = isinstance(given, str | Path | Store)
    members = [given] if alone else _listed(given)
    if not members or not all(isinstance(member, str | Path | Store) for member in members):
        raise InputError(f"{where}: got {given!r:.60}; give a list of at least one store")
    opened: list[Store] = []
    for member in members:
        found = [member] if isinstance(member, Store) else _matching(where, member)
        for store in found:
            name = store.identity if isinstance(store, Store) else location_of(store).identity
            if name not in once:
                once[name] = store if isinstance(store, Store) else LogitStore(store)
            if once[name] in opened:
                raise InputError(f"{where}: store {name} stands in it twice; list each store once")
            opened.append(once[name])
    return opened


def _listed(given: Any) -> list[Any]:
    scalar = getattr(given, "ndim", None) == 0  # an array, which is iterable all the same
    return list(given) if isinstance(given, Iterable) and not scalar else []


def _matching(where: str, pattern: str | Path) -> Sequence[str | Path]:
    """What a path or glob means, in order; a path that exists is never a glob."""
    if os.path.lexists(pattern) or not glob.has_magic(str(pattern)):
        return [pattern]
    if found := location_of(pattern).matching():
        return found
    got = f"no store matches {str(pattern)!r} from folder {Path.cwd()}"
    raise InputError(f"{where}: {got}; correct the pattern")
