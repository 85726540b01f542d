"""Predictions in memory: fused, and their weights searched, without a store being written.

    found = fusion.search_weights(predictions, labels)     # of a validation set
    maps = fusion.fuse(others, found, labels=True)         # of new images

Shape letters: M models, G groups, N images, T frames, C classes, H W pixels, h w a model's own.
"""

from fusion.arrays.images import fuse
from fusion.arrays.weights import search_weights

__all__ = ["fuse", "search_weights"]
