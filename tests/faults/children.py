"""Commands of the library in processes of their own, stopped at any moment and watched.

with Nursery() as nursery:
    clean = nursery.run(Job("fusion.search", [...]))
    ended = nursery.run(Job("fusion.search", [...]), Stop("SIGKILL", 0.2))

Starting Python and its libraries takes seconds, in which nothing is written. So one process, the
nursery, imports everything once and forks a child for each job: what is stopped at a random moment
of a clean run is then stopped at its work. Starts themselves: `started`.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fusion import interrupts

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "fusion.search": "fusion.search.__main__",
    "fusion.stores": "fusion.stores.__main__",
    "fusion.report": "fusion.report.__main__",
    **{name: name for name in ("fusion.predict", "fusion.evaluate")},
    **{name: name for name in ("fusion.models.train", "fusion.models.predict")},
}
KERNELS = ("average", "confusion", "contested", "sweep", "upsample")
WARM = (  # what commands import when they come to it
    *(f"fusion.kernels.{name}.cpu" for name in KERNELS),
    *("fusion.report.page", "fusion.report.gather", "fusion.search.storage"),
    *("alembic.command", "optuna.storages.journal", "optuna.storages._rdb.models"),
    *(
        "PIL.PngImagePlugin",
        "encodings.utf_8_sig",
        "sqlalchemy.dialects.sqlite",
        "zarr.codecs",
        "tqdm",
    ),
    *("torch._dynamo", "torch.nn.parallel"),
    *("dask.delayed", "dask.threaded", "dask.multiprocessing", "distributed"),
)
PATIENCE = 60  # seconds; a child that takes longer hangs, and says where
GRACE = 10  # seconds in which children of a child that was killed end as well


@dataclass(frozen=True)
class Job:
    """module: a command, or a module here with a `main`. user: whose rights it has, a number."""

    module: str
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)  # RLIMIT_...
    user: int = 0
    terminal: bool = False


@dataclass(frozen=True)
class Stop:
    """A signal so many seconds after the start.

    everyone: to all of its group, as Ctrl-C is. again: a second one, so many seconds later.
    """

    signal: str
    after: float
    everyone: bool = False
    again: float | None = None


@dataclass(frozen=True)
class Ended:
    """How a child ended; `code` is negative for a signal, as subprocess has it."""

    code: int
    out: str
    err: str
    seconds: float
    stopped: bool  # whether the signal was sent before it ended
    hung: bool
    left: list[str]  # command lines of processes that it left behind
    restored: bool  # whether the terminal has the modes that it had


class Nursery:
    """Forks children of a process that has imported the library."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"}
        environment["OMP_WAIT_POLICY"] = "PASSIVE"  # threads that spin take a busy machine's time
        environment.pop("TQDM_DISABLE", None)
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, "-m", "tests.faults.children"]
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            self._process.stdin.close()

    def run(self, job: Job, stop: Stop | None = None) -> Ended:
        (ended,) = self.together([job], [stop])
        return ended

    def size(self) -> int:
        """Bytes of its address space, which every child begins with."""
        pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[0]
        return int(pages) * resource.getpagesize()

    def together(self, jobs: Sequence[Job], stops: Sequence[Stop | None] = ()) -> list[Ended]:
        """Several children side by side."""
        stops = list(stops) or [None] * len(jobs)
        pairs = [(asdict(j), asdict(s) if s else None) for j, s in zip(jobs, stops, strict=True)]
        self._process.stdin.write(json.dumps(pairs) + "\n")
        self._process.stdin.flush()
        return [Ended(**each) for each in json.loads(self._process.stdout.readline())]


def moments(count: int, seconds: float, seed: int) -> Iterator[float]:
    """Delays spread at random over the length of a run, one in each of `count` equal parts."""
    draw = random.Random(seed)
    parts = list(range(count))
    draw.shuffle(parts)
    for part in parts:
        yield seconds * (part + draw.random()) / count


# --- in the nursery


def _serve() -> None:
    """Answers requests until there are no more; forked children leave by SystemExit."""
    for line in sys.stdin:
        children = [_Child(job, stop) for job, stop in json.loads(line)]
        while any([not child.look() for child in children]):  # noqa: C419, of each
            time.sleep(0.001)
        print(json.dumps([child.ended() for child in children]), flush=True)


