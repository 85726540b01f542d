"""Every error this library raises on purpose. One sentence each: what, where, got, what to do."""

from __future__ import annotations


class FusionError(Exception):
    """Base of all library errors; the command line prints its text and exits with code 2."""


class InputError(FusionError, ValueError):
    """The caller's values are wrong: shapes, weights, names, labels."""


class KindError(InputError, TypeError):
    """A value is of a kind that does not go there, whatever it is: text for a number."""


class StoreError(FusionError, OSError):
    """A store or file cannot be used: missing, damaged, of a newer format, not writable."""


class CorruptStoreError(StoreError):
    """Bytes on disk are not the bytes that were committed."""


class StoreConflictError(StoreError):
    """A video is already committed with other frames or bytes; nothing was overwritten."""
