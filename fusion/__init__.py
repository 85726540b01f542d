"""segfusion: cache many segmentation models' logits, fuse them at memory speed, weight honestly.

The public names below load on first use, so that ``import fusion`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fusion import interrupts
from fusion.version import __version__

interrupts.starting()  # before anything that takes long

if TYPE_CHECKING:
    from fusion import kernels
    from fusion.arrays import fuse, search_weights
    from fusion.errors import (
        CorruptStoreError,
        FusionError,
        InputError,
        StoreConflictError,
        StoreError,
    )
    from fusion.hierarchical import HierarchicalEnsemble
    from fusion.integrations.loader import cache_predictions
    from fusion.labels import Labels
    from fusion.metrics import Scores
    from fusion.search.result import SearchResult
    from fusion.stores import LogitStore, LogitWriter, MemoryStore

_ERRORS = ("FusionError", "InputError", "StoreError", "CorruptStoreError", "StoreConflictError")
_HOMES = dict.fromkeys(_ERRORS, "fusion.errors") | {
    "HierarchicalEnsemble": "fusion.hierarchical",
    "LogitStore": "fusion.stores",
    "LogitWriter": "fusion.stores",
    "MemoryStore": "fusion.stores",
    "Labels": "fusion.labels",
    "Scores": "fusion.metrics",
    "SearchResult": "fusion.search.result",
    "cache_predictions": "fusion.integrations.loader",
    "fuse": "fusion.arrays",
    "search_weights": "fusion.arrays",
}
__all__ = [
    "CorruptStoreError",
    "FusionError",
    "HierarchicalEnsemble",
    "InputError",
    "Labels",
    "LogitStore",
    "LogitWriter",
    "MemoryStore",
    "Scores",
    "SearchResult",
    "StoreConflictError",
    "StoreError",
    "__version__",
    "cache_predictions",
    "fuse",
    "kernels",
    "search_weights",
]


def __getattr__(name: str) -> Any:
    if name == "kernels":
        return importlib.import_module("fusion.kernels")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'fusion' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
