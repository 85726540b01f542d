"""One suite for every place a store may lie at: what is written there is what is read there."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import fusion
from fusion import outputs
from fusion.errors import InputError, StoreConflictError, StoreError
from fusion.files import STAGING
from fusion.stores import GapCodec, LogitStore, LogitWriter
from fusion.stores.format import video_key
from fusion.stores.locations import (
    LOCATIONS,
    Disk,
    Location,
    Remote,
    is_url,
    location_of,
    remote,
)
from fusion.stores.maintenance import gc, verify
from tests.stores.common import CLASSES, CLIP, IMAGES, contents, run, write
from tests.stores.servers import BUCKET, file_server, s3_server, speaking_s3

IDS = ["0", "1", "2"]


@pytest.fixture(scope="module")
def s3():
    with s3_server() as url:
        yield url


@pytest.fixture(params=["disk", "memory", "s3"])
def root(request, tmp_path, monkeypatch) -> str:
    """An empty place, a different one for each test."""
    name = f"{request.node.name.replace('[', '-').strip(']')}-{tmp_path.name}"
    if request.param == "disk":
        return str(tmp_path / "place")
    if request.param == "memory":
        return f"memory://tests/{name}"
    for key, value in speaking_s3(request.getfixturevalue("s3")).items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(remote, "_BUCKETS", {})  # those of a server before this one are gone
    return f"s3://{BUCKET}/{name}"


def every_file(location: Location) -> dict[str, bytes]:
    """Every file of a place."""
    if isinstance(location, Disk):
        found = (f for f in location.path.rglob("*") if f.is_file() and STAGING not in f.parts)
        return {str(f.relative_to(location.path)): f.read_bytes() for f in found}
    assert isinstance(location, Remote)
    return {name: (location / name).document() for name in location._listing()}


def damage(location: Location, change, part: str) -> None:
    """Changes the bytes of the one file whose name ends so, or removes it."""
    (name,) = [name for name in every_file(location) if name.endswith(part)]
    data = change(every_file(location)[name])
    if isinstance(location, Disk):
        place = location.path / name
        place.unlink() if data is None else place.write_bytes(data)
    elif data is None:
        location._remove([name])
    else:
        (location / name)._put(data)


def test_what_goes_in_comes_out(root):
    for packed in (False, True):
        store = LogitStore(write(f"{root}/{packed}.zarr", {"v": CLIP, "w": -CLIP}, packed=packed))
        assert store.videos == ("v", "w")
        assert store.codes("v").tobytes() == GapCodec().encode(CLIP).tobytes()
        assert np.array_equal(store.codes("w", ["2", "0"]), GapCodec().encode(-CLIP)[[2, 0]])
        assert [(each.frames, each.problem) for each in verify(store.place)] == ([(3, None)] * 2)
        assert store.model == str(packed)


def test_the_same_content_everywhere(root, tmp_path):
    """Another place changes no number, no digest and no description but where the bytes lie."""
    here = contents(write(tmp_path / "s.zarr", {"v": CLIP, **IMAGES}))
    there = contents(write(f"{root}/s.zarr", {"v": CLIP, **IMAGES}))
    assert here[:2] == there[:2]
    assert here[3] == there[3]


def test_many_files_are_read_in_any_order(root):
    clips = {f"v{n}": np.roll(CLIP, n, axis=2) for n in range(5)}
    store = LogitStore(write(f"{root}/s.zarr", clips, shard_frames=1))
    for video in ("v0", "v1", "v2", "v3", "v4", "v3", "v0"):
        assert store.codes(video).tobytes() == GapCodec().encode(clips[video]).tobytes()
        assert np.array_equal(store.codes(video, ["1"])[0], GapCodec().encode(clips[video])[1])


def test_a_committed_video_is_skipped_and_another_refused(root):
    path = write(f"{root}/s.zarr", {"v": CLIP})
    before = every_file(location_of(path))
    with LogitWriter(path, CLASSES).video("v", frames=IDS) as out:
        assert out.committed
    with pytest.raises(StoreConflictError, match="is committed already with other content"):
        write(path, {"v": CLIP[:2]})
    with pytest.raises(StoreConflictError, match="holds a store with classes"):
        LogitWriter(path, list("abcd"))
    assert every_file(location_of(path)) == before


def test_a_pack_that_came_meanwhile_is_seen(root):
    """By a writer that looked at the packs a moment before it came."""
    path = f"{root}/s.zarr"
    with LogitWriter(path, CLASSES).video("v", frames=IDS, overwrite=True) as out:
        out.extend(CLIP)
        write(path, {"v": CLIP}, packed=True)
    before = every_file(location_of(path))
    assert not [name for name in before if name.startswith(video_key("v"))]
    write(path, {"w": CLIP})
    out = LogitWriter(path, CLASSES).video("x", frames=IDS, overwrite=True)
    out.extend(CLIP)
    write(path, {"x": -CLIP}, packed=True)
    with pytest.raises(StoreConflictError, match="'x' is committed already with other content"):
        out.__exit__(None)
    assert np.array_equal(LogitStore(path).codes("x"), GapCodec().encode(-CLIP))


def test_a_reader_in_the_middle_of_a_video_says_that_it_was_replaced(root):
    path = write(f"{root}/s.zarr", {"v": CLIP})
    store = LogitStore(path)
    store.codes("v", ["0"])
    write(path, {"v": -CLIP}, overwrite=True)
    if isinstance(location_of(path), Disk):  # which keeps the file that is open
        assert np.array_equal(store.codes("v"), GapCodec().encode(CLIP))
        return
    with pytest.raises(StoreError, match="'v' was written again since this store was opened"):
        store.codes("v")


@pytest.mark.parametrize("same", [True, False])
def test_of_two_writers_one_wins(root, same):
    path = f"{root}/s.zarr"
    slow = LogitWriter(path, CLASSES).video("v", frames=IDS)
    for frame in CLIP if same else CLIP[::-1]:
        slow.append(frame)
    write(path, {"v": CLIP})
    before = every_file(location_of(path))
    if same:
        slow.__exit__(None)
    else:
        with pytest.raises(StoreConflictError, match=r"pixels .2 frames"):
            slow.__exit__(None)
    assert every_file(location_of(path)) == before
    assert LogitStore(path).codes("v").tobytes() == GapCodec().encode(CLIP).tobytes()


def test_nothing_is_there_before_the_commit_and_after_an_interruption(root):
    path = write(f"{root}/s.zarr", {"first": CLIP})
    before = every_file(location_of(path))
    with (  # noqa: PT012
        pytest.raises(KeyboardInterrupt),
        LogitWriter(path, CLASSES).video("v", frames=IDS) as out,
    ):
        out.append(CLIP[0])
        assert LogitStore(path).videos == ("first",)
        raise KeyboardInterrupt
    assert every_file(location_of(path)) == before


def test_overwriting_replaces_the_old_one_and_its_readers_are_told(root):
    path = write(f"{root}/s.zarr", {"v": CLIP, "w": CLIP})
    old = LogitStore(path)
    count = len(every_file(location_of(path)))
    write(path, {"v": -CLIP}, overwrite=True)
    assert LogitStore(path).codes("v").tobytes() == GapCodec().encode(-CLIP).tobytes()
    assert len(every_file(location_of(path))) == count
    with pytest.raises(StoreError, match="written again since this store was opened"):
        old.codes("v")
    assert old.codes("w").tobytes() == GapCodec().encode(CLIP).tobytes()
    write(path, {"v": CLIP}, overwrite=True, packed=True)
    assert LogitStore(path).codes("v").tobytes() == GapCodec().encode(CLIP).tobytes()


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("/commit.json", lambda data: data[:-1], "commit.json"),
        ("/commit.json", lambda data: data.replace(b'"0"', b'"1"').replace(b"3,", b"4,"), "commit"),
        ("0/0/0/0", lambda data: data[:-9], "damaged shard index"),
        ("0/0/0/0", lambda data: data[:40] + b"x" + data[41:], "video 'v', frame '0'"),
        ("0/0/0/0", lambda _: None, "s.zarr"),
        ("0/0/0/0", lambda _: b"", "s.zarr"),
    ],
)
def test_damage_is_named(root, part, change, message):
    path = write(f"{root}/s.zarr", {"v": CLIP})
    damage(location_of(path), change, part)
    with pytest.raises(StoreError, match=message) as caught:
        contents(path)
    assert "\n" not in str(caught.value)
    (verdict,) = verify(path)
    assert verdict.problem
    write(path, {"v": CLIP}, overwrite=True)
    assert LogitStore(path).codes("v").tobytes() == GapCodec().encode(CLIP).tobytes()


def test_a_misspelt_address_is_answered_with_the_nearest(root):
    path = write(f"{root}/swin.zarr", {"v": CLIP})
    with pytest.raises(StoreError, match=r"no such logit store \(did you mean 'swin.zarr'\?\)"):
        LogitStore(f"{root}/swim.zarr")
    with pytest.raises(StoreError, match="no such logit store"):
        LogitStore(f"{path}/v")


def test_what_dead_writers_left_is_swept(root, monkeypatch):
    path = write(f"{root}/s.zarr", {"v": CLIP})
    before = every_file(location_of(path))

    def dies(*_, **__):
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(Remote, "_remove", lambda *_: None)  # not even that
        patched.setattr(Remote, "create", dies)
        if isinstance(location_of(path), Remote):  # test_disk.py kills those of a disk
            with pytest.raises(SystemExit):
                write(path, {"w": CLIP})
    if isinstance(location_of(path), Remote):
        assert LogitStore(path).videos == ("v",)
        assert gc(path) == []
        ((name, size),) = gc(path, age=0, dry_run=True)
        assert name.startswith(video_key("w"))
        assert gc(path, age=0) == [(name, size)]
        assert every_file(location_of(path)) == before
    assert gc(path, age=0) == []
    assert LogitStore(path).codes("v").tobytes() == GapCodec().encode(CLIP).tobytes()


def test_ensembles_and_commands_take_any_address(root, tmp_path, capsys):
    for name, clip in (("a", CLIP), ("b", -CLIP)):
        write(f"{root}/{name}.zarr", {"v": clip})
    ensemble = fusion.HierarchicalEnsemble(f"{root}/*.zarr")
    assert list(ensemble.groups) == ["a", "b"]
    expected = ensemble.predict("v")
    document = f'[groups]\nall = ["{root}/*.zarr"]\n[temperatures]\n"{root}/a.zarr" = 2.0\n'
    (tmp_path / "ensemble.toml").write_text(document)
    loaded = fusion.HierarchicalEnsemble.load(tmp_path / "ensemble.toml")
    assert [store.model for store in loaded.stores] == ["a", "b"]
    assert sorted(loaded.temperatures) == [1.0, 2.0]
    ensemble.save(tmp_path / "best.json")
    again = fusion.HierarchicalEnsemble.load(tmp_path / "best.json")
    assert all(np.array_equal(x, y) for x, y in zip(again.predict("v"), expected, strict=True))
    moved = fusion.HierarchicalEnsemble.load(tmp_path / "best.json", stores=root)
    assert [store.place for store in moved.stores] == [store.place for store in again.stores]
    code, out, _ = run(capsys, "info", Path(root) / "a.zarr")
    assert (code, "a.zarr" in out, "compact" in out) == (0, True, True)
    code, out, _ = run(capsys, "verify", f"{root}/a.zarr", f"{root}/b.zarr")
    assert (code, out) == (0, "2 videos, 6 frames read, 0 videos damaged\n")


def test_a_store_travels_as_its_address(root):
    store = LogitStore(write(f"{root}/s.zarr", {"v": CLIP}))
    store.codes("v")
    again = pickle.loads(pickle.dumps(store))
    assert (again.place, again.digest()) == (store.place, store.digest())
    assert np.array_equal(again.codes("v"), store.codes("v"))
    assert again.is_called("s.zarr")
    assert again.is_called(f"{root}/s.zarr")
    assert not again.is_called(f"{root}/t.zarr")


# --- web servers, which are read only


def test_a_plain_web_server_is_read(tmp_path, capsys):
    write(tmp_path / "cache" / "s.zarr", {"v": CLIP, "w": -CLIP}, shard_frames=2)
    write(tmp_path / "cache" / "s.zarr", IMAGES, packed=True)
    write(tmp_path / "cache" / "t.zarr", {"v": CLIP})
    with file_server(tmp_path) as url:
        here, there = (contents(f"{at}/cache/s.zarr") for at in (tmp_path, url))
        assert here == there
        assert set(fusion.HierarchicalEnsemble([f"{url}/cache/t*"]).groups) == {"t"}
        assert {each.problem for each in verify(f"{url}/cache/s.zarr")} == {None}
        sizes = [LogitStore(f"{at}/cache/s.zarr").location.total() for at in (tmp_path, url)]
        assert sizes[0] == sizes[1]
        with pytest.raises(StoreError, match=r"new.zarr.*cannot be written, .* no such writing"):
            write(f"{url}/cache/new.zarr", {"v": CLIP})
        with pytest.raises(StoreError, match=r"no such logit store \(did you mean 's.zarr'"):
            LogitStore(f"{url}/cache/ss.zarr")


def test_a_server_without_ranges_or_listings_says_so(tmp_path):
    write(tmp_path / "s.zarr", {"v": CLIP})
    with file_server(tmp_path, ranges=False) as url:
        with pytest.raises(StoreError, match=r"the server refused a range of bytes; serve the"):
            contents(f"{url}/s.zarr")
        (tmp_path / "s.zarr" / "index.html").write_text("<a href='about.html'>")
        with pytest.raises(StoreError, match="the server does not list this folder; switch"):
            LogitStore(f"{url}/s.zarr")


# --- addresses


def test_addresses():
    assert all(is_url(each) for each in ("s3://b/c", Path("s3://b/c"), "https://h/x y", "gs://b"))
    assert not any(is_url(each) for each in ("a/b", "/s3/b", "C:/x", "memory:swin", Path("x")))
    assert str(location_of(Path("s3://b/c/d.zarr"))) == "s3://b/c/d.zarr"
    assert isinstance(location_of("file:///tmp/x"), Disk)
    assert location_of("file:///tmp/x").folder == Path("/tmp/x")
    place = location_of("memory://b/c/d.zarr")
    assert (place.name, place.parent.name, str(place / "v" / "zarr.json")) == (
        "d.zarr",
        "c",
        "memory://b/c/d.zarr/v/zarr.json",
    )
    with pytest.raises(InputError, match=r"ftp://: no kind of place; give a path, or a URL of s3"):
        location_of("ftp://host/x")
    for wrong in ("s3://key:secret@bucket/x", "https://h/x?sig=secret", "s3://b/../x"):
        with pytest.raises(InputError) as caught:
            location_of(wrong)
        assert "secret" not in str(caught.value)
    ensemble = fusion.HierarchicalEnsemble([write("memory://b/out.zarr", {"v": CLIP})])
    with pytest.raises(InputError, match="outputs are written to a folder"):
        outputs.write(ensemble, "s3://b/x", "png")
    with pytest.raises(InputError, match="wildcards stand above the last part"):
        fusion.HierarchicalEnsemble("memory://b/*/x.zarr")
    with pytest.raises(InputError, match="lies on a server, not in a folder"):
        location_of("memory://b/x").folder  # noqa: B018


def test_every_kind_says_what_it_is():
    for scheme, kind in LOCATIONS.items():
        assert scheme in kind.schemes
        assert kind.about
        assert kind.keys


def test_without_obstore_it_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(InputError, match=r"s3://fresh: needs obstore; pip install 'segfusion"):
        location_of("s3://fresh/x")


def test_other_clouds_are_reached_by_their_own_names(monkeypatch):
    """No emulator of theirs is at hand: how they are set up, and what they lack."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    assert str(location_of("az://container/x") / "y") == "az://container/x/y"
    assert str(location_of("gs://bucket/x").parent) == "gs://bucket"
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME")
    with pytest.raises(InputError, match=r"az://other: cannot be set up .*; set AZURE_STORAGE_ACC"):
        location_of("az://other/x")
