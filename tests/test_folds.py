"""What is held out together: units said in words, and the parts of videos."""

from __future__ import annotations

import pickle

import pytest

from fusion.errors import InputError
from fusion.folds import Units

FRAMES = ("00", "05", "10", "15", "20")


@pytest.mark.parametrize("text", ["videos", "cases"])
def test_videos_are_their_own_units(text):
    units = Units.parse(text)
    assert units.parts("a/b", FRAMES) == {"a/b": FRAMES}
    assert units.of("a/b") == "a/b"
    assert units == Units() == Units.parse("videos")


def test_frames_and_blocks_by_hand():
    frames, pairs = Units.parse("frames"), Units.parse("blocks:2")
    assert frames.parts("v", FRAMES[:2]) == {"v/00": ("00",), "v/05": ("05",)}
    blocks = {"v/00-05": ("00", "05"), "v/10-15": ("10", "15"), "v/20-20": ("20",)}
    assert pairs.parts("v", FRAMES) == blocks
    assert [pairs.of(part) for part in blocks] == list(blocks)
    assert frames.of("v/00") == "v/00"
    assert Units.parse("blocks:99").parts("v", FRAMES) == {"v/00-20": FRAMES}
    assert pairs.parts("v", ()) == {}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_blocks_cover_every_frame_once_in_order(size):
    parts = Units.parse(f"blocks:{size}").parts("v", FRAMES)
    assert sum(parts.values(), ()) == FRAMES
    assert {len(part) for part in list(parts.values())[:-1]} <= {size}


@pytest.mark.parametrize(
    ("text", "units"),
    [
        (r"^(\d+)_", ["0001", "0001", "0006"]),
        (r"\d+(?=_)", ["0001", "0001", "0006"]),
        (r"_(.)$|_(..)$", ["1", "2", "1"]),
        (r"(?:_)([12])", ["1", "2", "1"]),
        ("0", ["0", "0", "0"]),
    ],
)
def test_what_a_pattern_matches_is_one_unit(text, units):
    found = Units.parse(text)
    videos = ("0001_1", "0001_2", "0006_1")
    assert [found.of(video) for video in videos] == units
    assert found.parts(videos[0], FRAMES) == {videos[0]: FRAMES}


@pytest.mark.parametrize("text", ["^(drive.)", "^x*", "a|^(drive.)"])
def test_a_video_that_no_pattern_matches_is_named(text):
    units = Units.parse(text)
    for ask in (units.of, lambda video: units.parts(video, FRAMES)):
        with pytest.raises(InputError, match="matches nothing of video 'alone'; give a pattern"):
            ask("alone")


@pytest.mark.parametrize("text", ["blocks:0", "blocks:x", "blocks:", "blocks:-1", "blocks:1.5"])
def test_blocks_without_length_are_refused(text):
    with pytest.raises(InputError, match=f"units: got '{text}'; give blocks:N with N frames"):
        Units.parse(text)


@pytest.mark.parametrize("text", ["", "(", "[a", "*"])
def test_text_that_means_nothing_is_refused(text):
    with pytest.raises(InputError, match="give videos, frames, blocks:N or a regular expression"):
        Units.parse(text)


def test_units_are_values():
    units = Units.parse("blocks:3")
    assert pickle.loads(pickle.dumps(units)) == units != Units.parse("blocks:4")
    assert repr(units) == "Units(text='blocks:3')"
    assert len({units, Units("blocks:3")}) == 1
    with pytest.raises(AttributeError):
        units.text = "frames"
