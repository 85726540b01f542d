"""python -m benchmarks.remote: reading a store on an object store behind a slow wire.

Moto's S3 server runs in a process of its own, and before it a proxy that lets through so many bytes
a second, all connections together, and keeps every request waiting for the latency (a new
connection once more). The floor is the same bytes without latency: whole files, sixteen at a time.
Every reader opens the store anew, reads every frame of every video in order, and is checked against
what was written. Contenders take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import statistics
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

import fusion
from benchmarks.simulated import agreeing
from fusion.errors import InputError
from fusion.stores.documents import crc32c
from fusion.stores.locations import ahead, bucket, location_of, remote
from fusion.text import table

SPAWN = multiprocessing.get_context("spawn")
CASES = {"long": (4, 100), "short": (100, 4)}  # videos, frames of each
CLASSES, SIZE = 19, (120, 214)
CHUNK = 64 << 10
BATCH = 4  # frames that are asked for at a time


def serve(answer: Any) -> None:
    """A process: moto."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    answer.send(server.get_host_and_port()[1])
    answer.recv()


def slow_down(answer: Any, behind: int) -> None:
    """A process: the wire. `answer` is told the port, and says (latency, bytes a second)."""
    how, free = [0.0, 1e12], [0.0]

    async def paid(size: int) -> None:
        now = time.monotonic()
        free[0] = max(now, free[0]) + size / how[1]
        await asyncio.sleep(max(0.0, free[0] - now))

    async def forward(reader: Any, writer: Any, down: bool) -> None:
        try:
            while data := await reader.read(CHUNK):
                await (paid(len(data)) if down else asyncio.sleep(how[0]))
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def connected(reader: Any, writer: Any) -> None:
        await asyncio.sleep(how[0])
        there, back = await asyncio.open_connection("127.0.0.1", behind)
        await asyncio.gather(forward(reader, back, False), forward(there, writer, True))

    async def main() -> None:
        server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=256)
        answer.send(server.sockets[0].getsockname()[1])
        while True:
            while answer.poll():
                told = answer.recv()
                if told is None:
                    return
                how[:] = told
                answer.send(True)
            await asyncio.sleep(0.005)

    asyncio.run(main())


@contextmanager
def child(run: Callable[..., None], *arguments: Any) -> Iterator[Any]:
    """A process that answers by a pipe, until the block ends."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=run, args=(theirs, *arguments), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        ours.send(None)
        process.join(5)
        if process.is_alive():
            process.terminate()


def fill(case: str) -> tuple[str, dict[str, list[int]]]:
    """A store of simulated codes; its address, and the checksums of every frame."""
    videos, frames = CASES[case]
    rng = np.random.default_rng(0)
    base = np.stack([each.numpy() for each in agreeing(6, CLASSES, SIZE)])
    base += rng.normal(0, 0.2, base.shape).astype(np.float32)
    address = f"s3://bench/{case}.zarr"
    writer = fusion.LogitWriter(address, [f"class {c}" for c in range(CLASSES)])
    for v in range(videos):
        ids = [f"{t:05d}" for t in range(frames)]
        with writer.video(f"video {v:03d}", frames=ids) as out:
            for _ in ids:
                shift = rng.integers(0, 60, 2)
                out.append(np.roll(base[rng.integers(len(base))], shift, (1, 2)))
    store = fusion.LogitStore(address)
    known = {video: list(store.describe(video).crc) for video in store.videos}
    return address, known


def read(address: str) -> dict[str, list[int]]:
    """This library."""
    store, found = fusion.LogitStore(address), {}
    for video in store.videos:
        ids, sums = store.frames(video), []
        for first in range(0, len(ids), BATCH):
            sums += [crc32c(frame) for frame in store.codes(video, ids[first : first + BATCH])]
        found[video] = sums
    return found


def read_unforeseen(address: str) -> dict[str, list[int]]:
    """The same, and nothing is asked for before it is needed."""
    most, ahead.Stream._look_ahead = ahead.Stream._look_ahead, lambda *_: None  # type: ignore
    try:
        return read(address)
    finally:
        ahead.Stream._look_ahead = most  # type: ignore[method-assign]


def read_by_s3fs(address: str) -> dict[str, list[int]]:
    """The same, whose ranges s3fs fetches in the place of obstore."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    files = s3fs.S3FileSystem(
        key="k", secret="s", endpoint_url=os.environ["AWS_ENDPOINT_URL"], skip_instance_cache=True
    )
    honest = bucket.Bucket.range

    def fetch(self: Any, where: str, key: str, start: int, end: int) -> memoryview:
        return memoryview(files.cat_file(f"bench/{key}", start=start, end=end))

    bucket.Bucket.range = fetch  # type: ignore[method-assign]
    try:
        return read(address)
    finally:
        bucket.Bucket.range = honest  # type: ignore[method-assign]


