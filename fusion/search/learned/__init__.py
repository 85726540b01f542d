"""Learned fusion: heads trained on cells of the stores' maps (fusion.search.learned.method)."""