class _Child:
    def __init__(self, job: dict[str, Any], stop: dict[str, Any] | None) -> None:
        self.stop, self.sent, self.hung, self.status = stop, False, False, None
        first, again = (stop["after"], stop["again"]) if stop else (None, None)
        self.due = [first] if first is not None else []
        self.due += [first + again] if again is not None else []
        self.out, self.err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self.said, self.master, self.slave = b"", -1, -1
        if job["terminal"]:
            self.master, self.slave = os.openpty()
            os.set_blocking(self.master, False)
            self.modes = termios.tcgetattr(self.slave)
        ready, tell = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            _become(job, self, tell)
        os.close(tell)
        os.read(ready, 1)
        os.close(ready)
        self.began = time.monotonic()

    def look(self) -> bool:
        """Does what is due; whether the child has ended."""
        if self.status is not None:
            return True
        with contextlib.suppress(BlockingIOError, OSError):
            if self.master >= 0:
                self.said += os.read(self.master, 1 << 16)
        done, status = os.waitpid(self.pid, os.WNOHANG)
        now = time.monotonic() - self.began
        if done:
            self.status, self.seconds = os.waitstatus_to_exitcode(status), now
            return True
        if self.due and now >= self.due[0]:
            del self.due[0]
            self.sent = True
            send = os.killpg if self.stop["everyone"] else os.kill
            send(self.pid, getattr(signal, self.stop["signal"]))
        if now > PATIENCE and not self.hung:
            self.hung = True
            os.kill(self.pid, signal.SIGUSR1)
            time.sleep(0.5)
            os.killpg(self.pid, signal.SIGKILL)
        return False

    def ended(self) -> dict[str, Any]:
        end = time.monotonic() + GRACE
        while (left := _group(self.pid)) and time.monotonic() < end:
            time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        restored = True
        if self.master >= 0:
            with contextlib.suppress(BlockingIOError, OSError):
                self.said += os.read(self.master, 1 << 16)
            restored = termios.tcgetattr(self.slave) == self.modes
            os.close(self.master)
            os.close(self.slave)
        texts = []
        for file in (self.out, self.err):
            file.seek(0)
            texts.append(file.read().decode())
            file.close()
        texts[1] += self.said.decode(errors="replace")
        how = {"stopped": self.sent, "hung": self.hung, "left": left, "restored": restored}
        said = {"out": texts[0], "err": texts[1], "seconds": self.seconds}
        return {"code": self.status, **said, **how}


def _become(job: dict[str, Any], child: _Child, tell: int) -> None:
    """The rest of a forked child's life."""
    os.setsid()
    sys.stdin.close()
    streams = (os.open(os.devnull, os.O_RDONLY), child.out.fileno(), child.err.fileno())
    for number, stream in enumerate((child.slave,) * 3 if child.slave >= 0 else streams):
        os.dup2(stream, number)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", 1, closefd=False)  # noqa: SIM115
    # as `fusion.interrupts.starting` has it by then, whatever the nursery was started by
    signal.signal(signal.SIGINT, interrupts._at_once)
    faulthandler.register(signal.SIGUSR1, file=2)
    os.environ.update(job["environment"])
    for name, most in job["limits"].items():
        resource.setrlimit(getattr(resource, name), (most, most))
    if job["user"]:
        os.setgroups([])
        os.setgid(job["user"])
        os.setuid(job["user"])
    sys.argv = [job["module"], *job["arguments"]]
    os.write(tell, b".")
    os.close(tell)
    main = importlib.import_module(COMMANDS.get(job["module"], job["module"])).main
    try:
        importlib.import_module("fusion.cli").command(main)
    except SystemExit as done:
        threading._shutdown()  # as at every end; the rest takes a second in so large a copy
        os._exit(done.code)


def _group(leader: int) -> list[str]:
    """Command lines of the processes that live in a group."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, IndexError):
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            if int(fields[2]) == leader and fields[0] != "Z":
                found.append((entry / "cmdline").read_text().replace("\0", " "))
    return found


if __name__ == "__main__":
    for name in (*WARM, *COMMANDS.values()):
        importlib.import_module(name)
    # of a lock of Optuna whose owner was killed, half a minute otherwise
    importlib.import_module("fusion.search.journal_file").GRACE = 10
    gc.freeze()  # else a child's first collection copies all of it
    assert len(os.listdir("/proc/self/task")) == 1, "a process with threads cannot be forked"
    _serve()
