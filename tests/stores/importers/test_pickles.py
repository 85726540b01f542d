"""Plain data comes out of a pickle, and nothing else: nnU-Net's properties, and what is no data."""

from __future__ import annotations

import contextlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from fusion.errors import InputError
from fusion.stores.importers.pickles import read_plain
from tests.stores.importers.test_nnunet import SITK, softmax, whole


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_is_plain_data_or_refused(tmp_path, protocol):
    plain = {
        **whole(softmax((4, 2, 3, 5))),
        "number": np.float64(3.5),
        "count": np.int64(7),
        "turned": np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3)),
        "text": np.array(["a", "bc"]),
        "bytes": b"\x00\xff",
        "slice": slice(1, None),
        "same": (SITK, SITK),
    }
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(plain, protocol))
    found = read_plain(path, "advice")
    assert list(found) == list(plain)
    for name, value in plain.items():
        if isinstance(value, np.ndarray):
            assert (found[name].dtype.kind, found[name].tolist()) == (
                value.dtype.kind,
                value.tolist(),
            )
    assert (found["number"], found["count"], found["bytes"]) == (3.5, 7, b"\x00\xff")
    assert found["sitk_stuff"] == SITK
    assert np.array_equal(found["class_locations"][1], np.ones((2, 4)))
    for bad in (Bomb(tmp_path / "boom"), tmp_path, os.system, np.array([1, None], object), eval):
        path.write_bytes(pickle.dumps({"a": bad}, protocol))
        with pytest.raises(
            InputError, match=r"a.pkl: a pickle that holds .*, and is not run for it"
        ):
            read_plain(path, "advice")
    assert not (tmp_path / "boom").exists()


def test_a_damaged_pickle_is_refused_wherever_it_is(tmp_path):
    path, data = tmp_path / "a.pkl", bytearray(pickle.dumps(whole(softmax((4, 2, 3, 5)))))
    for position in range(len(data)):
        data[position] ^= 0xFF
        path.write_bytes(data)
        with contextlib.suppress(InputError):  # nothing else may come
            read_plain(path, "advice")
        data[position] ^= 0xFF
    for end in range(len(data)):
        path.write_bytes(data[:end])
        with pytest.raises(InputError, match="not a readable pickle"):
            read_plain(path, "advice")
