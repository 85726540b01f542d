"""Videos on a Dask cluster that runs already: which workers are fit for them, and how they end.

    connect -> look at every worker there is -> a task per video, which looks for itself as well

A worker is fit if it has this very version of the library and can open what the task opens: stores,
labels, the folder that results go to. It is asked before the run; one that joins later, before its
first video. What travels is a function by value, so that it can speak where there is no such
library. Tasks may be run twice (their worker died, its result was lost): each must be idempotent.

Where workers name a resource GPU, each video takes one of it: a video at a time on every GPU.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from fusion import plain
from fusion.errors import FusionError, InputError, StoreError
from fusion.parsing import parse_json
from fusion.version import __version__

if TYPE_CHECKING:
    from distributed import Client

Attempt = Callable[[Any, str], Any]  # of a task and a video
Finish = Callable[[str, Any], None]
CONNECT_SECONDS, LOOK_SECONDS = 5, 10
GPU = "GPU"
READY, DONE, OTHER, LACKS = "ready", "done", "other version", "lacks"
AGAIN = "what was committed stays, run the same again to go on (predict: with --resume)"


def run(task: Any, attempt: Attempt, videos: Sequence[str], finish: Finish, place: str) -> None:
    """Runs a task's videos on a cluster; results go to `finish` as they come.

    Args:
        task: picklable. Its method `ready`, if it has one, raises on a machine that lacks what the
            task needs beside what it opens when it is unpickled.
        attempt: calls the task; returns what `finish` takes.
        videos: ids.
        finish: raises what shall end the run; videos that wait are then cancelled.
        place: address or scheduler file.

    Raises:
        InputError: no cluster there; a worker with another version.
        StoreError: a worker that cannot open what this process can.
        FusionError: a video whose workers died again and again; the cluster is gone.
    """
    with _connected(place) as client:
        answer = _answering(_packed((attempt, task)), __version__, uuid4().hex)
        named = _check_workers(client, answer, place)
        resources = {GPU: 1} if named.get(GPU) else None
        names = {client.submit(answer, v, pure=False, resources=resources): v for v in videos}
        try:
            with _watched(client, place):
                _collect(client, names, finish, place)
        except BaseException:  # Ctrl-C as well: what waits shall not run for nobody
            with suppress(Exception):
                client.cancel(list(names), force=True)
            raise


def is_place(scheduler: str) -> bool:
    """Whether a text is an address, or a file in which a scheduler left its own."""
    return "://" in scheduler or scheduler.endswith(".json") or os.path.isfile(scheduler)


@contextmanager
def _connected(place: str) -> Iterator[Client]:
    try:
        from distributed import Client
    except ImportError:
        advice = "pip install 'segfusion[cluster]'"
        raise InputError(f"scheduler: {place} needs the package distributed; {advice}") from None
    address = place if "://" in place else _address_in(Path(place))
    try:
        client = Client(address, set_as_default=False, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # TLS without keys: any of them
        problem = f"cannot reach {address} ({error})"
        raise InputError(f"scheduler: {problem}; start it, or use threads") from error
    log = logging.getLogger("distributed.client")
    level = log.level
    log.setLevel(logging.CRITICAL)  # what befalls the connection is said in an error, once
    try:
        with client:
            yield client
    finally:
        log.setLevel(level)


def _address_in(path: Path) -> str:
    try:
        return str(parse_json(plain.content(path))["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        do = "give the file of `dask scheduler --scheduler-file`, or an address"
        raise InputError(f"scheduler: {path} is no scheduler file ({error}); {do}") from error


def _packed(value: Any) -> bytes:
    """A pickle whose paths are absolute: a worker's current folder is its own."""
    import cloudpickle

    class Pickler(cloudpickle.Pickler):
        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, Path) and not value.is_absolute():
                return type(value), (str(value.absolute()),)
            return super().reducer_override(value)

    file = io.BytesIO()
    Pickler(file).dump(value)
    return file.getvalue()


