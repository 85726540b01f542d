"""Many models' stores as one prediction."""

from fusion.ensemble.ensemble import Ensemble, single_groups

__all__ = ["Ensemble", "single_groups"]
