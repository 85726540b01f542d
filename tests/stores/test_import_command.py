"""The import command: frame ids, sizes and classes, whole runs, and what it refuses."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from fusion.errors import InputError
from fusion.stores import GapCodec, LogitStore, LogitWriter, importers
from fusion.stores.importers import OPTIONS, choose, import_video, read_frames
from fusion.stores.importers.arrays import Arrays
from tests.stores.common import CLIP, NAMES, run, save

CODES = GapCodec().encode(CLIP)


def test_frame_ids_from_json(tmp_path, bring):
    save(tmp_path / "source/v.npy", CLIP)
    (tmp_path / "frames.json").write_text(json.dumps({"videos": {"v": ["x", "y", 7], "other": []}}))
    assert bring("--frames", tmp_path / "frames.json")[0] == 0
    assert LogitStore(tmp_path / "s.zarr").frames("v") == ("x", "y", "7")


def test_frame_ids_that_do_not_fit(tmp_path, bring):
    save(tmp_path / "source/v.npy", CLIP)
    (tmp_path / "frames.json").write_text(json.dumps({"v": ["x", "y"]}))
    code, _, err = bring("--frames", tmp_path / "frames.json")
    assert (code, "v.npy: 3 frames, but 2 frame ids are given" in err) == (2, True)
    assert not (tmp_path / "s.zarr").exists()


@pytest.mark.parametrize(
    "text", ["", "[1]", "5", "null", '{"v": 5}', '{"videos": [1]}', '{"v": "abc"}', "\xff"]
)
def test_frame_ids_that_are_none(tmp_path, text):
    (tmp_path / "frames.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match="frame ids cannot be read"):
        read_frames(tmp_path / "frames.json")


@pytest.mark.parametrize("text", ["480x853", "480X853"])
def test_size(tmp_path, bring, text):
    save(tmp_path / "source/v.npy", CLIP)
    assert bring("--size", text)[0] == 0
    assert LogitStore(tmp_path / "s.zarr").describe("v").size == (480, 853)


@pytest.mark.parametrize("text", ["480", "480x", "axb", "480x853x3", "0x5"])
def test_bad_size(tmp_path, bring, text):
    save(tmp_path / "source/v.npy", CLIP)
    code, _, err = bring("--size", text)
    assert code == 2
    assert err.startswith("error: ")
    assert "size" in err


def test_a_class_list_that_is_empty_or_too_short(tmp_path, bring, classes):
    save(tmp_path / "source/v.npy", CLIP)
    classes.write_text("")
    code, _, err = bring()
    assert (code, "classes: " in err) == (2, True)
    classes.write_text("a\nb\nc")
    code, _, err = bring(dest="other.zarr")
    assert (code, "v.npy: shape [3, 4, 5, 6]" in err, "C = 3 classes" in err) == (2, True, True)


def test_frame_ids_and_sizes_from_labels(tmp_path, bring):
    for t in range(3):
        path = tmp_path / f"labels/v/img_{t}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 24), t, np.uint8)).save(path)
    save(tmp_path / "source/v.npy", CLIP)
    assert bring("--labels", tmp_path / "labels")[0] == 0
    info = LogitStore(tmp_path / "s.zarr").describe("v")
    assert info.frames == ("img_0", "img_1", "img_2")
    assert info.size == (20, 24)
    assert bring("--labels", tmp_path / "labels", "--size", "40x48", dest="other.zarr")[0] == 0
    assert LogitStore(tmp_path / "other.zarr").describe("v").size == (40, 48)


def test_each_subfolder_becomes_a_store(tmp_path, bring):
    for model, scale in (("swin", 1), ("segformer", 2)):
        save(tmp_path / f"source/{model}/v.npy", CLIP * scale)
        save(tmp_path / f"source/{model}/w/f0.npy", CLIP[0] * scale)
    expected = f"4 videos written, 0 were there already, in 2 store(s) under {tmp_path}/cache\n"
    assert bring("--each", dest="cache")[:2] == (0, expected)
    assert sorted(os.listdir(tmp_path / "cache")) == ["segformer.zarr", "swin.zarr"]
    for model, scale in (("swin", 1), ("segformer", 2)):
        store = LogitStore(tmp_path / f"cache/{model}.zarr")
        assert store.model == model
        assert store.videos == ("v", "w")
        assert np.array_equal(store.codes("v"), GapCodec().encode(CLIP * scale))


def test_running_it_again_resumes(tmp_path, bring):
    save(tmp_path / "source/a.npy", CLIP)
    save(tmp_path / "source/b.npy", np.full_like(CLIP, np.nan))
    code, _, err = bring()
    assert (code, "video 'b', frame 0 ('00000')" in err) == (2, True)
    assert LogitStore(tmp_path / "s.zarr").videos == ("a",)
    save(tmp_path / "source/b.npy", CLIP)
    assert bring()[:2] == (
        0,
        f"1 videos written, 1 were there already, in 1 store(s) under {tmp_path}/s.zarr\n",
    )
    assert bring()[:2] == (
        0,
        f"0 videos written, 2 were there already, in 1 store(s) under {tmp_path}/s.zarr\n",
    )


def test_another_clip_under_the_same_name_is_a_conflict(tmp_path, bring):
    save(tmp_path / "source/a.npy", CLIP)
    assert bring()[0] == 0
    save(tmp_path / "source/a.npy", CLIP[:2])
    code, _, err = bring()
    assert (code, "video 'a' is committed already with other content" in err) == (2, True)
    assert np.array_equal(LogitStore(tmp_path / "s.zarr").codes("a"), CODES)


def test_the_library_call_says_what_happened(tmp_path):
    save(tmp_path / "source/a.npy", CLIP)
    writer, importer = LogitWriter(tmp_path / "s.zarr", NAMES), choose(tmp_path / "source")
    (source,) = importer.videos(tmp_path / "source")
    for written in (True, False):
        assert import_video(writer, importer, source, size=(50, 60)) == written
    assert LogitStore(tmp_path / "s.zarr").describe("a").size == (50, 60)


def test_messages_speak_of_the_commands_own_options(tmp_path, bring):
    save(tmp_path / "source/v.npy", CLIP.transpose(1, 0, 2, 3))
    assert "; if the order is another, say so with --axes CTHW\n" in bring()[2]
    save(tmp_path / "source/v.npy", -np.abs(CLIP) * 1e5)
    for options, hint in (
        (("--profile", "exact"), "beyond float16's 65504; use --profile compact\n"),
        (("--values", "scores"), "use --profile exact\n"),
        (("--values", "probabilities"), "write logits with --values logits\n"),
    ):
        code, _, err = bring(*options, dest=f"{options[-1]}.zarr")
        assert (code, err[-len(hint) :]) == (2, hint)


def test_the_command_takes_every_importers_options(capsys):
    with pytest.raises(SystemExit):
        run(capsys, "import", "--help")
    shown = capsys.readouterr().out
    for name, facts in OPTIONS.items():
        assert f"--{name.replace('_', '-')}" in shown
        assert facts["help"].split()[0] in shown


def test_an_option_of_another_kind_of_source_is_refused(tmp_path):
    save(tmp_path / "v.npy", CLIP)
    with pytest.raises(InputError, match="NumPy arrays take no spacing=2; leave it out"):
        choose(tmp_path, spacing=2, key=None)
    assert choose(tmp_path, spacing=None, key="x") == Arrays(key="x")


def test_a_second_importer_is_one_registration(tmp_path, monkeypatch):
    """The first that recognises a folder is taken; the others are asked in order."""

    @dataclass(frozen=True)
    class Texts:
        name = "texts"
        holds = "<video>.txt"

        @staticmethod
        def recognises(folder):
            return any(folder.glob("*.txt"))

    monkeypatch.setattr(importers, "IMPORTERS", (Texts, Arrays))
    with pytest.raises(InputError, match=r"no <video>.txt or <video>.npy\|npz .* inside"):
        choose(tmp_path)
    save(tmp_path / "v.npy", CLIP)
    assert choose(tmp_path) == Arrays()
    (tmp_path / "v.txt").write_text("1")
    assert choose(tmp_path) == Texts()
