"""Folders of predictions that were damaged, mixed or planted with links.

Resuming gives the files of a clean run, or one error that names the place; nothing outside the
folder is touched. `pytest -m slow tests/faults/test_outputs.py -s` tries every byte.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatch

import numpy as np
import pytest

from fusion import cli, files, predict
from fusion.errors import CorruptStoreError, StoreError
from fusion.outputs import OUTPUTS, submit, write
from fusion.outputs.record import add_to_record, read_record, seals_of
from fusion.outputs.seals import SEALS
from tests.faults.damage import damages, restore
from tests.faults.layer import Fault, faults
from tests.faults.outcomes import outcome, said
from tests.outputs.simulated import RASTER, VOLUME, FakeEnsemble
from tests.outputs.test_drawings import save_pictures
from tests.samples import write_sample

FRAMES = {"case": ("f2", "f10"), "image": ("image",)}
SIZES = {"case": (5, 6), "image": (7, 4)}
TOWN = "aachen_000000_000019"
TOWNS = {"videos": (TOWN,), "frames_of": {TOWN: (TOWN,)}, "number": 19}


@dataclass(frozen=True)
class Row:
    """A kind of output: a new one is a row.

    options: of `write`. facts: of the simulated ensemble. varies: patterns of files that two runs
    need not make alike.
    """

    format: str
    options: dict = field(default_factory=dict)
    facts: dict = field(default_factory=dict)
    varies: tuple[str, ...] = ()

    def write(self, out, seed=0, **options):
        facts = {"videos": tuple(FRAMES), "frames_of": FRAMES, **self.facts}
        ensemble = FakeEnsemble(seed=seed, **facts)
        if self.format == "cityscapes":
            return submit(ensemble, out, self.format, **options)
        return write(ensemble, out, self.format, **{**self.options, **options})

    def resumed(self, out):
        """Every file there, after a run that goes on."""
        self.write(out, resume=True)
        return tree(out, self.varies)


def tree(out, varies=()):
    """Files and links below a folder, but the seals, whose order is that of the work, and what a
    damage put aside."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        own = ("*aside", f"*{SEALS}", *varies)
        if any(fnmatch(name, each) for each in own) or path.is_dir():
            continue
        found[name] = "a link" if path.is_symlink() else path.read_bytes()
    return found


ROWS = {
    "png": Row("png"),
    "npy": Row("npy"),
    "npy of probabilities": Row("npy", {"probabilities": True}),
    "npz": Row("npz"),
    "npz a frame": Row("npz", {"per": "frame", "dtype": "float16"}),
    "nifti": Row("nifti", facts={"geometry": dict.fromkeys(FRAMES, VOLUME)}),
    "geotiff": Row("geotiff", facts={"geometry": dict.fromkeys(FRAMES, RASTER)}),
    "nnunet": Row("nnunet", {"probabilities": True}),
    "zarr": Row("zarr", varies=("zarr.json",)),  # it holds the seals
    "store": Row("store", {"model": "fused"}, varies=("*/commit.json",)),
    "cityscapes": Row("cityscapes", facts=TOWNS),
    "gif": Row("gif"),
}
OF_STORES = ("uncertainty", "pseudo")  # need an ensemble of stores, see below


def test_every_format_has_a_row():
    """mp4 needs an encoder, overlay pictures: they are written as gif and png are."""
    rows = {row.format for row in ROWS.values()}
    assert rows | {"mp4", "overlay", *OF_STORES} == {*OUTPUTS, "cityscapes"}


def try_all(tmp_path, row, every, spare=1):
    """What came of every damage; of `spare` one is tried."""
    out, sound, other = tmp_path / "out", tmp_path / "sound", tmp_path / "other"
    row.write(out)
    shutil.copytree(out, sound)
    row.write(other, seed=1)
    (tmp_path / "other.zip").unlink(missing_ok=True)
    expected, found = tree(out, row.varies), Counter()
    for number, (what, damage) in enumerate(damages(out, other, every)):
        if number % spare:
            continue
        damage()
        found[outcome(lambda: row.resumed(out), expected, what, out)] += 1
        restore(out, sound)
    assert found["right"] > 0
    return found


