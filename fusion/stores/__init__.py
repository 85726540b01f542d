"""Logit stores: a model's predictions for a split, written once, never silently different."""

from fusion.stores.codec import GapCodec
from fusion.stores.memory import MemoryStore
from fusion.stores.reader import LogitStore
from fusion.stores.store import Store
from fusion.stores.writer import LogitWriter, VideoWriter

__all__ = ["GapCodec", "LogitStore", "LogitWriter", "MemoryStore", "Store", "VideoWriter"]
