"""What notebooks show of a store: a small table, every text escaped."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, Protocol

from fusion.stores.format import StoreInfo
from fusion.text import listed


class Summarised(Protocol):
    path: Path
    info: StoreInfo


def summary(store: Summarised, more: Mapping[str, object]) -> str:
    """HTML of at most ten lines.

    Args:
        store: an open store, or its writer.
        more: further rows, at most three.
    """
    info = store.info
    rows: dict[str, Any] = {
        "model": info.model,
        "kept as": f"{info.profile}, of {info.values}",
        "classes": f"{len(info.classes)}: {listed(info.classes, 8)}",
        **more,
    }
    lines = [
        f"<tr><th>{escape(name)}</th><td>{_text(value)}</td></tr>" for name, value in rows.items()
    ]
    title = f"{type(store).__name__} {_text(store.path)}"
    return "\n".join([f"<b>{title}</b>", "<table>", *lines, "</table>"])


def _text(value: object) -> str:
    """Escaped, on one line, without letters that move what stands around them."""
    shown = "".join(c if c.isprintable() else "\ufffd" for c in str(value))
    return escape(shown if len(shown) <= 200 else f"{shown[:200]}...")