@pytest.mark.parametrize("name", ROWS)
def test_what_was_damaged_is_written_again_or_refused(tmp_path, name):
    try_all(tmp_path, ROWS[name], every=97, spare=3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_every_damage(tmp_path, name):
    print(said(name, try_all(tmp_path, ROWS[name], every=1)))


@pytest.mark.parametrize("name", ["png", "zarr", "store"])
def test_outputs_of_a_release_without_seals_are_written_again(tmp_path, name):
    row, out = ROWS[name], tmp_path / "out"
    row.write(out)
    expected = tree(out, row.varies)
    (out / SEALS).unlink(missing_ok=True)
    if name == "zarr":
        content = (out / "zarr.json").read_text()
        start, end = content.index('"seals"'), content.index("]", content.index('"seals"'))
        (out / "zarr.json").write_text(content[:start] + '"seals": [' + content[end:])
    assert row.write(out, resume=True) == (3, 0)
    assert tree(out, row.varies) == expected
    assert row.write(out, resume=True) == (0, 3)


@pytest.mark.parametrize("name", ["png", "zarr"])
def test_a_record_that_no_reader_takes_is_a_damaged_one(tmp_path, name):
    row, out = ROWS[name], tmp_path / "out"
    row.write(out)
    record = out / OUTPUTS[row.format].record[0]
    document = json.loads(record.read_text())
    document["more"] = json.loads("[" * 65 + "]" * 65)  # Python's own reader takes it
    record.write_text(json.dumps(document))
    before = tree(out)
    assert outcome(lambda: row.resumed(out), None, "a deep one", out) == "StoreError"
    assert tree(out) == before


@pytest.mark.parametrize("name", ["png", "npy", "nnunet", "zarr", "store"])
def test_maps_of_another_ensemble_copied_in_are_none_of_ours(tmp_path, name):
    """Three old maps in a new result, which nobody would see."""
    row, out, other = ROWS[name], tmp_path / "out", tmp_path / "other"
    row.write(out)
    row.write(other, seed=1)
    expected, theirs = tree(out, row.varies), tree(other, row.varies)
    kept = {*OUTPUTS[row.format].record[:1], "dataset.json", "zarr.json"}
    for file in theirs:
        if file not in kept and file in expected:
            shutil.copyfile(other / file, out / file)
    if name == "png":  # with what says that they are whole, of that ensemble
        with (out / SEALS).open("ab") as seals:
            seals.write((other / SEALS).read_bytes())
    assert row.resumed(out) == expected


@pytest.mark.parametrize("name", ["png", "zarr"])
@pytest.mark.parametrize("kind", ["EMFILE", "EIO"])
def test_a_record_that_cannot_be_read_is_not_written_anew(tmp_path, name, kind):
    """Without what it said of other units, which the next run took for another ensemble's."""
    row, out, output = ROWS[name], tmp_path / "out", OUTPUTS[name]()
    row.write(out)
    known, seals = read_record(out, output), seals_of(out, output)
    for n in itertools.count(1):
        with faults(out, Fault(n, kind)) as layer, contextlib.suppress(StoreError):
            add_to_record(out, output, {"new": "digest"})
        assert known.items() <= read_record(out, output).items(), layer.struck
        assert seals_of(out, output) == seals, layer.struck
        if not layer.reached:
            break
    assert n > 3


def test_a_store_that_readers_would_refuse_is_not_resumed(tmp_path):
    """Its videos are whole, and all of them were kept, without a word."""
    row, out = ROWS["store"], tmp_path / "out"
    row.write(out)
    sound = (out / "zarr.json").read_bytes()
    (out / "zarr.json").write_bytes(sound.replace(b"segfusion.gap", b"segfusion.gas"))
    with pytest.raises(CorruptStoreError, match=r"zarr\.json: is not as it was written; restore"):
        row.write(out, resume=True)
    (out / "zarr.json").write_bytes(sound)
    assert row.write(out, resume=True) == (0, 3)


def test_what_could_not_be_taken_away_is_taken_away_by_the_next_run(tmp_path):
    row, out = ROWS["png"], tmp_path / "out"
    row.write(out)
    expected = tree(out)
    dead = out / "case" / f".{'0' * 24}.lock"
    dead.touch()
    files._TIDIED.clear()  # as another process would begin
    assert row.write(out, resume=True) == (0, 3)
    assert tree(out) == expected
    assert not dead.exists()


def test_a_run_that_was_stopped_keeps_each_frame_that_is_whole(tmp_path):
    """A seal a frame, not a unit: of a long video little is worked out twice."""
    frames = {"v": tuple(f"{t:03d}" for t in range(9))}
    facts = {"videos": ("v",), "frames_of": frames}
    with pytest.raises(KeyboardInterrupt):
        write(FakeEnsemble(stops="006", **facts), tmp_path / "out")
    written, kept = write(FakeEnsemble(**facts), tmp_path / "out", resume=True)
    assert written + kept == 9
    assert kept >= 3  # two are under way in threads


def test_a_torn_seal_is_none_and_the_next_ones_count(tmp_path):
    row, out = ROWS["png"], tmp_path / "out"
    row.write(out)
    seals = (out / SEALS).read_bytes()
    (out / SEALS).write_bytes(seals[:-30])
    assert row.write(out, resume=True).frames == 1
    assert (out / SEALS).read_bytes() == seals
    (out / SEALS).write_bytes(seals[:-30])
    (out / "case" / "f2.png").unlink()
    assert row.write(out, resume=True).frames in (1, 2)
    assert row.write(out, resume=True) == (0, 3)


FLAGS = ({}, {"resume": True}, {"overwrite": True})
LINKS = [(name, link) for name in ("png", "npz", "zarr", "store") for link in ("", ".staging")]


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize(("name", "link"), [*LINKS, ("png", "case"), ("cityscapes", "")])
def test_folders_that_are_links_lead_nowhere(tmp_path, name, link, flags):
    row, out, outside = ROWS[name], tmp_path / "out", tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"precious")
    target = out / link
    target.parent.mkdir(exist_ok=True)
    target.symlink_to(outside)
    with pytest.raises(StoreError, match=r": is a link; files are written into plain folders"):
        row.write(out, **flags)
    assert tree(outside) == {"precious": b"precious"}
    assert target.is_symlink()


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("name", ["zarr", "store"])
def test_a_link_in_the_place_of_a_video_is_replaced_or_refused(tmp_path, name, flags):
    row, out, outside = ROWS[name], tmp_path / "out", tmp_path / "outside"
    row.write(out)
    expected = tree(out, row.varies)
    (unit,) = (path for path in out.iterdir() if path.name.startswith("case"))
    shutil.move(unit, outside)
    before = tree(outside)
    unit.symlink_to(outside)
    if flags:
        row.write(out, **flags)
        assert tree(out, row.varies) == expected
        assert not unit.is_symlink()
    else:
        with pytest.raises(StoreError, match="exists"):
            row.write(out)
    assert tree(outside) == before


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("to", ["precious", "nowhere"])
def test_a_link_in_the_place_of_a_file(tmp_path, name, to):
    """Replaced or refused; what it leads to stays as it is."""
    row, out, outside = ROWS[name], tmp_path / "out", tmp_path / "outside"
    row.write(out)
    expected, sound = tree(out, row.varies), tmp_path / "sound"
    shutil.copytree(out, sound)
    outside.mkdir()
    for file in sorted(path for path in sound.rglob("*") if path.is_file()):
        (outside / "precious").write_bytes(b"precious")
        place = out / file.relative_to(sound)
        place.unlink()
        place.symlink_to(outside / to)
        what = f"{place} is a link"
        outcome(lambda: row.resumed(out), expected, what, out)
        assert tree(outside) == {"precious": b"precious"}
        restore(out, sound)


