"""What the tests of stores share: clips, one way to write them, and ways to look at a store."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from fusion import cli
from fusion.errors import CorruptStoreError, StoreError
from fusion.files import STAGING
from fusion.stores import LogitStore, LogitWriter
from fusion.stores import __main__ as commands
from fusion.stores import video_writer as writing
from fusion.stores.format import video_key
from fusion.stores.maintenance import verify

CLIP = np.random.default_rng(1).normal(0, 6, (3, 4, 5, 6)).astype(np.float32)
TINY = np.random.default_rng(2).normal(0, 6, (3, 4, 3, 5)).astype(np.float32)
CLASSES = [f"class {c}" for c in range(4)]
NAMES = ["sky", "road", "car", "tree"]
SHARD = "c/0/0/0/0"  # a video's first file


def image(*size: int, seed: int = 0, classes: int = 4) -> np.ndarray:
    shape = (1, classes, *(size or (3, 5)))
    return np.random.default_rng(seed).normal(0, 6, shape).astype(np.float32)


IMAGES = {f"image {n}": image(2 + n % 3, 5 - n % 2, seed=n) for n in range(10)}

# children are born without this process's threads
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["pytest", "zarr.codecs", "fusion.stores.maintenance"])


def write(
    path: Path,
    videos: dict,
    *,
    frames=None,
    shard_frames=None,
    classes=None,
    packed=False,
    size=None,
    geometry=None,
    overwrite=False,
    **options,
) -> Path:
    """Fills a store with clips [T, C, h, w] or lists of frames, `shard_frames` of them to a file.

    frames: ids of every clip, default "0", "1", ... packed: into packs. options: LogitWriter's.
    """
    asked = {"size": size, "geometry": geometry, "overwrite": overwrite}
    limit, first = writing.MAX_SHARD_BYTES, next(iter(videos.values()))[0]
    try:
        if shard_frames:
            writing.MAX_SHARD_BYTES = shard_frames * first.size
        writer = LogitWriter(path, classes or [f"class {c}" for c in range(len(first))], **options)
        with writer.pack() if packed else nullcontext(writer) as place:
            for video, clip in videos.items():
                ids = frames or [str(t) for t in range(len(clip))]
                with place.video(video, frames=ids, **asked) as out:
                    for frame in clip:
                        out.append(frame)
    finally:
        writing.MAX_SHARD_BYTES = limit
    return path


def save(path: Path, array: np.ndarray, key: str = "arr_0", **others: np.ndarray) -> Path:
    """An array as .npy or .npz; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npz":
        np.savez_compressed(path, **{key: array}, **others)
    else:
        np.save(path, array)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and its bytes."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def pixels(folder: Path) -> dict[str, bytes]:
    """The files whose bytes depend on what was written alone, not on who wrote it and when."""
    own = (STAGING, "commit.json")
    return {k: v for k, v in tree(folder).items() if not k.startswith(own) and own[1] not in k}


def contents(path: Path) -> tuple:
    """Everything a reader can learn from a store."""
    store = LogitStore(path)
    kept = [(store.codes(v).tobytes(), store.read(v).tobytes()) for v in store.videos]
    return store.info, store.digest(), [store.describe(v) for v in store.videos], kept


def staging(path: Path) -> list[str]:
    """Names of the work in progress."""
    folder = path / STAGING
    return sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []


def nothing_but_the_group(path: Path) -> bool:
    """No video, not even part of one, and no work in progress."""
    return LogitStore(path).videos == () and sorted(tree(path)) == ["zarr.json"]


def folder_of(path: Path, video: str = "v") -> Path:
    """The video's own, or the store's pack."""
    own, packs = path / video_key(video), packs_of(path)
    return packs[0] if packs and not os.path.lexists(own) else own


def packs_of(path: Path) -> list[Path]:
    return sorted(path.glob("pack-" + "[0-9a-f]" * 32))


def shard_of(path: Path, video: str = "v") -> Path:
    """A video's first file."""
    folder = folder_of(path, video)
    return folder / ("c/0/0" if folder in packs_of(path) else SHARD)


def place(path: Path, name: str) -> Path:
    """A file of a store by a short name: "v/..." is inside the folder of video "v"."""
    if name == f"v/{SHARD}":
        return shard_of(path)
    return folder_of(path) / name[2:] if name.split("/")[0] == "v" else path / name


def problems(path: Path) -> list[str | None]:
    return [verdict.problem for verdict in verify(path)]


def refused(path: Path, *, naming: str | None = None) -> str:
    """Asserts that the store's content cannot be had, and returns the one-line reason."""
    with pytest.raises(StoreError) as caught:
        contents(path)
    message = str(caught.value)
    assert "\n" not in message
    if naming is not None:
        assert naming in message
        assert isinstance(caught.value, CorruptStoreError)
        assert any(problem and naming in problem for problem in problems(path))
    return message


def in_child(target: Callable[..., None], *arguments: object) -> int | None:
    """Runs a function in a process of its own; its exit code."""
    child = PROCESSES.Process(target=target, args=arguments)
    child.start()
    child.join(60)
    code = child.exitcode
    child.close()
    return code


def run(capsys, *arguments) -> tuple[int, str, str]:
    """The command line: exit code, stdout, stderr."""
    code = cli.run(commands.main, [str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err
