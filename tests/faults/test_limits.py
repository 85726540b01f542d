"""Full and read-only disks, rights, handles, file sizes, memory: one line, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.faults.children import Ended
from tests.faults.works import WORKS, leftovers, write_data

NOBODY = 65534
NOT = ("evaluate", "gc", "build", "pack", "write", "train", "report", "overwrite")
WRITERS = [name for name in WORKS if name not in NOT]
FEW = ("import", "grid", "npy")


def check_refused(ended: Ended, place: Path, work: str) -> None:
    """Exit code 2 and one line, of the command's own words, that names the place."""
    assert ended.code == 2, ended
    assert not ended.hung, ended
    assert "Traceback" not in ended.err, ended
    lines = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, ended
    assert str(place) in lines[0], ended


@pytest.fixture
def mounted(tmp_path):
    """Mounts something for the length of a test."""
    places = []

    def mount(*words: str) -> Path:
        place = tmp_path / f"mount{len(places)}"
        place.mkdir()
        if subprocess.run(["mount", *words, str(place)], capture_output=True).returncode:
            pytest.skip("mounting is not allowed here")
        places.append(place)
        return place

    yield mount
    for place in reversed(places):
        subprocess.run(["umount", str(place)], check=True)


def full(place: Path, left: int) -> None:
    """Fills a file system up to some bytes."""
    filler = place / "filler"
    free = shutil.disk_usage(place).free
    filler.write_bytes(b"\0" * max(0, free - left))


def disk_full(stage, mounted, name: str, left: int) -> None:
    place = mounted("-t", "tmpfs", "-o", "size=8m", "none")
    out = place / "out"
    full(place, left)
    ended = on_full(stage, name, out)
    check_refused(ended, place, name)
    (place / "filler").unlink()
    again = stage.nursery.run(WORKS[name].job(stage.data, out, WORKS[name].again))
    assert again.code == 0, again
    assert [each for each in leftovers(place) if ".staging" in each] == []


def on_full(stage, name: str, out: Path) -> Ended:
    stage.clean(WORKS[name])
    return stage.nursery.run(WORKS[name].job(stage.data, out))


@pytest.mark.parametrize("name", FEW)
def test_a_disk_that_is_full(stage, mounted, name):
    disk_full(stage, mounted, name, 4096)


@pytest.mark.slow
@pytest.mark.parametrize("left", [0, 4096, 8192, 16384])
@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_is_full_anywhere(stage, mounted, name, left):
    try:
        disk_full(stage, mounted, name, left)
    except AssertionError as error:
        if "code=0" not in str(error):  # it had room enough
            raise


@pytest.mark.parametrize("name", FEW)
def test_a_read_only_disk(stage, mounted, tmp_path, name):
    source = tmp_path / "source"
    source.mkdir()
    place = mounted("--bind", "-o", "ro", str(source))
    ended = on_full(stage, name, place / "out")
    check_refused(ended, place, name)


def test_reading_from_a_read_only_disk(stage, mounted, tmp_path):
    place = mounted("--bind", "-o", "ro", str(stage.data))
    for name in ("evaluate", "grid", "png", "import"):
        stage.clean(WORKS[name])
        ended = stage.nursery.run(WORKS[name].job(place, tmp_path / name / "out"))
        assert ended.code == 0, ended


@pytest.fixture
def open_folder():
    """A folder that others may look into, unlike tests' own."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


@pytest.mark.parametrize("name", FEW)
def test_a_folder_of_somebody_else(stage, open_folder, name):
    write_data(open_folder / "data")
    (open_folder / "theirs").mkdir(mode=0o555)
    out = open_folder / "theirs" / "out"
    ended = stage.nursery.run(
        WORKS[name].job(open_folder / "data", out, user=NOBODY if os.geteuid() == 0 else 0)
    )
    check_refused(ended, open_folder / "theirs", name)


def limited(stage, name: str, **limits: int) -> Ended:
    work = WORKS[name]
    stage.clean(work)
    work.prepare(stage.out)
    return stage.run(work, limits=limits)


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("size", [1 << 12, 1 << 14, 1 << 16])
def test_files_that_may_not_grow_of_every_command(stage, name, size):
    ended = limited(stage, name, RLIMIT_FSIZE=size)
    if ended.code:
        check_refused(ended, stage.out.parent, name)
    assert stage.run(WORKS[name], more=WORKS[name].again).code == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("most", [24, 32, 48, 64, 96])
def test_few_handles_of_every_command(stage, name, most):
    clean, _ = stage.clean(WORKS[name])
    ended = limited(stage, name, RLIMIT_NOFILE=most)
    assert ended.code in (0, 2), ended
    assert "Traceback" not in ended.err, ended
    if ended.code:
        assert ended.err.splitlines()[-1].startswith("error: "), ended
        assert stage.run(WORKS[name], more=WORKS[name].again).code == 0
    assert WORKS[name].tree(stage.out) == clean


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_an_address_space_that_is_small(stage, name):
    work = WORKS[name]
    clean, _ = stage.clean(work)
    for more in (0, 8, 32, 128):  # MiB beyond what the libraries have
        ended = limited(stage, name, RLIMIT_AS=stage.nursery.size() + (more << 20))
        assert ended.code in (0, 2), ended
        assert "Traceback" not in ended.err, ended
        if ended.code:
            assert ended.err.splitlines()[-1].startswith("error: "), ended
            assert stage.run(work, more=work.again).code == 0
        assert work.tree(stage.out) == clean


@pytest.mark.parametrize("name", FEW)
def test_files_that_may_not_grow(stage, name):
    ended = limited(stage, name, RLIMIT_FSIZE=2048)
    if ended.code:
        check_refused(ended, stage.out, name)
    assert stage.run(WORKS[name], more=WORKS[name].again).code == 0


@pytest.mark.parametrize("name", FEW)
def test_sixty_four_handles(stage, name):
    clean, _ = stage.clean(WORKS[name])
    ended = limited(stage, name, RLIMIT_NOFILE=64)
    assert ended.code == 0, ended
    assert WORKS[name].tree(stage.out) == clean
