"""Where studies are kept: journals that processes share, database URLs, and what a crash leaves.

    journal:PATH        a file that processes append to, on network file systems too
    sqlite:///PATH      a database, on one machine
    postgresql://...    a server, from anywhere

A process that dies while it writes leaves a journal's last line torn, which Optuna cannot read
past: the torn end is moved into a file beside it. A trial that it was at stays "running" for ever:
it is closed, and a point that was not drawn but asked for is asked for again.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import secrets
import socket
import sqlite3
import stat
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.samplers import BaseSampler

from fusion import plain
from fusion.errors import FusionError, InputError, StoreError
from fusion.files import locked, refusals, write_bytes
from fusion.parsing import parse_json

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage

JOURNAL, SQLITE = "journal:", "sqlite:///"
OWNER, SCORE = "process", "score"  # of a trial, in its attributes
FIXED = "fixed_params"  # Optuna's attribute of a trial that was asked for
TORN = 64  # lines after the first damaged one: a few of processes that appended before they looked
STALE = timedelta(days=1)  # of a running trial on another machine, whose clock may be off by hours


def opened(storage: str | None) -> BaseStorage | str | None:
    """What Optuna takes as a storage, a journal's torn end moved aside; None is in memory."""
    if storage is None:
        return None
    if storage.startswith(JOURNAL):
        return _journal(Path(storage.removeprefix(JOURNAL)))
    if storage.startswith("postgresql"):
        from optuna.storages import RDBStorage
        from sqlalchemy.pool import NullPool

        # no connection is held between trials: servers have few, searches many processes
        return RDBStorage(_url(storage), engine_kwargs={"poolclass": NullPool})
    if storage.startswith(SQLITE):
        _check_database(Path(storage.removeprefix(SQLITE).partition("?")[0]))
    return storage


def _check_database(path: Path) -> None:
    """StoreError where a database is damaged; a crash's journal is played back."""
    if not _is_there(path):
        return
    try:
        with contextlib.closing(sqlite3.connect(path)) as database:
            (found,) = database.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.OperationalError:  # locked, or not writable: Optuna says so
        return
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        got = f"is a damaged database, or none ({found.partition(chr(10))[0]})"
        raise StoreError(f"{path}: {got}; restore it, delete it or give another storage=")


def _is_there(path: Path) -> bool:
    """Whether there is a file; StoreError for what is none: whoever opens a pipe waits."""
    if not os.path.lexists(path):
        return False
    with refusals(path, problem="cannot be read"):
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(errno.EINVAL, "no plain file")
    return True


@contextlib.contextmanager
def named(storage: str | None) -> Iterator[None]:
    """Names a study's storage in what Optuna and drivers make of damage: one line, a StoreError."""
    try:
        yield
    except FusionError:
        raise
    except Exception as error:  # any storage backend's own errors
        if storage is None:
            raise
        said = str(error).partition("\n")[0]
        got = f"cannot be read or written ({type(error).__name__}: {said})"
        do = "restore it, delete it or give another storage="
        raise StoreError(f"optuna: storage {shown(storage)!r} {got}; {do}") from error


def _url(storage: str) -> str:
    """A server's URL with the driver that is installed."""
    if storage.startswith("postgresql://") and importlib.util.find_spec("psycopg"):
        return storage.replace("postgresql://", "postgresql+psycopg://", 1)
    return storage


def shown(storage: str | None) -> str:
    """A storage as errors may show it, without its password."""
    if storage is None or storage.startswith(JOURNAL) or "://" not in storage:
        return str(storage)
    kind, rest = storage.split("://", 1)
    login, at, place = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    return f"{kind}://{user}{':***' if colon else ''}{at}{place}"


@contextlib.contextmanager
def alone(storage: str | None, folder: Path | None) -> Iterator[None]:
    """One process at a time, where a file system or a server can see to it.

    folder: beside which a storage lies that says nothing of its own place.
    """
    if storage is not None and storage.startswith("postgresql"):
        with _advisory_lock(storage):
            yield
        return
    for kind in (JOURNAL, SQLITE):
        if storage is not None and storage.startswith(kind):
            folder = Path(storage.removeprefix(kind)).absolute().parent
    # a shared storage is looked at before the first search makes its folder
    with locked(folder) if folder and folder.is_dir() else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _advisory_lock(storage: str) -> Iterator[None]:
    """PostgreSQL's own lock, which ends with the connection: no tables are made by two at once."""
    import sqlalchemy

    try:
        engine = sqlalchemy.create_engine(_url(storage), poolclass=sqlalchemy.NullPool)
        connection = engine.connect()
        connection.execute(sqlalchemy.text(f"SELECT pg_advisory_lock({zlib.crc32(b'segfusion')})"))
    except Exception as error:  # a driver's own, or none is there
        raise unopened(storage, error) from error
    with connection:
        yield


