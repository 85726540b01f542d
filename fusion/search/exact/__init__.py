"""Exact line search over weights, and how far its best can be from the best there is."""
