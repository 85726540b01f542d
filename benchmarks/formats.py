"""python -m benchmarks.formats: bytes on disk and read speed of stores beside other files.

The same logits lie in stores of both profiles and in what people use instead: npz (deflate), a
memory-mapped npy, HDF5 with gzip, zarr with Blosc (zstd and shuffle). Each holds a file or group of
its own per video; a reader gives every frame in order as float32, as the fusing loop wants it, from
files that the system has in memory: what is measured is decoding. Rounds are interleaved; what is
read is compared with what was written before anything is timed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fusion
from benchmarks.simulated import agreeing
from fusion.errors import InputError
from fusion.stores.codec import DECODE_TABLE
from fusion.text import table

Clips = dict[str, np.ndarray]  # video -> float16 [T, C, h, w]
Reader = Callable[[Path, list[str]], Iterator[np.ndarray]]
FRAMES, CLASSES, SIZE = 24, 124, (120, 214)  # of the simulated video
NETWORKS = 4  # of camvid22


@dataclass(frozen=True)
class Format:
    """A way to keep logits.

    Args:
        write: all videos into a folder.
        read: every frame of some videos, in order, as float32 or codes.
        exact: whether the float16 numbers come back.
    """

    write: Callable[[Path, Clips], None]
    read: Reader
    exact: bool = True


def write_store(profile: Any) -> Callable[[Path, Clips], None]:
    def write(folder: Path, clips: Clips) -> None:
        classes = [f"class {c}" for c in range(next(iter(clips.values())).shape[1])]
        with fusion.LogitWriter(folder / "s.zarr", classes, profile) as writer:
            for video, clip in clips.items():
                with writer.video(video, frames=[str(t) for t in range(len(clip))]) as out:
                    out.extend(clip)

    return write


def read_store(folder: Path, videos: list[str]) -> Iterator[np.ndarray]:
    store = fusion.LogitStore(folder / "s.zarr")
    for video in videos:
        for frame in store.frames(video):
            yield store.read(video, [frame])[0]


def read_codes(folder: Path, videos: list[str]) -> Iterator[np.ndarray]:
    """As kernels take them: float16 or uint8, no float32 is ever made."""
    store = fusion.LogitStore(folder / "s.zarr")
    for video in videos:
        for frame in store.frames(video):
            yield store.codes(video, [frame])[0]


def write_npz(folder: Path, clips: Clips) -> None:
    for video, clip in clips.items():
        np.savez_compressed(folder / f"{video}.npz", logits=clip)


def read_npz(folder: Path, videos: list[str]) -> Iterator[np.ndarray]:
    for video in videos:
        with np.load(folder / f"{video}.npz") as file:
            yield from (frame.astype(np.float32) for frame in file["logits"])


def write_npy(folder: Path, clips: Clips) -> None:
    for video, clip in clips.items():
        np.save(folder / f"{video}.npy", clip)


def read_npy(folder: Path, videos: list[str]) -> Iterator[np.ndarray]:
    for video in videos:
        mapped = np.load(folder / f"{video}.npy", mmap_mode="r")
        yield from (frame.astype(np.float32) for frame in mapped)


def write_hdf5(folder: Path, clips: Clips) -> None:
    import h5py

    with h5py.File(folder / "all.h5", "w") as file:
        for video, clip in clips.items():
            file.create_dataset(video, data=clip, chunks=(1, *clip.shape[1:]), compression="gzip")


def read_hdf5(folder: Path, videos: list[str]) -> Iterator[np.ndarray]:
    import h5py

    with h5py.File(folder / "all.h5") as file:
        for video in videos:
            data = file[video]
            yield from (data[t].astype(np.float32) for t in range(len(data)))


def write_zarr(folder: Path, clips: Clips) -> None:
    import zarr
    from zarr.codecs import BloscCodec

    for video, clip in clips.items():
        array = zarr.create_array(
            store=str(folder / "all.zarr" / video),
            shape=clip.shape,
            dtype=clip.dtype,
            chunks=(1, *clip.shape[1:]),
            compressors=BloscCodec(cname="zstd", clevel=5, shuffle="shuffle"),
        )
        array[:] = clip


def read_zarr(folder: Path, videos: list[str]) -> Iterator[np.ndarray]:
    import zarr

    for video in videos:
        array = zarr.open_array(str(folder / "all.zarr" / video), mode="r")
        yield from (np.asarray(array[t]).astype(np.float32) for t in range(array.shape[0]))


FORMATS = {
    "store, compact (uint8 codes)": Format(write_store("compact"), read_store, exact=False),
    "the same, codes as kernels take them": Format(write_store("compact"), read_codes, exact=False),
    "store, exact (float16)": Format(write_store("exact"), read_store),
    "the same, float16 as kernels take it": Format(write_store("exact"), read_codes),
    "npz, compressed": Format(write_npz, read_npz),
    "npy, memory-mapped": Format(write_npy, read_npy),
    "HDF5, gzip": Format(write_hdf5, read_hdf5),
    "zarr, Blosc zstd": Format(write_zarr, read_zarr),
}


def simulated(frames: int) -> Clips:
    """One video of 124 classes; networks' own noise is finer than float16 keeps."""
    rng = np.random.default_rng(0)
    base = agreeing(1, CLASSES, SIZE)[0].numpy()
    made = (np.roll(base, 3 * t, 2) + rng.normal(0, 0.1, base.shape) for t in range(frames))
    return {"simulated": np.stack([frame.astype(np.float16) for frame in made])}


