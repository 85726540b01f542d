"""The folder of compiled kernels: whose code is loaded, and what damage and disks do to it."""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
from pathlib import Path

import pytest
import torch

from fusion import files, kernels
from fusion.kernels.native import build, kept, levels
from fusion.kernels.native.build import PrivateBuildWarning
from tests.faults.compiled import built, empty_cache, kept_file, runs, said, works
from tests.faults.damage import file_damages, restore

ATTACK = """
#include <stdio.h>
__attribute__((constructor)) static void run(void) { fclose(fopen(MARK, "w")); }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    return built(tmp_path_factory.mktemp("library"))


@pytest.fixture
def cache(tmp_path, library, monkeypatch):
    """The folder in which builds will be kept."""
    yield from empty_cache(tmp_path, library, monkeypatch)


@pytest.fixture
def attack(tmp_path):
    """A function that makes a sealed file whose code leaves a mark, and the mark."""
    mark, source, program = (tmp_path / name for name in ("mark", "attack.c", "attack.so"))
    source.write_text(ATTACK)
    subprocess.run(
        ["cc", "-shared", "-fPIC", f'-DMARK="{mark}"', "-o", program, source], check=True
    )

    def plant(path: Path) -> None:
        path.write_bytes(kept.sealed(program.read_bytes(), build._record(levels.compiler())))

    return plant, mark


def belongs_to_another(monkeypatch, path: Path) -> None:
    """As if another user had made a file or folder; root alone could."""
    inode = path.stat().st_ino

    def of(call):
        def asked(*arguments, **options):
            found = call(*arguments, **options)
            if found.st_ino != inode:
                return found
            return os.stat_result((*found[:4], found.st_uid + 1, *found[5:10]))

        return asked

    monkeypatch.setattr(os, "fstat", of(os.fstat))
    monkeypatch.setattr(os, "lstat", of(os.lstat))
    monkeypatch.setattr(Path, "lstat", lambda self: os.lstat(self))


def test_a_build_is_kept_for_this_user_alone(cache):
    before = os.umask(0)
    try:
        path = kept_file(cache)
    finally:
        os.umask(before)
    assert works()
    assert runs(cache) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


# --- what is planted


def test_the_attack_would_run(cache, attack):
    """What the tests below hold off: in a file of the user's own it is the user's code."""
    plant, mark = attack
    plant(kept_file(cache))
    assert works()  # it lacks the kernels, which are built again
    assert mark.exists()


@pytest.mark.parametrize("how", ["another's", "group", "others", "link", "folder"])
def test_a_planted_file_is_not_loaded_but_replaced(cache, attack, monkeypatch, capsys, how):
    plant, mark = attack
    path = kept_file(cache)
    sound = path.read_bytes()
    plant(path)
    if how == "another's":
        belongs_to_another(monkeypatch, path)
    elif how == "link":
        path.rename(cache.parent / "elsewhere")
        path.symlink_to(cache.parent / "elsewhere")
    elif how == "folder":
        path.unlink()
        path.mkdir()
        assert "is a folder" in said(PrivateBuildWarning)
        return
    else:
        path.chmod(0o620 if how == "group" else 0o602)
    assert works()
    assert not mark.exists()
    assert f"{path.name} " in capsys.readouterr().err
    assert path.read_bytes() == sound
    assert not path.is_symlink()
    count = runs(cache)
    assert works()
    assert (count, runs(cache)) == (2, 2)


@pytest.mark.parametrize("how", ["another's", "group", "others", "link", "link above", "above"])
def test_a_planted_folder_is_neither_read_nor_written(cache, attack, monkeypatch, how):
    plant, mark = attack
    path = kept_file(cache)
    plant(path)
    held = path.read_bytes()
    if how == "another's":
        belongs_to_another(monkeypatch, cache)
    elif how == "above":
        belongs_to_another(monkeypatch, cache.parent)
    elif how.startswith("link"):
        folder = cache if how == "link" else cache.parent
        folder.rename(folder.with_name("elsewhere"))
        folder.symlink_to(folder.with_name("elsewhere"))
    else:
        cache.chmod(0o770 if how == "group" else 0o707)
    text = said(PrivateBuildWarning)
    assert str(cache if how not in ("above", "link above") else cache.parent) in text
    assert "XDG_CACHE_HOME" in text
    assert not mark.exists()
    assert path.read_bytes() == held


def test_a_folder_exchanged_after_the_look_is_not_followed(cache, attack, monkeypatch):
    plant, mark = attack
    path, opened = kept_file(cache), files.opened
    elsewhere = cache.with_name("elsewhere")
    elsewhere.mkdir()
    plant(elsewhere / path.name)

    def exchanged(place, flags=os.O_RDONLY):
        if place == cache and not cache.is_symlink():
            cache.rename(cache.with_name("aside"))
            cache.symlink_to(elsewhere)
        return opened(place, flags)

    monkeypatch.setattr(files, "opened", exchanged)
    assert str(cache) in said(PrivateBuildWarning)
    assert not mark.exists()


def test_a_file_exchanged_after_the_look_is_not_loaded(cache, attack, monkeypatch):
    plant, mark = attack
    path, loaded = kept_file(cache), kept.loaded

    def exchanged(content):
        plant(path)
        return loaded(content)

    monkeypatch.setattr(kept, "loaded", exchanged)
    assert works()
    assert runs(cache) == 1
    assert not mark.exists()


@pytest.mark.parametrize("mode", [0o1777, 0o777])
def test_a_base_that_everybody_writes_to_will_do(cache, mode):
    """As /tmp: what is ours in it is ours."""
    cache.parents[1].mkdir()
    cache.parents[1].chmod(mode)
    kept_file(cache)
    assert works()
    assert runs(cache) == 1


# --- where the cache is


def test_a_relative_cache_is_none(cache, tmp_path, monkeypatch):
    """Whose folder it is depends on where a program is started: the standard says to ignore it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert works()
    assert not (tmp_path / "here").exists()
    assert len(list((tmp_path / "home/.cache/segfusion/compiled").iterdir())) == 1