def unopened(storage: str | None, error: Exception) -> InputError:
    """What is said of a storage that refuses."""
    do = "give journal:FILE, or a URL such as sqlite:///study.db"
    if isinstance(error, ImportError):
        ours = str(storage).startswith("postgresql")
        do = "pip install 'segfusion[postgresql]'" if ours else f"install its driver, or {do}"
    said = str(error).partition("\n")[0].rstrip(".")
    return InputError(f"optuna: storage {shown(storage)!r} cannot be opened ({said}); {do}")


def _journal(path: Path) -> BaseStorage:
    from optuna.storages import JournalStorage

    from fusion.search.journal_file import Journal

    if not path.parent.is_dir():
        raise InputError(f"optuna: journal {path}: no folder {path.parent}; make it first")
    _is_there(path)
    backend = Journal(path)
    with refusals(path), backend.lock:
        _mend(path)
    return JournalStorage(backend)


def _mend(path: Path) -> None:
    """Moves the torn end of a journal into a file beside it, and says so."""
    try:
        lines = plain.content(path).splitlines(keepends=True)
    except ValueError as error:
        raise StoreError(f"{path}: is no journal of Optuna ({error}); give another file") from error
    first = next((n for n, line in enumerate(lines) if not _is_whole(line)), len(lines))
    if first == len(lines):
        return
    if first == 0 and (len(lines) > 1 or not lines[0].startswith(b'{"op_code"'[: len(lines[0])])):
        raise StoreError(f"{path}: is no journal of Optuna; give another file")
    if len(lines) - first > TORN:
        what = f"line {first + 1} of {len(lines)} is damaged, which no crash does"
        raise StoreError(f"{path}: {what}; restore the file, or give another")
    aside = path.with_name(f"{path.name}.torn-{secrets.token_hex(4)}")
    write_bytes(aside, b"".join(lines[first:]), overwrite=False, durable=True)
    os.truncate(path, sum(map(len, lines[:first])))
    many = f"{len(lines) - first} lines" if len(lines) - first > 1 else "line"
    print(f"{path}: the last {many}, torn in a crash, moved to {aside.name}", file=sys.stderr)


def _is_whole(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and "op_code" in parse_json(line)
    except (ValueError, TypeError):
        return False


class Seeded(BaseSampler):
    """A sampler that is made when its first trial is known, and seeded by that trial's number.

    The first process of a study draws as the seed says; one that resumes or shares it begins with
    another trial, so it draws other points.
    """

    def __init__(self, kind: type[BaseSampler], seed: int) -> None:
        self.kind, self.seed, self.begun = kind, seed, False
        self.made: Any = kind(seed=seed)  # type: ignore[call-arg]

    def _of(self, trial: optuna.trial.FrozenTrial) -> Any:
        if not self.begun and trial.number:
            mixed = zlib.crc32(f"{self.seed} {trial.number}".encode())
            self.made = self.kind(seed=mixed)  # type: ignore[call-arg]
        self.begun = True
        return self.made

    def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        self._of(trial).before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, Any]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, search_space: dict[str, Any]
    ) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        param_name: str,
        param_distribution: Any,
    ) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        state: optuna.trial.TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._of(trial).after_trial(study, trial, state, values)


def owner() -> dict[str, Any]:
    """What tells this process from all others."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "began": _began(os.getpid())}


def _began(pid: int) -> str | None:
    """When a process of this machine began, in the system's own unit; None where it is gone.

    Where the system does not say (no /proc), "" for every process that is there.
    """
    if sys.platform == "linux":
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
        except (OSError, IndexError):
            return None
    if sys.platform == "win32":  # os.kill would end it
        return ""
    with contextlib.suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
    return ""


def close_dead(study: optuna.Study) -> int:
    """Ends the running trials of processes that are gone, and says how many.

    Those without a score have failed. Points that were asked for are asked for again.
    """
    import optuna

    states, closed = optuna.trial.TrialState, 0
    for trial in study.get_trials(deepcopy=False, states=[states.RUNNING]):
        if not _is_dead(trial):
            continue
        closed += 1
        if SCORE in trial.user_attrs:  # it died before it said so
            study.tell(trial.number, trial.user_attrs[SCORE], skip_if_finished=True)
            continue
        study.tell(trial.number, state=states.FAIL, skip_if_finished=True)
        ask_again(study, trial.number)
    return closed


def ask_again(study: optuna.Study, number: int) -> None:
    """Asks for the point of a trial that did not come to its end, if it was asked for."""
    fixed = study.get_trials(deepcopy=False)[number].system_attrs.get(FIXED)
    if fixed is not None:
        study.enqueue_trial(fixed)


def _is_dead(trial: optuna.trial.FrozenTrial) -> bool:
    told = trial.user_attrs.get(OWNER)
    found: Mapping[str, Any] = told if isinstance(told, dict) else {}
    if found.get("host") == socket.gethostname():
        return _began(int(found["pid"])) != found["began"]
    began = trial.datetime_start
    return began is not None and datetime.now() - began > STALE
