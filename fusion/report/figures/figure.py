"""What every figure is: words that say what it shows, and its drawing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from fusion.report.facts import Facts


@dataclass(frozen=True)
class Figure:
    """A figure of the report.

    name: of its files. title: over it. note: how it is read.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    note: ClassVar[str] = ""

    def shown(self, facts: Facts) -> bool:
        """Whether there is anything to draw."""
        raise NotImplementedError

    def alt(self, facts: Facts) -> str:
        """What the figure shows, in sentences with their numbers, for who cannot see it."""
        raise NotImplementedError

    def caption(self, facts: Facts) -> str:
        """What stands under it: how it is read."""
        return self.note

    def spec(self, facts: Facts, width: int) -> dict[str, Any]:
        """Vega-Lite without its configuration.

        Args:
            facts: those of which `shown` is true.
            width: of the whole drawing, in pixels.
        """
        raise NotImplementedError
