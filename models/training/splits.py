"""Which clips a run trains on, and which it validates on."""

from __future__ import annotations

from dataclasses import replace

from fusion.errors import InputError
from fusion.models.data.clips import Clips
from fusion.models.data.samples import folds
from fusion.models.training.config import Config

SPLIT = "val"  # of a data set, where none is named


def training_clips(config: Config) -> Clips:
    """The labelled clips of a configuration, without its held-out fold."""
    return _without_fold(config, config.data.open(labelled=True))[0]


def validation_clips(config: Config, training: Clips) -> Clips | None:
    """What `config.Val` names; None where nothing is validated.

    InputError: it names nothing, or clips of other classes, or some that are trained on.
    """
    val, data = config.val, config.data
    if not val.every:
        return None
    if val.images:
        clips = val.open(labelled=True, classes=training.classes)
    elif val.root or val.vspw:
        named = replace(val, split=val.split or SPLIT)
        clips = named.open(labelled=True, classes=training.classes)
    elif data.folds:
        clips = _without_fold(config, data.open(labelled=True))[1]
    elif data.root or data.vspw:
        there = replace(data, split=val.split or SPLIT)
        clips = there.open(labelled=True, classes=training.classes)
    else:
        do = "give root, vspw or images there, or data.folds"
        raise InputError(f"val: nothing to validate on; {do}")
    if clips.classes != training.classes:
        raise InputError("val: its classes are not those of [data]; give the same file of names")
    if clips.root == training.root and (both := set(clips.videos) & set(training.videos)):
        got = f"{len(both)} videos are trained on too, the first {min(both)!r}"
        raise InputError(f"val: {got}; give others, or data.folds, which leaves some out")
    return clips


def _without_fold(config: Config, clips: Clips) -> tuple[Clips, Clips]:
    """All clips but those of the left-out fold, and these; without folds all of them twice."""
    data = config.data
    if not data.folds:
        return clips, clips
    left_out = folds(clips.videos, data.folds, data.fold_seed)[data.fold]
    kept = [video for video in clips.videos if video not in left_out]
    return clips.only(kept), clips.only(left_out)
