"""Weighted mean over groups of the mean softmax of their models."""
