"""Files of arrays: a checksum over names, types, shapes, numbers and the JSON."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from fusion import tensors
from fusion.errors import StoreError

ARRAYS = {
    "w": np.arange(12, dtype=np.float32).reshape(3, 4),
    "count": np.array(7),
    "none": np.empty((0, 5), np.float16),
    "turned": np.arange(6.0).reshape(2, 3).T,
}
SAID = {"step": 3, "name": "käfer"}


def same(one, two):
    assert one.keys() == two.keys()
    for name, array in one.items():
        assert (array.dtype, array.shape) == (two[name].dtype, two[name].shape)
        assert np.array_equal(array, two[name])


def test_what_was_written_is_read(tmp_path, capsys):
    tensors.write(tmp_path / "a", ARRAYS, SAID)
    arrays, document = tensors.load(tmp_path / "a", say=True)
    same(arrays, ARRAYS)
    assert document == SAID
    assert capsys.readouterr().err == ""


def test_a_file_without_a_checksum_is_read_with_a_line(tmp_path, capsys):
    path = tmp_path / "old"
    plain = {name: np.ascontiguousarray(array) for name, array in ARRAYS.items()}
    plain["count"] = ARRAYS["count"]
    save_file(plain, path, {"segfusion": json.dumps(SAID)})
    same(tensors.load(path)[0], ARRAYS)
    assert capsys.readouterr().err == ""
    same(tensors.load(path, say=True)[0], ARRAYS)
    said = capsys.readouterr().err
    assert said.startswith(f"{path}: has no checksum, as earlier releases wrote it")
    assert said.count("\n") == 1


@pytest.mark.parametrize("changed", ["number", "name", "type", "shape", "said", "seal", "no seal"])
def test_whatever_changes_is_noticed(tmp_path, changed):
    path = tmp_path / "a"
    tensors.write(path, {"w": ARRAYS["w"]}, SAID)
    raw = path.read_bytes()
    was, now = {
        "number": (np.float32(5).tobytes(), np.float32(6).tobytes()),
        "name": (b'"w"', b'"v"'),
        "type": (b'"F32"', b'"I32"'),
        "shape": (b"[3,4]", b"[4,3]"),
        "said": (b'\\"step\\": 3', b'\\"step\\": 4'),
        "seal": (b'segfusion.sha256":"', b'segfusion.sha256":"0'),
        "no seal": (b"segfusion.sha256", b"segfusion.sha257"),
    }[changed]
    assert was in raw
    raw = raw.replace(was, now, 1)
    if changed == "seal":
        end = raw.index(b'"', raw.index(b'sha256":"0') + 9)
        raw = raw[: end - 1] + raw[end:]
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="its checksum is wrong"):
        tensors.load(path)
    with pytest.raises(StoreError, match=r"a: damaged, or not of this library \(its checksum"):
        tensors.read(path, "copy it again")


def test_a_pipe_and_a_folder_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, said in ((tmp_path / "pipe", "no plain file"), (tmp_path, "Is a directory")):
        with pytest.raises(StoreError, match=rf"cannot be read \({said}\); copy it"):
            tensors.read(path, "copy it")
