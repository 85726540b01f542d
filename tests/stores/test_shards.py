"""Open files of frames: few, shared by threads, left behind by pickles and forks."""

from __future__ import annotations

import os
import pickle
import resource
import threading
from pathlib import Path

import pytest

from fusion.stores import GapCodec, LogitStore, pack_writer, shards
from tests.stores.common import IMAGES, in_child, write


@pytest.fixture
def many(tmp_path, monkeypatch):
    """A store of ten packs."""
    monkeypatch.setattr(pack_writer, "MAX_PACK_FRAMES", 1)
    return write(tmp_path / "s.zarr", IMAGES, packed=True)


def handles() -> int:
    return len(os.listdir("/proc/self/fd"))


def read_all(store: LogitStore) -> None:
    for name in [*IMAGES, *reversed(IMAGES)]:
        assert store.codes(name).tobytes() == GapCodec().encode(IMAGES[name]).tobytes()


def test_open_files_are_bounded_and_closed_with_their_store(many, monkeypatch):
    monkeypatch.setattr(shards, "MOST_OPEN", 4)
    before = handles()
    stores = [LogitStore(many) for _ in range(3)]
    for store in stores:
        read_all(store)
        assert handles() <= before + 4
    del store, stores
    assert handles() == before


def test_a_store_that_was_read_is_pickled_without_its_files(many):
    store = LogitStore(many)
    read_all(store)
    store.codes("image 0", ["0"])
    again = pickle.loads(pickle.dumps(store))
    assert again.digest() == store.digest()
    read_all(again)
    del store
    read_all(again)


def test_a_file_is_opened_once(many, monkeypatch):
    store, opened = LogitStore(many), []
    honest = shards._open
    monkeypatch.setattr(shards, "_open", lambda path: opened.append(path) or honest(path))
    read_all(store)
    assert len(opened) == 10


def read_with_few_handles(many: Path) -> None:
    idle, store, held = LogitStore(many), LogitStore(many), []
    read_all(idle)  # its ten files stay open
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    with pytest.raises(OSError, match="Too many open files"):  # noqa: PT012
        while True:  # somebody else's
            held.append(os.open("/dev/null", os.O_RDONLY))
    read_all(store)
    read_all(idle)


def test_a_process_that_is_out_of_handles_gives_up_those_it_need_not_have(many):
    assert in_child(read_with_few_handles, many) == 0


def fork_while_locked(many: Path) -> None:
    """The child of a process of which another thread holds the lock just then."""
    store = LogitStore(many)
    read_all(store)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with shards._LOCK:
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    child = os.fork()
    if child == 0:
        read_all(store)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    done.set()
    thread.join()
    read_all(store)
    assert code == 0


def test_a_forked_process_reads_too(many):
    assert in_child(fork_while_locked, many) == 0


def test_threads_read_one_store(many, monkeypatch):
    monkeypatch.setattr(shards, "MOST_OPEN", 2)
    store, failures = LogitStore(many), []

    def read() -> None:
        try:
            for _ in range(20):
                read_all(store)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
