"""Frames of many stores, each read once, for all ensembles that share them.

M models, C classes, h w store pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from fusion.ensemble import Ensemble
from fusion.ensemble.channels import outcomes
from fusion.ensemble.stream import Band
from fusion.stores import Store


class Held:
    """Some frames of a store in memory, which give their numbers as a store does."""

    def __init__(self, store: Store) -> None:
        self.store, self.kernel_values = store, store.kernel_values
        self._frames: dict[str, int] = {}
        self._codes = np.empty(0, np.uint8)

    def hold(self, video: str, frames: Sequence[str]) -> None:
        """Reads these frames, and forgets all others."""
        self._frames = {frame: place for place, frame in enumerate(frames)}
        if frames:
            self._codes = self.store.codes(video, frames)

    def codes(self, video: str, frames: Sequence[str]) -> np.ndarray:
        """[T, C, h, w]; of a single frame nothing is copied."""
        if len(frames) == 1:
            place = self._frames[frames[0]]
            return self._codes[place : place + 1]
        return self._codes[[self._frames[frame] for frame in frames]]


def postprocessed(ensemble: Ensemble) -> bool:
    """Whether something is done to fused frames."""
    return bool(ensemble.postprocess)


class Reader:
    """Frames of a video, fused by several ensembles from one reading of their stores.

    Args:
        video: its id.
        always: ensembles whose stores are read for every frame.
        sometimes: those whose stores are read for chosen frames only.
    """

    def __init__(
        self, video: str, always: Iterable[Ensemble], sometimes: Iterable[Ensemble]
    ) -> None:
        self.video = video
        self._streams: dict[int, Iterator[Band]] = {}
        self._ahead: dict[int, Band | None] = {}
        self._always = {s.identity: Held(s) for each in always for s in each.stores}
        rest = {s.identity: s for each in sometimes for s in each.stores}
        self._sometimes = {i: Held(s) for i, s in rest.items() if i not in self._always}

    def frames(
        self, frames: Sequence[str], chosen: Iterable[str], together: int
    ) -> Iterator[tuple[str, str]]:
        """(frame id, the same), once its numbers are held; so many frames are read at a time."""
        some = set(chosen)
        for first in range(0, len(frames), together):
            batch = list(frames[first : first + together])
            for held in self._always.values():
                held.hold(self.video, batch)
            for held in self._sometimes.values():
                held.hold(self.video, [frame for frame in batch if frame in some])
            yield from zip(batch, batch, strict=True)

    def bands(self, ensemble: Ensemble, frame: str, outputs: Sequence[str]) -> Iterator[Band]:
        """What an ensemble makes of a held frame, band by band.

        An ensemble with postprocessing looks at other frames than this one: it reads by itself, and
        its frames must come in the order of `follow`.
        """
        if postprocessed(ensemble):
            return self._following(ensemble, frame)
        recipe, places = ensemble.recipe, self._always | self._sometimes
        held = {store: places[store.identity] for store in ensemble.stores}
        groups = {name: [held[store] for store in some] for name, some in ensemble.groups.items()}
        temperatures = {held[store]: t for store, t in recipe.temperatures.items()}
        same = replace(recipe, groups=groups, temperatures=temperatures)
        return same.bands(self.video, [frame], ensemble.plan(self.video, outputs))

    def follow(self, ensemble: Ensemble, frames: Sequence[str], outputs: Sequence[str]) -> None:
        """Starts an ensemble with postprocessing on the frames that will be asked for."""
        self._streams[id(ensemble)] = ensemble.stream(self.video, frames, outputs)
        self._ahead[id(ensemble)] = None

    def _following(self, ensemble: Ensemble, frame: str) -> Iterator[Band]:
        """The bands of the stream's next frame."""
        key = id(ensemble)
        stream = self._streams[key]
        band = self._ahead[key] or next(stream, None)
        while band is not None and band[0] == frame:
            yield band
            band = next(stream, None)
        self._ahead[key] = band

    def predicted(self, ensemble: Ensemble, frame: str) -> np.ndarray:
        """What `Ensemble.predicted` gives of a held frame: ids [H, W], of channels [C, H, W]."""
        found = [fused.labels for _, _, fused in self.bands(ensemble, frame, ("labels",))]
        return self.whole(ensemble, [band.cpu().numpy() for band in found if band is not None])

    @staticmethod
    def whole(ensemble: Ensemble, bands: Sequence[np.ndarray]) -> np.ndarray:
        """The ids that bands of labels are together."""
        labels = bands[0] if len(bands) == 1 else np.concatenate(bands, axis=-2)
        return labels if ensemble.channels is None else outcomes(labels)
