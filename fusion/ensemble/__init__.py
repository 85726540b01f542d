"""Many models' stores as one prediction."""

from fusion.ensemble.ensemble import Ensemble
from fusion.ensemble.groups import single_groups

__all__ = ["Ensemble", "single_groups"]
