"""Logit stores: a model's predictions for a split, written once, never silently different."""

from fusion.stores.codec import AngleCodec, GapCodec
from fusion.stores.memory import MemoryStore
from fusion.stores.reader import LogitStore
from fusion.stores.store import Store
from fusion.stores.tiles import TileWriter, tile_positions
from fusion.stores.writer import LogitWriter, PackWriter, VideoWriter

__all__ = [
    "AngleCodec",
    "GapCodec",
    "LogitStore",
    "LogitWriter",
    "MemoryStore",
    "PackWriter",
    "Store",
    "TileWriter",
    "VideoWriter",
    "tile_positions",
]
