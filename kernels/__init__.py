"""Fusion kernels. This module stays light: torch and triton load when a kernel is first used."""
