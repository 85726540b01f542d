"""Logit stores: one model's predictions for one split, written once, read often, never silently different."""

from fusion.stores.codec import GapCodec
from fusion.stores.reader import LogitStore
from fusion.stores.writer import LogitWriter, VideoWriter

__all__ = ["GapCodec", "LogitStore", "LogitWriter", "VideoWriter"]
