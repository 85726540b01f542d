"""One task per video, on Dask: threads, processes, in this thread, or a cluster.

The result is a dict in the order of the videos asked for, made of exactly what the task returned:
which scheduler ran it, with how many workers and in which order, cannot show. A video whose worker
process dies is tried again; one that kills its worker three times is named in an error. Number of
workers: Dask's own setting, ``dask.config.set(num_workers=2)``.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from fusion.errors import FusionError, InputError
from fusion.progress import bar

Result = TypeVar("Result")
Attempt = Callable[[str], Any]  # a video's result, or its _Failure
Finish = Callable[[str, Any], None]  # takes them as they come

LOCAL = ("threads", "processes", "synchronous")
CONNECT_SECONDS = 5
DEATHS = 3  # one may be a neighbour's doing (out of memory beside it), three are the video's own


@dataclass(frozen=True)
class _Failure:
    """A task's error: exceptions themselves lose cause and type on the way out of a process."""

    error: FusionError


def map_videos(
    task: Callable[[str], Result],
    videos: Sequence[str],
    *,
    scheduler: str = "threads",
    progress: str | None = None,
    frames: Mapping[str, int] | None = None,
) -> dict[str, Result]:
    """``{video: task(video)}`` for each video, in the given order.

    Args:
        task: a callable on a video id; picklable for ``processes`` and clusters (a module-level
            function, `functools.partial` of one, or an object with ``__call__``).
        videos: ids, each once.
        scheduler: threads, processes (spawned, never forked), synchronous, or the address of a
            distributed scheduler such as ``tcp://host:8786``.
        progress: title of a progress bar on stderr; None for no bar.
        frames: how many each video has; the bar then counts the frames of videos that are done.

    Raises:
        FusionError: what the task raises, if that is a library error; any other exception with
            the video's name, and the traceback as a note.
        InputError: unknown or unreachable scheduler, a video twice.
    """
    if scheduler not in LOCAL and "://" not in scheduler:
        choice = f"choose one of {', '.join(LOCAL)}, or an address such as tcp://host:8786"
        raise InputError(f"scheduler: got {scheduler!r}; {choice}")
    if len(set(videos)) != len(videos):
        twice = next(video for i, video in enumerate(videos) if video in videos[:i])
        raise InputError(f"videos: {twice!r} is there twice; name each video once")
    done: dict[str, Result] = {}

    def finish(video: str, result: Result | _Failure) -> None:
        if isinstance(result, _Failure):
            raise result.error
        done[video] = result
        shown.update(1 if frames is None else frames[video])

    run = _run_local if scheduler in LOCAL else _run_cluster
    total = len(videos) if frames is None else sum(frames[video] for video in videos)
    counted: dict[str, Any] = {
        "unit": "video" if frames is None else "frame",
        "disable": progress is None,
    }
    with closing(bar(progress or "", total, **counted)) as shown:
        if videos:
            run(partial(_attempt, task), videos, finish, scheduler)
    return {video: done[video] for video in videos}


def worker_count(scheduler: str) -> int:
    """Videos under way at once on this machine; 1 for a cluster, whose memory is its own."""
    import dask

    if scheduler not in LOCAL or scheduler == "synchronous":
        return 1
    return int(dask.config.get("num_workers", None) or dask.system.CPU_COUNT)


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it torch has one: for what runs side by side, and for maps so small that more wait."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _attempt(task: Callable[[str], Result], video: str) -> Result | _Failure:
    try:
        return task(video)
    except Exception as error:
        text, kind = f"{type(error).__name__}: {error}", FusionError
        if isinstance(error, FusionError):
            text, kind = str(error), type(error)
        failure = kind(text if repr(video) in text else f"video {video!r}: {text}")
        failure.add_note(traceback.format_exc())
        failure.__cause__ = error
        return _Failure(failure)


def _run_local(attempt: Attempt, videos: Sequence[str], finish: Finish, scheduler: str) -> None:
    import dask
    from dask.callbacks import Callback

    waiting = {f"video-{i}": video for i, video in enumerate(videos)}  # by Dask's key
    started: set[str] = set()
    deaths: Counter[str] = Counter()
    options: dict[str, Any] = {"scheduler": scheduler}

    def end(key: str, result: Any, *_: Any) -> None:
        finish(waiting[key], result)
        del waiting[key]

    while waiting:
        started.clear()
        jobs = [
            dask.delayed(partial(attempt, video), pure=False)(dask_key_name=key)
            for key, video in waiting.items()
        ]
        spawn = dask.config.set({"multiprocessing.context": "spawn"})
        try:
            with Callback(pretask=lambda key, *_: started.add(key), posttask=end), spawn:
                # chunksize 1: a chunk would be lost as a whole when its worker dies
                dask.compute(*jobs, chunksize=1, optimize_graph=False, **options)
        except BrokenProcessPool as error:
            deaths.update(started & waiting.keys())
            fatal = [video for key, video in waiting.items() if deaths[key] >= DEATHS]
            if fatal:
                raise FusionError(
                    f"video {fatal[0]!r}: its worker process died {DEATHS} times; out of memory, "
                    "or a script without ``if __name__ == '__main__':``? Try scheduler threads"
                ) from error
            options["num_workers"] = 1  # one video at a time, so that the right one is blamed


def _run_cluster(attempt: Attempt, videos: Sequence[str], finish: Finish, address: str) -> None:
    try:
        from distributed import Client, as_completed
        from distributed.scheduler import KilledWorker
    except ImportError:
        advice = "pip install 'segfusion[cluster]'"
        raise InputError(f"scheduler: {address} needs the package distributed; {advice}") from None
    try:
        client = Client(address, set_as_default=False, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        problem = f"cannot reach {address} ({error})"
        raise InputError(f"scheduler: {problem}; start it, or use threads") from error
    with client:
        names = {client.submit(attempt, video, pure=False): video for video in videos}
        for future in as_completed(list(names), loop=client.loop, raise_errors=False):
            lost = future.exception()
            if lost is not None:
                text = f"{type(lost).__name__}: {lost}"
                if isinstance(lost, KilledWorker):
                    text = "its workers died again and again; do they have enough memory?"
                raise FusionError(f"video {names[future]!r}: {text}") from lost
            finish(names[future], future.result())
