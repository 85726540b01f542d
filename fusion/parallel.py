"""One task per video, on Dask: threads, processes, in this thread, or a cluster.

The result is a dict in the order of the videos asked for, made of exactly what the task returned: which scheduler ran it, with how
many workers and in which order, cannot show. A video whose worker process dies is tried again; one that kills its worker three
times is named in an error. Number of workers: Dask's own setting, ``dask.config.set(num_workers=2)``.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from fusion.errors import FusionError, InputError

Result = TypeVar("Result")
LOCAL = ("threads", "processes", "synchronous")
CONNECT_SECONDS = 5
DEATHS = 3  # a worker may die of something else (out of memory beside a neighbour); three times is the video's own doing


@dataclass(frozen=True)
class _Failure:
    """What a task that raised returns: exceptions themselves lose cause and type on the way out of a process."""

    error: FusionError


def map_videos(
    task: Callable[[str], Result],
    videos: Sequence[str],
    *,
    scheduler: str = "threads",
    progress: str | None = None,
) -> dict[str, Result]:
    """``{video: task(video)}`` for each video, in the given order.

    task: a callable on a video id; picklable for ``processes`` and clusters (a module-level function, `functools.partial` of one, or
    an object with ``__call__``). scheduler: threads, processes (spawned, never forked), synchronous, or the address of a
    distributed scheduler such as ``tcp://host:8786``. progress: title of a progress bar on stderr; None for no bar.
    Raises what the task raises if that is a library error, with the video's name; any other exception as a FusionError that names
    the video and carries the traceback as a note. InputError: unknown or unreachable scheduler, a video twice.
    """
    if scheduler not in LOCAL and "://" not in scheduler:
        raise InputError(
            f"scheduler: got {scheduler!r}; choose one of {', '.join(LOCAL)}, or an address such as tcp://host:8786"
        )
    if len(set(videos)) != len(videos):
        twice = next(video for i, video in enumerate(videos) if video in videos[:i])
        raise InputError(f"videos: {twice!r} is there twice; name each video once")
    done: dict[str, Result] = {}
    bar = None if progress is None else _bar(progress, len(videos))

    def finish(video: str, result: Result | _Failure) -> None:
        if isinstance(result, _Failure):
            raise result.error
        done[video] = result
        if bar is not None:
            bar.update()

    run = (
        partial(_run_local, scheduler=scheduler)
        if scheduler in LOCAL
        else partial(_run_cluster, address=scheduler)
    )
    try:
        if videos:
            run(partial(_attempt, task), videos, finish)
    finally:
        if bar is not None:
            bar.close()
    return {video: done[video] for video in videos}


def _bar(title: str, videos: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=videos, desc=title, unit="video")


def worker_count(scheduler: str) -> int:
    """How many videos a scheduler has under way at once on this machine; 1 for a cluster, whose workers have memory of their own."""
    import dask

    if scheduler not in LOCAL or scheduler == "synchronous":
        return 1
    return int(dask.config.get("num_workers", None) or dask.system.CPU_COUNT)


def _attempt(task: Callable[[str], Result], video: str) -> Result | _Failure:
    try:
        return task(video)
    except Exception as error:
        text = str(error) if isinstance(error, FusionError) else f"{type(error).__name__}: {error}"
        kind = type(error) if isinstance(error, FusionError) else FusionError
        failure = kind(text if repr(video) in text else f"video {video!r}: {text}")
        failure.add_note(traceback.format_exc())
        failure.__cause__ = error
        return _Failure(failure)


Finish = Callable[[str, Any], None]


def _run_local(
    attempt: Callable[[str], Any], videos: Sequence[str], finish: Finish, *, scheduler: str
) -> None:
    deaths = dict.fromkeys(videos, 0)
    waiting = list(videos)
    workers: dict[str, int] = {}
    while waiting:
        started: set[str] = set()
        try:
            _dask_round(attempt, waiting, finish, started, scheduler=scheduler, **workers)
        except BrokenProcessPool as error:
            for video in started & set(waiting):
                deaths[video] += 1
            fatal = [video for video in waiting if deaths[video] >= DEATHS]
            if fatal:
                raise FusionError(
                    f"video {fatal[0]!r}: its worker process died {DEATHS} times; out of memory, "
                    "or a script without ``if __name__ == '__main__':``? Try scheduler threads"
                ) from error
            workers = {
                "num_workers": 1
            }  # from here on only one video is under way, so that the right one is blamed


def _dask_round(
    attempt: Callable[[str], Any],
    waiting: list[str],
    finish: Finish,
    started: set[str],
    **options: Any,
) -> None:
    """Run what waits; videos leave `waiting` as they finish and enter `started` as they begin."""
    import dask
    from dask.callbacks import Callback

    names = {f"video-{i}": video for i, video in enumerate(waiting)}

    def begin(key: str, *_: Any) -> None:
        started.add(names[key])

    def end(key: str, result: Any, *_: Any) -> None:
        finish(names[key], result)
        waiting.remove(names[key])

    jobs = [
        dask.delayed(partial(attempt, video), pure=False)(dask_key_name=key)
        for key, video in names.items()
    ]
    # chunksize 1: a video is a large task, and a chunk would be lost as a whole when its worker dies
    with (
        Callback(pretask=begin, posttask=end),
        dask.config.set({"multiprocessing.context": "spawn"}),
    ):
        dask.compute(*jobs, chunksize=1, optimize_graph=False, **options)


def _run_cluster(
    attempt: Callable[[str], Any], videos: Iterable[str], finish: Finish, *, address: str
) -> None:
    try:
        from distributed import Client, as_completed
        from distributed.scheduler import KilledWorker
    except ImportError:
        raise InputError(
            f"scheduler: {address} needs the package distributed; pip install 'segfusion[cluster]'"
        ) from None
    try:
        client = Client(address, set_as_default=False, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise InputError(
            f"scheduler: cannot reach {address} ({error}); start it, or use threads"
        ) from error
    with client:
        names = {client.submit(attempt, video, pure=False): video for video in videos}
        for future in as_completed(list(names), loop=client.loop, raise_errors=False):
            lost = future.exception()
            if isinstance(lost, KilledWorker):
                raise FusionError(
                    f"video {names[future]!r}: its workers died again and again; do they have enough memory?"
                ) from lost
            if lost is not None:
                raise FusionError(
                    f"video {names[future]!r}: {type(lost).__name__}: {lost}"
                ) from lost
            finish(names[future], future.result())