def test_a_link_in_the_place_of_the_zip(tmp_path):
    row, out, precious = ROWS["cityscapes"], tmp_path / "out", tmp_path / "precious"
    precious.write_bytes(b"precious")
    (tmp_path / "out.zip").symlink_to(precious)
    with pytest.raises(StoreError, match=r"out\.zip: exists; remove it or use --overwrite"):
        row.write(out)
    row.write(out, resume=True)
    assert precious.read_bytes() == b"precious"
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.testzip() is None
    assert not (tmp_path / "out.zip").is_symlink()


@pytest.mark.parametrize("kind", OF_STORES)
def test_the_command_and_formats_of_real_stores(tmp_path, kind, capsys):
    toml, out = write_sample(tmp_path / "data"), tmp_path / "out"
    arguments = ["--ensemble", str(toml), "--out", str(out), "--format", kind, "--zip"]
    assert cli.run(predict.main, arguments) == 0
    expected, packed = tree(out), (tmp_path / "out.zip").read_bytes()
    maps = sorted(out.rglob("*.png"))
    maps[0].write_bytes(b"")
    maps[1].write_bytes(maps[1].read_bytes()[:-9])
    maps[2].unlink()
    maps[2].symlink_to(tmp_path / "nowhere")
    shutil.copyfile(maps[4], maps[3])
    (shared,) = (out / name for name in OUTPUTS[kind].shared)
    shared.unlink()
    os.mkfifo(shared)
    capsys.readouterr()

    def resumed():
        assert cli.run(predict.main, [*arguments, "--resume"]) == 0
        return tree(out)

    assert outcome(resumed, expected, "six damages", out) == "right"
    assert "were there already" in capsys.readouterr().out
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == len(expected) - 1  # without the record
    assert len(packed) == (tmp_path / "out.zip").stat().st_size
    assert len(read_record(out, OUTPUTS[kind]())) == 3


def test_drawings_over_other_pictures(tmp_path):
    """Their seals are those of the label maps' ensemble; a damaged one is drawn again."""
    root = save_pictures(tmp_path / "images", SIZES, FRAMES)
    row, out = Row("overlay", {"overlay": root}), tmp_path / "out"
    row.write(out)
    expected = tree(out)
    name = next(name for name in expected if name.endswith(".png"))
    (out / name).write_bytes((out / name).read_bytes()[:-1])
    assert row.write(out, resume=True).frames == 1
    assert tree(out) == expected


def test_numbers_of_a_damaged_array_are_those_of_a_clean_run(tmp_path):
    """The one that no reader could notice: a flipped bit in the numbers of an .npy."""
    row, out = ROWS["npy of probabilities"], tmp_path / "out"
    row.write(out)
    before = np.load(out / "case.npy")
    raw = bytearray((out / "case.npy").read_bytes())
    raw[-3] ^= 8
    (out / "case.npy").write_bytes(raw)
    assert not np.array_equal(np.load(out / "case.npy"), before)
    assert row.write(out, resume=True) == (2, 1)
    assert np.array_equal(np.load(out / "case.npy"), before)
