"""Folds: what is held out together, and one shuffle that deals it like cards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from fusion.errors import InputError

Item = TypeVar("Item")

PLAIN = ("videos", "cases")  # each video by itself; two words for one thing


def dealt(items: Sequence[Item], folds: int, seed: int) -> list[list[Item]]:
    """Every item in one of `folds`, 1 or more, by a seeded shuffle; sizes differ by one at most."""
    order = np.random.default_rng(seed).permutation(len(items))
    return [[items[place] for place in order[fold::folds]] for fold in range(folds)]


@dataclass(frozen=True)
class Units:
    """What is held out, and resampled, together.

    A *part* is a stretch of a video's labelled frames whose counts are kept apart; a *unit* is the
    parts that stand or fall together.

    Args:
        text: "videos" or "cases": each video; "frames": each frame; "blocks:N": each N consecutive
            labelled frames of a video; anything else is a regular expression, searched in a video's
            name: videos whose match (its first group, where it has one) is the same are one unit.

    Raises:
        InputError: a block of no length, or no valid regular expression.
    """

    text: str = "videos"

    def __post_init__(self) -> None:
        if self.text.startswith("blocks:") and not re.fullmatch("[1-9][0-9]*", self.text[7:]):
            raise InputError(f"units: got {self.text!r}; give blocks:N with N frames, at least 1")
        try:
            re.compile(self.text)
        except re.error as error:
            form = "give videos, frames, blocks:N or a regular expression"
            raise InputError(f"units: got {self.text!r} ({error}); {form}") from error
        if not self.text:
            raise InputError("units: got ''; give videos, frames, blocks:N or a regular expression")

    @classmethod
    def parse(cls, text: str) -> Units:
        """The units that a text names; "cases" are the videos."""
        return cls("videos" if text in PLAIN else text)

    @property
    def frames(self) -> int | None:
        """Labelled frames of a part; None where a part is a video."""
        if self.text.startswith("blocks:"):
            return int(self.text[7:])
        return 1 if self.text == "frames" else None

    def parts(self, video: str, frames: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """The parts of a video by id: `video`, `video/frame` or `video/first-last`.

        Args:
            video: its name.
            frames: ids of its labelled frames, in order of time.

        Raises:
            InputError: a regular expression does not match the video.
        """
        if self.frames is None:
            self.of(video)  # refuses a video without unit before any pixel is read
            return {video: tuple(frames)}
        cut = (tuple(frames[at : at + self.frames]) for at in range(0, len(frames), self.frames))
        if self.text == "frames":
            return {f"{video}/{part[0]}": part for part in cut}
        return {f"{video}/{part[0]}-{part[-1]}": part for part in cut}

    def of(self, part: str) -> str:
        """The name of the unit that a part belongs to. InputError as in `parts`."""
        if self.frames is not None or self.text in PLAIN:
            return part
        found = re.search(self.text, part)
        name = found and (found[1] if found.re.groups else found[0])
        if not name:
            got = f"{self.text!r} matches nothing of video {part!r}"
            raise InputError(f"units: {got}; give a pattern that every video's name has")
        return name
