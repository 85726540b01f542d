"""Pairs that do not belong together are found before a run, by headers alone."""

from __future__ import annotations

import numpy as np
import pytest

from fusion.errors import InputError, StoreError
from fusion.labels import write_labels
from fusion.models.data.headers import check_sizes, sizes_of


def test_sizes_that_differ(folder, clips):
    check_sizes(clips, clips.labelled())
    write_labels(folder / "labels" / "clip" / "1.png", np.zeros((40, 49), np.uint8), overwrite=True)
    got = r"^video 'clip', frame '1': image 40x50, mask 40x49 \(\S*images/clip/1\.png, \S*labels/c"
    with pytest.raises(InputError, match=got):
        check_sizes(clips, clips.labelled())


def test_damage_is_left_to_who_reads_it_whole(folder, clips):
    (folder / "images" / "clip" / "0.png").write_bytes(b"")
    check_sizes(clips, clips.labelled())
    with pytest.raises(StoreError, match=r"none of 1 images of .* can be read"):
        sizes_of(clips)


def test_sizes_that_stand_for_all(clips):
    assert sizes_of(clips).tolist() == [[40, 50]]
