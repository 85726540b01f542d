"""What servers refuse: one sentence that names the address and what to do, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from datetime import timedelta

import pytest

from fusion.errors import CorruptStoreError, StoreConflictError, StoreError
from fusion.stores import GapCodec, LogitStore, LogitWriter
from fusion.stores.locations import bucket, location_of, remote
from tests.stores.common import CLASSES, CLIP, contents, in_child, write
from tests.stores.servers import BUCKET, SECRET, between, s3_server, speaking_s3

FORBIDDEN = b"<Error><Code>InvalidAccessKeyId</Code><Message>somebody</Message></Error>"


@pytest.fixture(scope="module")
def s3():
    with s3_server() as url:
        yield url


@pytest.fixture
def use(monkeypatch):
    """Makes a server the one that s3:// means, with short patience."""

    def use(url: str) -> None:
        for key, value in speaking_s3(url).items():
            monkeypatch.setenv(key, value)
        monkeypatch.setattr(remote, "_BUCKETS", {})
        backoff = {**bucket.RETRIES["backoff"], "init_backoff": timedelta(milliseconds=5)}
        for key, value in {"max_retries": 1, "backoff": backoff}.items():
            monkeypatch.setitem(bucket.RETRIES, key, value)
        monkeypatch.setitem(bucket.CLIENT, "timeout", "1s")

    return use


@pytest.fixture
def path(s3, use, request):
    """A store of one video on the server."""
    use(s3)
    return write(f"s3://{BUCKET}/{request.node.name}/s.zarr", {"v": CLIP})


def refused(call, kind: type[StoreError] = StoreError) -> str:
    """The one sentence of the error, in which nothing of the library's and no secret stands."""
    with pytest.raises(StoreError) as caught:
        call()
    said = str(caught.value)
    assert type(caught.value) is kind or kind is StoreError
    assert "\n" not in said
    assert said.startswith("s3://")
    assert not re.search("Debug|Generic|retries|http://|RetryError", said)
    error: BaseException | None = caught.value
    while error is not None:  # what a traceback would show
        assert SECRET not in str(error)
        assert "127.0.0.1" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return said


def test_a_bucket_that_is_missing(s3, use):
    use(s3)
    what = "the bucket does not exist; create it, or correct the address"
    assert what in refused(lambda: LogitStore("s3://nowhere/s.zarr"))
    assert what in refused(lambda: LogitWriter("s3://nowhere/s.zarr", CLASSES))


def test_credentials_that_are_refused(s3, use, path):
    with between(s3, lambda *_: (403, FORBIDDEN)) as url:
        use(url)
        said = refused(lambda: LogitStore(path))
    assert "credentials were refused (status 403 InvalidAccessKeyId); set AWS_ACCESS_KEY" in said


def test_no_credentials_at_all(s3, use, path, monkeypatch):
    use(s3)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    # the machine's own, which obstore asks for then, as a server that has none
    with between(s3, lambda *_: (404, b"")) as url:
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", url)
        said = refused(lambda: LogitStore(path))
    assert "; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE" in said


def test_a_bucket_that_is_read_only(s3, use, path):
    before = contents(path)
    with between(s3, lambda method, _: (403, FORBIDDEN) if method == "PUT" else None) as url:
        use(url)
        assert contents(path) == before
        said = refused(lambda: write(path, {"w": CLIP}))
        assert "cannot be written (refused with status 403" in said
        assert "write to another place" in said
        assert contents(path) == before


def test_a_server_that_goes_away_while_frames_are_read(s3, use, path):
    gone = []

    def interfere(method: str, place: str):
        if gone and "/c/0" in place:
            raise ConnectionError
        return None

    with between(s3, interfere) as url:
        use(url)
        store = LogitStore(path)
        gone.append(True)
        said = refused(lambda: store.codes("v"))
        assert re.search("v-.*/c/0/0/0/0: cannot be read, .* cannot be reached or hung up", said)
        gone.clear()  # and back again: the same store goes on
        assert store.codes("v").tobytes() == GapCodec().encode(CLIP).tobytes()


def test_a_server_that_is_not_there(use):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        use(f"http://127.0.0.1:{taken.getsockname()[1]}")
        said = refused(lambda: LogitStore(f"s3://{BUCKET}/s.zarr"))
        assert "cannot be reached or hung up; check that it runs" in said
        said = refused(lambda: LogitWriter(f"s3://{BUCKET}/s.zarr", CLASSES))
        assert "cannot be reached or hung up" in said


def test_a_server_that_does_not_answer(use):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        use(f"http://127.0.0.1:{silent.getsockname()[1]}")
        said = refused(lambda: LogitStore(f"s3://{BUCKET}/s.zarr"))
        assert "no answer in time; check the connection and run it again" in said


