"""Stores in the memory of this process, for tests and notebooks."""

from __future__ import annotations

from typing import Any, ClassVar

from fusion.stores.locations.remote import Remote


class Memory(Remote):
    """memory://name/path; gone with the process, and another process has its own."""

    schemes: ClassVar = ("memory",)
    about: ClassVar = "the memory of this process"
    keys: ClassVar = "give memory://NAME/PATH"
    local: ClassVar = True

    @classmethod
    def connect(cls, base: str, host: str) -> Any:
        from obstore.store import MemoryStore

        return MemoryStore()