def camvid() -> Clips | None:
    """Some networks of camvid22, whose numbers are decoded gap codes; None without the data."""
    folder = Path(os.environ.get("SEGFUSION_DATA", ""))
    if not (folder / "meta.json").is_file():
        return None
    clips = {}
    for path in sorted(folder.glob("*.npz"))[:NETWORKS]:
        if path.stem == "raw_float16":
            continue
        with np.load(path) as file:
            for video in file.files:
                clips[f"{path.stem}-{video}"] = DECODE_TABLE[file[video]].astype(np.float16)
    return clips


def check(name: str, kept: Format, folder: Path, clips: Clips) -> None:
    """InputError where other numbers come back, or for codes another top class."""
    frames = kept.read(folder, list(clips))
    for clip in clips.values():
        for written in clip:
            got = next(frames)
            if kept.exact and not np.array_equal(got.astype(np.float16), written):
                raise InputError(f"{name}: read other numbers than were written")
            best = got.argmin(0) if got.dtype == np.uint8 else got.argmax(0)
            if not np.array_equal(best, written.astype(np.float32).argmax(0)):
                raise InputError(f"{name}: read another top class than was written")


def _lists() -> dict[str, list[float]]:
    return {name: [] for name in FORMATS}


def measure(case: str, clips: Clips, rounds: int, scratch: Path) -> list[list[str]]:
    """A table's rows of one case."""
    numbers = sum(clip.size for clip in clips.values())
    frames = sum(map(len, clips.values()))
    sizes, times, work = {}, _lists(), _lists()
    for n, (name, kept) in enumerate(FORMATS.items()):
        folder = scratch / case / str(n)
        folder.mkdir(parents=True)
        kept.write(folder, clips)
        sizes[name] = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
        check(name, kept, folder, clips)
    for _ in range(rounds):
        for n, (name, kept) in enumerate(FORMATS.items()):
            began, busy = time.perf_counter(), time.process_time()
            for frame in kept.read(scratch / case / str(n), list(clips)):
                frame.reshape(-1)[0]
            times[name].append(time.perf_counter() - began)
            work[name].append(time.process_time() - busy)
    rows = []
    for name, each in times.items():
        took = statistics.median(each)
        share, rate = sizes[name] / (2 * numbers), 2 * numbers / took / 1e6
        spread = f"{1e3 * min(each) / frames:.2f} to {1e3 * max(each) / frames:.2f}"
        busy = f"{1e3 * statistics.median(work[name]) / frames:.2f}"
        figures = f"{1e3 * took / frames:.2f}", spread, busy, f"{rate:.0f}"
        rows.append([case, name, f"{sizes[name] / 1e6:.1f}", f"{share:.1%}", *figures])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.formats", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--frames", type=int, default=FRAMES, help="of the simulated video")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cases = {"simulated": simulated(asked.frames)}
    if (real := camvid()) is not None:
        cases["camvid22"] = real
    with tempfile.TemporaryDirectory() as scratch:
        rows = [
            row
            for case, clips in cases.items()
            for row in measure(case, clips, asked.rounds, Path(scratch))
        ]
    head = (
        "logits",
        "kept as",
        "MB",
        "of float16",
        "ms a frame",
        "spread",
        "CPU ms",
        "MB/s of float16",
    )
    print(f"{asked.rounds} rounds, medians; MB/s are of the float16 numbers")
    print(table(rows, head))


if __name__ == "__main__":
    main()