def test_without_a_home_each_process_builds(cache, monkeypatch):
    def none(*_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", none)
    assert "Could not determine home directory" in said(PrivateBuildWarning)


def test_a_file_in_the_place_of_the_cache(cache):
    cache.parents[1].write_text("a file")
    assert str(cache.parents[1]) in said(PrivateBuildWarning)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
@pytest.mark.parametrize("call", ["mkdir", "open", "write", "replace"])
def test_a_cache_that_cannot_be_written(cache, monkeypatch, number, call):
    """A home that is read-only or full; nothing half-written stays."""

    owner, name = (kept, "_write") if call == "write" else (os, call)
    original = getattr(owner, name)

    def refused(where, *arguments, **options):
        if call == "open" and not arguments[0] & os.O_CREAT:
            return original(where, *arguments, **options)
        raise OSError(number, os.strerror(number), str(where))

    monkeypatch.setattr(build, "_usable", lambda content: content)
    monkeypatch.setattr(build, "_compiled", lambda *_: b"library")
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, refused)
        words = re.escape(f"{cache} ({os.strerror(number)})")
        with pytest.warns(PrivateBuildWarning, match=words):
            assert build._built(levels.compiler()) == b"library"
    assert not cache.exists() or list(cache.iterdir()) == []


def test_a_folder_that_is_only_read_serves(cache):
    path = kept_file(cache)
    path.chmod(0o400)
    cache.chmod(0o500)
    assert works()
    assert runs(cache) == 1
    cache.chmod(0o700)


def test_another_processor_over_a_shared_home_has_its_own(cache, monkeypatch):
    kept_file(cache)
    monkeypatch.setattr(build, "_cpu_name", lambda: "another")
    assert works()
    assert len(list(cache.iterdir())) == 2


def test_a_renamed_build_of_another_processor_is_not_taken(cache, monkeypatch, capsys):
    other = kept_file(cache)
    monkeypatch.setattr(build, "_cpu_name", lambda: "another")
    name = kept.name_of(build._record(levels.compiler()))
    other.rename(cache / name)
    assert works()
    assert f"{name} is damaged" in capsys.readouterr().err
    assert runs(cache) == 2


# --- damage


def test_damaged_builds_are_built_again(cache, tmp_path, library, capsys):
    """Bytes flipped all over, cut, longer, gone, a pipe, a link: never loaded, and repaired."""
    path = kept_file(cache)
    sound, copy = path.read_bytes(), tmp_path / "sound"
    copy.write_bytes(sound)
    for what, damage in file_damages(path, "library", every=len(sound) // 25):
        damage()
        count = runs(cache)
        if path.is_dir() and not path.is_symlink():
            assert "is a folder" in said(PrivateBuildWarning)
            restore(path, copy)
            continue
        assert works(), what
        assert runs(cache) == count + 1, what
        assert path.read_bytes() == sound, what
    assert "were built again" in capsys.readouterr().err


@pytest.mark.slow
def test_no_flipped_byte_is_read_as_a_library(cache):
    content, record = bytearray(kept_file(cache).read_bytes()), build._record(levels.compiler())
    for at in range(len(content)):
        content[at] ^= 1 << at % 8
        with pytest.raises(kept.Untrusted):
            kept.unsealed(bytes(content), record)
        content[at] ^= 1 << at % 8
    assert kept.unsealed(bytes(content), record)


def test_a_file_that_is_cut_while_it_is_loaded(cache):
    path = kept_file(cache)
    assert works()
    os.truncate(path, 0)
    for side in range(1, 40):
        assert kernels.softmax_average([torch.eye(side)], [1]).labels.tolist() == [*range(side)]
    assert works()
    assert runs(cache) == 2


@pytest.mark.parametrize("refused", ["memfd_create", "no such call"])
def test_systems_without_files_in_memory_load_a_copy(cache, tmp_path, monkeypatch, refused):
    def fails(*_: object) -> int:
        raise PermissionError(errno.EPERM, "not in this container")

    monkeypatch.setattr(kept.tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    if refused == "memfd_create":
        monkeypatch.setattr(os, "memfd_create", fails)
    else:
        monkeypatch.delattr(os, "memfd_create")
    assert works()
    assert list((tmp_path / "scratch").iterdir()) == []
