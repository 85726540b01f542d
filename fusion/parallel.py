"""One task per video, on Dask: threads, processes, in this thread, or a cluster.

The result is a dict in the order of the videos asked for, made of exactly what the task returned:
which scheduler ran it, with how many workers and in which order, cannot show. A video whose worker
process dies is tried again; one that kills its worker three times is named in an error: tasks that
write must not mind being run twice. Number of workers: Dask's own setting,
``dask.config.set(num_workers=2)``. Clusters: `fusion.cluster`.
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

from fusion import cluster
from fusion.arguments import checked
from fusion.errors import FusionError, InputError
from fusion.progress import bar
from fusion.text import listed

Result = TypeVar("Result")
Attempt = Callable[[str], Any]  # a video's result, or its _Failure
Finish = Callable[[str, Any], None]  # takes them as they come

LOCAL = ("threads", "processes", "synchronous")
DEATHS = 3  # one may be a neighbour's doing (out of memory beside it), three are the video's own


@dataclass(frozen=True)
class _Failure:
    """A task's error: exceptions themselves lose cause and type on the way out of a process."""

    error: FusionError


@checked
def map_videos(
    task: Callable[[str], Result],
    videos: Sequence[str],
    *,
    scheduler: str = "threads",
    progress: str | None = None,
    frames: Mapping[str, int] | None = None,
    take: Callable[[str, Result], Any] | None = None,
) -> dict[str, Any]:
    """``{video: task(video)}`` for each video, in the given order.

    Args:
        task: a callable on a video id; picklable for ``processes`` and clusters (a module-level
            function, `functools.partial` of one, or an object with ``__call__``).
        videos: ids, each once.
        scheduler: threads, processes (spawned, never forked), synchronous, or a distributed
            scheduler: its address such as ``tcp://host:8786``, or the path of its scheduler file.
        progress: title of a progress bar on stderr; None for no bar.
        frames: how many each video has; the bar then counts the frames of videos that are done.
        take: called in this thread or another, one at a time, with every video and its result as
            they come; what it returns is kept in the result's place.

    Raises:
        FusionError: what the task raises, if that is a library error; any other exception with
            the video's name, and the traceback as a note.
        InputError: unknown or unreachable scheduler, a video twice; workers of another version.
        StoreError: workers that do not see the files that this process sees.
    """
    if scheduler not in LOCAL and not cluster.is_place(scheduler):
        choice = f"choose one of {', '.join(LOCAL)}, or an address such as tcp://host:8786"
        raise InputError(f"scheduler: got {scheduler!r}; {choice}")
    videos = list(videos)
    if len(set(videos)) != len(videos):
        twice = next(video for i, video in enumerate(videos) if video in videos[:i])
        raise InputError(f"videos: {twice!r} is there twice; name each video once")
    if frames is not None and not frames.keys() >= set(videos):
        raise InputError(f"frames: got {listed(frames)}; give a number for each of the videos")
    done: dict[str, Result] = {}

    def finish(video: str, result: Result | _Failure) -> None:
        if isinstance(result, _Failure):
            raise result.error
        done[video] = result if take is None else take(video, result)
        shown.update(1 if frames is None else frames[video])

    total = len(videos) if frames is None else sum(frames[video] for video in videos)
    counted: dict[str, Any] = {"unit": "video" if frames is None else "frame"}
    if progress is None:  # else people's own TQDM_DISABLE holds
        counted["disable"] = True
    with closing(bar(progress or "", total, **counted)) as shown:
        if videos and scheduler in LOCAL:
            _run_local(partial(_attempt, task), videos, finish, scheduler)
        elif videos:
            cluster.run(task, _attempt, videos, finish, scheduler)
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

    last = len(videos)  # Dask begins with the last of these names
    waiting = {f"video-{last - i:09}": video for i, video in enumerate(videos)}
    started: set[str] = set()
    deaths: Counter[str] = Counter()
    options: dict[str, Any] = {"scheduler": scheduler}

    def end(key: str, result: Any, _: Any, state: Any, *more: Any) -> None:
        finish(waiting[key], result)
        state["cache"][key] = None  # kept by whoever took it, not by Dask as well
        del waiting[key]

    while waiting:
        started.clear()
        jobs = [
            dask.delayed(partial(attempt, video), pure=False)(dask_key_name=key)
            for key, video in waiting.items()
        ]
        spawn = dask.config.set({"multiprocessing.context": "spawn"})
        # start, start_state, pretask, posttask, finish. Not `with Callback(...)`, which is told of
        # whatever other threads compute as well: their results would be taken for ours
        told = (None, None, lambda key, *_: started.add(key), end, None)
        try:
            with spawn:
                # chunksize 1: a chunk would be lost as a whole when its worker dies
                how: dict[str, Any] = {"chunksize": 1, "optimize_graph": False, **options}
                dask.compute(*jobs, callbacks=[told], **how)
        except BrokenProcessPool as error:
            deaths.update(started & waiting.keys())
            fatal = [video for key, video in waiting.items() if deaths[key] >= DEATHS]
            if fatal:
                raise FusionError(
                    f"video {fatal[0]!r}: its worker process died {DEATHS} times; out of memory, "
                    "or a script without ``if __name__ == '__main__':``? Try scheduler threads"
                ) from error
            options["num_workers"] = 1  # one video at a time, so that the right one is blamed
