"""A logit store of the fused probabilities: the ensemble as one model of another one, or as the
teacher of a network (pseudo labels)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from fusion.errors import StoreConflictError
from fusion.outputs.content import Content
from fusion.outputs.output import Output, Part, option
from fusion.outputs.unit import Unit
from fusion.stores import LogitWriter
from fusion.stores.format import COMMIT, METADATA, Values, video_key
from fusion.stores.reader import read_group

PROVENANCE = {"fused": "probabilities of an ensemble"}


@dataclass(frozen=True)
class Store(Output):
    """<out> is a store of values "probabilities", or "sigmoid-probabilities" of channels, at the
    labels' resolution. Ids of units may be any; multipliers and thresholds are not in it.
    """

    name: ClassVar = "store"
    about: ClassVar = "<out> a logit store of the probabilities, a model of the next ensemble"
    keeps: ClassVar = ("probabilities",)
    packed: ClassVar = ("**/*",)

    profile: str | None = option(
        "--profile", "compact or exact (default compact)", choices=("compact", "exact")
    )
    model: str | None = option("--model", "its name (default OUT's)", metavar="NAME")

    def parts(self, unit: Unit) -> list[Part]:
        return [Part((video_key(unit.video),), unit.frames)]

    def look(self, out: Path, content: Content) -> None:
        """That a store which is there is of this kind."""
        if not os.path.lexists(out / METADATA):
            return
        found, _ = read_group(out)
        wanted = self._facts(out, content)
        for name, value in wanted.items():
            have = getattr(found, name)
            if have != value:
                got = f"holds a store with {name} {have!r:.80}, got {value!r:.80}"
                raise StoreConflictError(f"{out}: {got}; choose another folder")

    def _facts(self, out: Path, content: Content) -> dict[str, object]:
        values = "sigmoid-probabilities" if content.independent else "probabilities"
        facts = {"classes": content.names, "profile": self.profile or "compact", "values": values}
        return {**facts, "model": self.model or out.absolute().stem}

    def is_whole(self, path: Path) -> bool:
        commit = path / COMMIT
        return not path.is_symlink() and os.path.lexists(commit) and super().is_whole(commit)

    def is_mine(self, path: Path) -> bool:
        return True  # no other folder has such a name

    def write(
        self, out: Path, unit: Unit, parts: Sequence[Part], content: Content, *, overwrite: bool
    ) -> None:
        facts = self._facts(out, content)
        values: Values = "sigmoid-probabilities" if content.independent else "probabilities"
        writer = LogitWriter(
            out,
            content.names,
            "exact" if facts["profile"] == "exact" else "compact",
            values=values,
            model=str(facts["model"]),
            provenance=PROVENANCE,
        )
        how: dict[str, Any] = {"geometry": unit.geometry, "overwrite": overwrite}
        with writer.video(unit.video, frames=unit.frames, size=unit.size, **how) as video:
            video.extend(fused for _, fused in content.maps(unit, unit.frames))
