"""The one progress bar: on stderr, shown once half a second has passed.

A `Progress` is a function (items, description, total) -> the same items, shown as they go by; what
takes long asks for one and never draws by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")
Progress = Callable[[Iterable[Any], str, int], Iterable[Any]]


def silent(items: Iterable[Any], description: str, total: int) -> Iterable[Any]:
    """The `Progress` that shows nothing."""
    return items


def progress(
    items: Iterable[Item], description: str, total: int | None = None, unit: str = "step"
) -> Iterable[Item]:
    """The `Progress` that people see."""
    return bar(description, total, unit=unit, iterable=items)


def bar(description: str, total: int | None = None, *, unit: str = "step", **options: Any) -> Any:
    """tqdm's object, for work that comes in no loop: `.update()` and `.close()`.

    Args:
        description: the title.
        total: how many, if that is known.
        unit: what is counted.
        options: tqdm's own.
    """
    from tqdm import tqdm

    shown: dict[str, Any] = {"delay": 0.5, "mininterval": 0.5, "dynamic_ncols": True}
    return tqdm(desc=description, total=total, unit=unit, file=sys.stderr, **shown, **options)
