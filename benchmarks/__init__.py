"""Benchmarks: `python -m benchmarks.fusion`. Nothing here is imported by the library."""