def test_a_server_in_trouble_is_asked_again(s3, use, path):
    before, failures = contents(path), []

    def once(method: str, place: str):
        if place not in failures:
            failures.append(place)
            return 503, b"<Error><Code>SlowDown</Code></Error>"
        return None

    with between(s3, once) as url:
        use(url)
        assert contents(path) == before
        assert len(failures) > 3
    with between(s3, lambda *_: (503, b"<Error><Code>SlowDown</Code></Error>")) as url:
        use(url)
        said = refused(lambda: LogitStore(path))
        assert "the server is in trouble (status 503 SlowDown); run it again later" in said


def test_a_file_that_became_shorter(path):
    store = LogitStore(path)
    location = store.location
    (name,) = [name for name in location._listing() if "/c/0" in name]
    (location / name)._put((location / name).document()[:10])
    with pytest.raises(CorruptStoreError, match="damaged shard index"):
        store.codes("v")
    with pytest.raises(CorruptStoreError, match="damaged shard index"):
        LogitStore(path).codes("v")


@pytest.mark.parametrize("packed", [False, True])
def test_a_writer_that_is_cut_off_leaves_committed_work_and_resumes(s3, use, path, packed):
    before = contents(path)
    puts = []

    def count(method: str, place: str):
        puts.extend([place] if method == "PUT" else [])
        return None

    def all_videos() -> None:
        write(path, {"v": CLIP, "w": -CLIP}, shard_frames=1, packed=packed)

    with between(s3, count) as url:
        use(url)
        write(path.replace("s.zarr", "other.zarr"), {"v": CLIP, "w": -CLIP}, packed=packed)
    for at in range(len(puts) + 1):
        left = [at]

        def cut(method: str, place: str, left=left):
            left[0] -= method == "PUT"
            if method == "PUT" and left[0] < 0:
                raise ConnectionError
            return None

        with between(s3, cut) as url:
            use(url)
            if at == 0:
                assert "cannot be written" in refused(all_videos)
                assert contents(path) == before
    use(s3)
    all_videos()
    location_of(path).sweep(age=0, dry_run=False)
    assert LogitStore(path).codes("w").tobytes() == GapCodec().encode(-CLIP).tobytes()
    assert contents(path)[3][:1] == before[3]


def test_a_commit_whose_answer_is_lost_is_no_damage(s3, use, path):
    """The put came about, its answer did not: what it names must stay."""

    def interfere(method: str, place: str):
        if method == "PUT" and "/w-" in place and place.endswith("commit.json"):
            body.append(place)
            raise ConnectionError
        return None

    body: list[str] = []
    with between(s3, interfere, pass_on=True) as url:
        use(url)
        with contextlib.suppress(StoreError):
            write(path, {"w": CLIP})
    use(s3)
    assert body
    assert LogitStore(path).codes("w").tobytes() == GapCodec().encode(CLIP).tobytes()
    write(path, {"w": CLIP})
    assert location_of(path).sweep(age=0, dry_run=False) == []


def test_two_writers_at_once_cannot_both_win(s3, use, path):
    """The other's commit comes between our look and our put: the put itself finds it."""
    theirs = []

    def interfere(method: str, place: str):
        if method == "PUT" and "/w-" in place and place.endswith("commit.json") and not theirs:
            theirs.append(True)
            use(s3)
            write(path, {"w": -CLIP})
        return None

    with between(s3, interfere) as url:
        use(url)
        with pytest.raises(StoreConflictError, match="'w' is committed already with other cont"):
            write(path, {"w": CLIP})
    use(s3)
    assert theirs
    assert LogitStore(path).codes("w").tobytes() == GapCodec().encode(-CLIP).tobytes()
    assert location_of(path).sweep(age=0, dry_run=False) == []  # the loser took its own away


def test_a_server_without_conditional_puts(s3, use, path, monkeypatch):
    """Looking before putting is then all there is."""
    import obstore

    honest = obstore.put

    def put(*given, mode=None, **how):
        if mode == "create":
            raise NotImplementedError("put_opts")
        return honest(*given, **how)

    monkeypatch.setattr(obstore, "put", put)
    write(path, {"w": CLIP})
    with pytest.raises(StoreConflictError):
        write(path, {"w": CLIP[:2]})
    assert LogitStore(path).videos == ("v", "w")


def read_after_fork(url: str, path: str) -> None:
    """Child: reads, forks, and its child is refused where it would hang."""
    os.environ.update(speaking_s3(url))
    store = LogitStore(path)
    store.codes("v")
    child = os.fork()
    if child == 0:
        for call in (lambda: LogitStore(path), lambda: store.codes("v")):
            try:
                call()
            except StoreError as error:
                if "start processes by spawn or forkserver" in str(error):
                    continue
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_forked_process_is_refused_instead_of_hanging(s3, path):
    assert in_child(read_after_fork, s3, path) == 0
