"""Weights that move: flips along a segment, the best interval, bounds over a simplex."""