def read_by_zarr(address: str) -> dict[str, list[int]]:
    """zarr-python over obstore, a video at a time."""
    import obstore
    import zarr
    from zarr.storage import ObjectStore

    store, found = fusion.LogitStore(address), {}
    source = obstore.store.S3Store("bench", client_options=bucket.CLIENT)
    for video in store.videos:
        info = store.describe(video)
        place = f"{store.location.name}/{info.folder}/{info.draft}"
        array = zarr.open_array(ObjectStore(source, read_only=True), path=place, mode="r")
        found[video] = [crc32c(frame) for frame in np.asarray(array[:])]
    return found


def fetch_all(address: str) -> int:
    """The floor: every byte of every shard, and nothing else."""
    import obstore

    source = obstore.store.S3Store("bench", client_options=bucket.CLIENT)
    name = location_of(address).name
    listed = obstore.list(source, name, chunk_size=1000).collect()
    keys = [each["path"] for each in listed if "/c/" in each["path"]]
    with ThreadPoolExecutor(16) as threads:
        return sum(threads.map(lambda key: len(obstore.get(source, key).bytes()), keys))


CONTENDERS = {
    "fusion": read,
    "nothing ahead": read_unforeseen,
    "fusion by s3fs": read_by_s3fs,
    "zarr by obstore": read_by_zarr,
}


def measure(wire: Any, case: str, latency: float, speed: float, rounds: int) -> list[list[str]]:
    """A table's rows of one case and latency."""
    contenders = dict(CONTENDERS)
    try:
        import s3fs  # noqa: F401
    except ImportError:
        contenders.pop("fusion by s3fs")
    told(wire, 0.0, 1e12)
    address, known = fill(case)
    times: dict[str, list[float]] = {name: [] for name in ("floor", *contenders)}
    size = 0
    for turn in range(rounds + 1):
        for name in times:
            remote._BUCKETS.clear()  # connections are made anew
            told(wire, 0.0 if name == "floor" else latency, speed)
            began = time.perf_counter()
            found = fetch_all(address) if name == "floor" else contenders[name](address)
            took = time.perf_counter() - began
            print(f"{case}, {name}: {took:.2f} s", file=sys.stderr)
            if name == "floor":
                size = int(found)  # type: ignore[call-overload]
            elif found != known:
                raise InputError(f"{name}: read other numbers than were written")
            if turn:
                times[name].append(took)
    floor = statistics.median(times["floor"])
    rows = []
    for name, each in times.items():
        took = statistics.median(each)
        spread = f"{min(each):.2f} to {max(each):.2f}"
        figures = f"{took:.2f}", spread, f"{size / took / 1e6:.1f}", f"{floor / took:.2f}"
        waited = "0" if name == "floor" else f"{1000 * latency:g}"
        rows.append([case, waited, name, *figures])
    return rows


def told(wire: Any, latency: float, speed: float) -> None:
    wire.send((latency, speed))
    wire.recv()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.remote", description=__doc__)
    parser.add_argument("--latency", type=float, nargs="+", default=[50.0], help="ms")
    parser.add_argument("--bandwidth", type=float, default=25.0, help="MB a second")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", nargs="+", choices=tuple(CASES), default=list(CASES))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with child(serve) as server:
        behind = server.recv()
        make = urllib.request.Request(f"http://127.0.0.1:{behind}/bench", method="PUT")
        urllib.request.urlopen(make).read()
        with child(slow_down, behind) as wire:
            os.environ.update(
                AWS_ENDPOINT_URL=f"http://127.0.0.1:{wire.recv()}",
                AWS_ACCESS_KEY_ID="k",
                AWS_SECRET_ACCESS_KEY="s",
                AWS_REGION="us-east-1",
            )
            rows = [
                row
                for case in asked.case
                for latency in asked.latency
                for row in measure(wire, case, latency / 1000, asked.bandwidth * 1e6, asked.rounds)
            ]
    print(f"python {sys.version.split()[0]}, {asked.bandwidth:g} MB/s, {asked.rounds} rounds")
    head = ("case", "latency ms", "reader", "seconds", "spread", "MB/s", "share of the floor")
    print(table(rows, head))


if __name__ == "__main__":
    main()
