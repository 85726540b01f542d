"""The choice of how scores are spread: one for every launch, within its room."""

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("triton")

from fusion.kernels import chosen


@pytest.mark.parametrize("architecture", [*chosen.ROOMS, "75"])
def test_every_launch_has_a_choice_that_fits(architecture):
    flags = itertools.product((False, True), (False, True), (False, True), (1, 2, 4, 8, 16))
    rooms = chosen.ROOMS.get(architecture, chosen.UNKNOWN)
    for codes, means, more, align in flags:
        launch = {"codes": codes, "means": means, "more": more, "align": align}
        room = rooms.means if means else rooms.more if more else rooms.labels
        for classes in range(1, 1025):
            made = chosen.spread(classes, architecture=architecture, **launch)
            held = made.scores(classes)
            assert held <= room, (classes, launch)
            assert held * made.WC * made.CL >= classes * made.PV
            assert align % made.PV == 0
            assert made.warps <= chosen.MOST_WARPS
            assert made.pixels == made.W * 32 // made.CL * made.PV


def test_up_to_255_classes_no_warp_waits_for_another():
    for classes, codes in itertools.product(range(1, 256), (False, True)):
        assert chosen.spread(classes, codes=codes).WC == 1
    assert chosen.spread(1000).WC > 1


def test_candidates_begin_with_the_choice_and_differ():
    for classes in (1, 11, 124, 1000):
        few = chosen.candidates(classes, codes=True)
        assert few[0] == chosen.spread(classes, codes=True)
        assert len(set(few)) == len(few) <= 4