def _answering(payload: bytes, version: str, run: str) -> Callable[..., tuple[Any, ...]]:
    """What runs on a worker: (DONE, result) of a video, or why not; None for a video only looks.

    It has no module there, only what is written in it.
    """

    def answer(video: str | None, dask_worker: Any = None) -> tuple[Any, ...]:
        import socket

        host = socket.gethostname()
        try:
            from fusion.version import __version__ as there
        except ImportError:
            return ("other version", host, None)
        if there != version:
            return ("other version", host, there)
        from fusion.cluster import answered

        named = {} if dask_worker is None else dict(dask_worker.state.total_resources)
        return answered(payload, run, video, host, named)

    return answer


def answered(
    payload: bytes, run: str, video: str | None, host: str, named: Mapping[str, float]
) -> tuple[Any, ...]:
    """On a worker of the right version: what `_answering` gives."""
    try:
        attempt, task = _opened(payload, run)
    except Exception as error:
        kind = "" if isinstance(error, FusionError) else f"{type(error).__name__}: "
        return LACKS, host, f"{kind}{error}"
    return (READY, host, named) if video is None else (DONE, host, attempt(task, video))


@lru_cache(maxsize=1)
def _opened(payload: bytes, run: str) -> tuple[Attempt, Any]:
    """What was sent, opened once for all videos of a run: the next one may find other files."""
    import cloudpickle

    attempt, task = cloudpickle.loads(payload)
    if ready := getattr(task, "ready", None):
        ready()
    return attempt, task


def _check_workers(client: Client, answer: Callable[..., Any], place: str) -> Mapping[str, float]:
    """The resources that workers name; raises for the first that is not fit."""
    found = client.run(answer, None, on_error="return")
    if not found:
        _say_waiting(place)
    named: dict[str, float] = {}
    for worker, said in found.items():
        if isinstance(said, OSError) and not isinstance(said, FusionError):
            continue  # it died just then, or is about to
        if isinstance(said, BaseException):
            what = f"the worker {worker} cannot take tasks ({type(said).__name__}: {said})"
            raise InputError(f"scheduler: {what}; give it this machine's Python and packages")
        named |= _fit(said, worker)[2]
    return named


def _fit(said: tuple[Any, ...], worker: str = "") -> tuple[Any, ...]:
    """A worker's answer, if it is fit."""
    kind, host, what = said
    where = f"the worker on {host}" + (f" ({worker})" if worker else "")
    if kind == OTHER:
        has = "no segfusion" if what is None else f"segfusion {what}"
        raise InputError(
            f"scheduler: {where} has {has}, this process {__version__}; install {__version__} there"
        )
    if kind == LACKS:
        do = "every worker needs the same file systems and packages, at the same paths"
        raise StoreError(f"scheduler: {where} cannot open what this process can: {what}; {do}")
    return said


@contextmanager
def _watched(client: Client, place: str) -> Iterator[None]:
    """Says so when no worker is left: others may come, but people should know of the wait."""
    ended = threading.Event()

    def watch() -> None:
        waiting = not client.scheduler_info()["workers"]  # which was said
        while not ended.wait(LOOK_SECONDS):
            before, waiting = waiting, not client.scheduler_info()["workers"]
            if waiting and not before and not ended.is_set():
                _say_waiting(place)

    def quietly() -> None:
        with suppress(Exception):  # the connection is lost: the run itself says so
            watch()

    threading.Thread(target=quietly, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _say_waiting(place: str) -> None:
    said = "has no worker, waiting for one; Ctrl-C stops"
    print(f"scheduler: {place} {said}", file=sys.stderr)


def _collect(client: Client, names: Mapping[Any, str], finish: Finish, place: str) -> None:
    from distributed import as_completed
    from distributed.client import FutureCancelledError
    from distributed.scheduler import KilledWorker

    for future in as_completed(list(names), loop=client.loop, raise_errors=False):
        video, lost = names[future], future.exception()
        if isinstance(lost, KilledWorker):
            text = "its workers died again and again; do they have enough memory?"
            raise FusionError(f"video {video!r}: {text}") from lost
        if lost is not None:
            raise FusionError(f"video {video!r}: {type(lost).__name__}: {lost}") from lost
        try:
            said = future.result()
        except FutureCancelledError as error:  # the connection, the scheduler, or somebody's cancel
            what = f"scheduler: {place} is gone, video {video!r} and others were under way"
            raise FusionError(f"{what}; {AGAIN}") from error
        finish(video, _fit(said)[2])
        future.release()  # the cluster need not keep it
