"""A logit store of the fused probabilities: the ensemble as one model of another one, or as the
teacher of a network ([loss] teacher of `fusion.models.train`).

    soft            kept as                                    re-read, a probability is off by
    compact         uint8 gap codes                            0.011 at most of 124 classes
    float16         float16 logarithms, the exact profile      0.0008 at most of 124 classes
    top-k           gap codes of the K largest probabilities   as compact; the rest is spread evenly
                    a pixel, and of the even share of the      over the others
                    others, which compresses to little

In compact and top-k the top class is that of the stream, always; float16 may make a tie of two that
are closer than its step. What is read is bit for bit what these codes make of the stream.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fusion.ensemble.native import AT, LABELS, native_maps, native_size
from fusion.errors import InputError, StoreConflictError
from fusion.outputs.content import Content
from fusion.outputs.output import Output, Part, option
from fusion.outputs.top_classes import top_classes
from fusion.outputs.unit import Unit
from fusion.stores import LogitWriter
from fusion.stores.documents import damaged
from fusion.stores.format import METADATA, Profile, Values, video_key
from fusion.stores.reader import read_group

PROVENANCE = {"fused": "probabilities of an ensemble"}
SOFT: dict[str, Profile] = {"compact": "compact", "float16": "exact", "top-k": "compact"}
TOP_K, TOP = "top-k", 5


@dataclass(frozen=True)
class Store(Output):
    """<out> is a store of values "probabilities", or "sigmoid-probabilities" of channels, at the
    labels' resolution or the stores'. Ids of units may be any; multipliers and thresholds are not
    in it.
    """

    name: ClassVar = "store"
    about: ClassVar = "<out> a logit store of the probabilities, a model of the next ensemble"
    keeps: ClassVar = ("probabilities",)
    packed: ClassVar = ("**/*",)

    soft: str | None = option(
        "--soft", "how they are kept: compact, float16 or top-k (default compact)", choices=[*SOFT]
    )
    top: int | None = option("--top", f"K of top-k (default {TOP})", type=int, metavar="K")
    at: str | None = option(
        "--at", "resolution: that of the labels (default) or of the stores", choices=AT
    )
    profile: str | None = option(
        "--profile", "compact, or exact for --soft float16", choices=("compact", "exact")
    )
    model: str | None = option("--model", "its name (default OUT's)", metavar="NAME")

    def prepared(self, content: Content, units: Sequence[Unit]) -> Store:
        super().prepared(content, units)
        if self.soft is not None and self.profile is not None:
            raise InputError("store: got soft= and profile=; leave profile= out")
        if self.soft not in (None, *SOFT) or self.at not in (None, *AT):
            got = f"got soft={self.soft!r}, at={self.at!r}"
            raise InputError(f"store: {got}; choose of {tuple(SOFT)} and of {AT}")
        if self.top is not None and (self.soft != TOP_K or self.top < 1):
            got = f"got top={self.top} of soft={self.soft or 'compact'!r}"
            raise InputError(f"store: {got}; give 1 or more, with soft='top-k'")
        if self.soft == TOP_K and content.independent:
            got = "independent channels have no top classes a pixel"
            raise InputError(f"store: {got}; use soft='compact'")
        for unit in units if self._native else ():
            native_size(content.ensemble, unit.video)
        return self

    @property
    def _native(self) -> bool:
        return self.at not in (None, LABELS)

    def parts(self, unit: Unit) -> list[Part]:
        return [Part((video_key(unit.video),), unit.frames)]

    def look(self, out: Path, content: Content) -> None:
        """That a store which is there is of this kind."""
        if not os.path.lexists(out / METADATA):
            return
        found, _ = read_group(out)
        facts, said = self._facts(out, content), self._said()
        there = {name: getattr(found, name) for name in facts}
        there |= {name: found.provenance.get(name) for name in said}
        for name, value in {**facts, **said}.items():
            have = there[name]
            if have != value:
                got = f"holds a store with {name} {have!r:.80}, got {value!r:.80}"
                raise StoreConflictError(f"{out}: {got}; choose another folder")

    def _facts(self, out: Path, content: Content) -> dict[str, Any]:
        values: Values = "sigmoid-probabilities" if content.independent else "probabilities"
        profile = self.profile or SOFT[self.soft or "compact"]
        model = self.model or out.absolute().stem
        return {"classes": content.names, "profile": profile, "values": values, "model": model}

    def _said(self) -> dict[str, Any]:
        """What the store's provenance says beside `PROVENANCE`; None for what is not said."""
        top = (self.top or TOP) if self.soft == TOP_K else None
        soft = TOP_K if self.soft == TOP_K else None  # the profile says the others
        return {"soft": soft, "top": top, "at": self.at if self._native else None}

    def is_mine(self, path: Path) -> bool:
        return True  # no other folder has such a name

    def start(self, out: Path, content: Content, units: Sequence[Unit], *, overwrite: bool) -> None:
        """The group, without which videos that are there already would be no store."""
        writer = self._writer(out, content)
        if read_group(out)[1] != writer.info.document():  # readers would refuse every video
            do = "restore it, or remove the folder and predict again"
            raise damaged(out / METADATA, "is not as it was written", do)

    def _writer(self, out: Path, content: Content) -> LogitWriter:
        said = {name: value for name, value in self._said().items() if value is not None}
        return LogitWriter(out, **self._facts(out, content), provenance={**PROVENANCE, **said})

    def write(
        self, out: Path, unit: Unit, parts: Sequence[Part], content: Content, *, overwrite: bool
    ) -> None:
        writer = self._writer(out, content)
        how: dict[str, Any] = {"geometry": unit.geometry, "overwrite": overwrite}
        with writer.video(unit.video, frames=unit.frames, size=unit.size, **how) as video:
            video.extend(self._kept(unit, content))

    def _kept(self, unit: Unit, content: Content) -> Iterator[np.ndarray]:
        """What is written of each frame, [C, H, W] or [C, h, w]."""
        if self._native:
            maps = native_maps(content.ensemble, unit.video, unit.frames)
        else:
            maps = content.fused(unit, unit.frames)
        for _, fused in maps:
            yield top_classes(fused, self.top or TOP) if self.soft == TOP_K else fused
