"""Studies that processes share: journals, what crashes leave of them, a PostgreSQL server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest

from fusion.errors import InputError, StoreError
from fusion.search.method import Problem
from fusion.search.storage import STALE, Seeded, owner, shown
from fusion.search.study import Optuna
from tests.search.simulated import small

ROOT = Path(__file__).parents[2]
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
SEARCHER = """
import sys, time
from fusion.search.method import Problem
from fusion.search.study import Optuna
from tests.search.simulated import small
import optuna
method = Optuna(trials=int(sys.argv[2]), storage=sys.argv[1], sampler="random")
problem = Problem(small())
score = Problem.trials
def slowly(*given):  # both are at it before one has done all
    time.sleep(0.1)
    return score(*given)
Problem.trials = slowly
print("ready", flush=True)
sys.stdin.readline()
found = method.search(problem)
print(found.miou.hex(), len(found.history))
"""


def study_at(storage):
    from fusion.search.storage import opened

    return optuna.load_study(study_name="segfusion", storage=opened(storage))


def search_together(storage: str, trials: int) -> None:
    """Two processes at once, and what any number of them must leave behind."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    how = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    command = [sys.executable, "-c", SEARCHER, storage, str(trials)]
    both = [subprocess.Popen(command, **how) for _ in range(2)]
    for each in both:
        assert each.stdout.readline() == "ready\n"
    for each in both:
        each.stdin.write("\n")
        each.stdin.flush()
    said = [each.communicate(timeout=100)[0].split() for each in both]
    assert [each.returncode for each in both] == [0, 0]
    found = study_at(storage).get_trials(deepcopy=False)
    assert [trial.number for trial in found] == list(range(len(found)))
    complete = [t for t in found if t.state == optuna.trial.TrialState.COMPLETE]
    assert len(found) == len(complete) in (trials, trials + 1)  # both may be at their last
    weights = [tuple(trial.user_attrs["weights"]) for trial in complete]
    assert len(set(weights)) == len(weights)  # no process draws what another has drawn
    assert len({trial.user_attrs["process"]["pid"] for trial in complete}) == 2
    scores = small().miou(weights).tolist()
    assert [trial.value for trial in complete] == scores
    # who ended last has seen them all
    assert max(float.fromhex(best) for best, _ in said) == max(scores)
    assert max(int(number) for _, number in said) == len(complete)


def test_two_processes_share_a_journal(tmp_path):
    search_together(f"journal:{tmp_path / 'study.log'}", 24)
    assert [path.name for path in tmp_path.iterdir()] == ["study.log"]


@pytest.fixture(scope="module")
def postgres():
    """The URL of a PostgreSQL server that answers on a socket alone."""
    pytest.importorskip("psycopg", reason="pip install 'psycopg[binary]'")
    if not BINARIES:
        pytest.skip("no PostgreSQL server in /usr/lib/postgresql: apt-get install postgresql")
    import pwd

    # not the test's own folder: a server does not run as root, nor look into root's folders
    folder = Path(tempfile.mkdtemp(prefix="segfusion-"))
    how = {"capture_output": True, "text": True, "cwd": folder}
    if os.getuid() == 0:
        try:
            shutil.chown(folder, *pwd.getpwnam("postgres")[2:4])
        except KeyError:
            pytest.skip("a PostgreSQL server does not run as root, and there is no user postgres")
        how |= {"user": "postgres", "group": "postgres"}

    def run(name, *arguments):
        done = subprocess.run([BINARIES[-1] / name, *arguments], **how)
        assert done.returncode == 0, done.stderr

    data = str(folder / "data")
    run("initdb", "-D", data, "-U", "postgres", "--auth", "trust", "--no-sync", "-E", "UTF8")
    start = f"-c listen_addresses='' -k {folder} -c fsync=off"
    run("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", start, "start")
    try:
        yield f"postgresql://postgres:secret@/postgres?host={folder}"
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


def test_two_processes_share_a_postgresql_server(postgres):
    search_together(postgres, 12)


def test_a_study_of_other_data_on_a_server_is_refused_without_its_password(postgres):
    problem = Problem(small(seed=1), digest=lambda: "other")
    Optuna(trials=2, storage=postgres, study="mine").search(problem)
    with pytest.raises(InputError, match="is of other stores") as caught:
        Optuna(trials=2, storage=postgres, study="mine").search(
            Problem(small(), digest=lambda: "data")
        )
    assert "secret" not in str(caught.value)
    assert "postgresql://postgres:***@/postgres" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgresql://me:pa:ss@w@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("sqlite:///a/b.db", "sqlite:///a/b.db"),
        ("journal:a/b.log", "journal:a/b.log"),
        (None, "None"),
    ],
)
def test_passwords_are_not_shown(given, expected):
    assert shown(given) == expected


@pytest.mark.parametrize("cut", [1, 9, 0.5])
def test_a_torn_last_line_is_moved_aside(tmp_path, capsys, monkeypatch, cut):
    path = tmp_path / "study.log"
    method = Optuna(trials=5, storage=f"journal:{path}", sampler="random")
    with monkeypatch.context() as before:
        before.setattr("fusion.search.storage.owner", lambda: {**owner(), "began": "1"})
        first = method.search(Problem(small()))
    *whole, last = path.read_bytes().splitlines(keepends=True)
    torn = last[: -cut if isinstance(cut, int) else int(len(last) * cut)]
    path.write_bytes(b"".join(whole) + torn)
    again = Optuna(trials=8, storage=f"journal:{path}", sampler="random").search(Problem(small()))
    assert len(again.history) == 8
    kept = [trial for trial in first.history if trial in again.history]
    assert len(kept) >= 4
    (aside,) = tmp_path.glob("study.log.torn-*")
    assert aside.read_bytes() == torn
    said = f"{path}: the last line, torn in a crash, moved to {aside.name}\n"
    assert capsys.readouterr().err == said
    assert all("op_code" in json.loads(line) for line in path.read_text().splitlines())
    study = study_at(f"journal:{path}")
    assert not [t for t in study.trials if t.state == optuna.trial.TrialState.RUNNING]


def test_optuna_itself_cannot_read_past_a_torn_line(tmp_path):
    path = tmp_path / "study.log"
    Optuna(trials=3, storage=f"journal:{path}").search(Problem(small()))
    content = path.read_bytes()
    last = content.splitlines(keepends=True)[-1]
    path.write_bytes(content[:-9] + last + last)
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    with pytest.raises(ValueError, match=r"line 1 column"):
        optuna.storages.JournalStorage(backend)


def test_what_was_appended_to_a_torn_line_goes_with_it(tmp_path, capsys):
    path = tmp_path / "study.log"
    storage = f"journal:{path}"
    Optuna(trials=4, storage=storage).search(Problem(small()))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines) + b'{"op_code":4,"wor' + lines[-1] + lines[-2])
    found = Optuna(trials=4, storage=storage).search(Problem(small()))
    assert len(found.history) == 4
    assert "the last 2 lines, torn in a crash, moved to study.log.torn-" in capsys.readouterr().err


def test_files_that_are_no_journals_are_refused_and_stay(tmp_path):
    path = tmp_path / "study.log"
    for content in (b"SQLite format 3\0", b"some\nnotes\n", b"{}\n"):
        path.write_bytes(content)
        with pytest.raises(StoreError, match="is no journal of Optuna; give another file"):
            Optuna(trials=2, storage=f"journal:{path}").search(Problem(small()))
        assert path.read_bytes() == content
    path.unlink()
    Optuna(trials=60, storage=f"journal:{path}").search(Problem(small()))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[20] = lines[20].replace(b'"', b"'", 1)
    path.write_bytes(b"".join(lines))
    with pytest.raises(StoreError, match=rf"line 21 of {len(lines)} is damaged, which no crash"):
        Optuna(trials=70, storage=f"journal:{path}").search(Problem(small()))
    with pytest.raises(InputError, match=r"no folder .*nowhere; make it first"):
        Optuna(storage=f"journal:{tmp_path / 'nowhere' / 's.log'}").search(Problem(small()))


@pytest.mark.parametrize("sampler", ["random", "tpe"])
@pytest.mark.parametrize("kind", ["journal:{}/study.log", "sqlite:///{}/study.db"])
def test_a_resumed_study_draws_new_points(tmp_path, kind, sampler):
    storage = kind.format(tmp_path)
    how = {"storage": storage, "sampler": sampler}
    first = Optuna(trials=8, **how).search(Problem(small(), seed=3))
    more = Optuna(trials=14, **how).search(Problem(small(), seed=3))
    assert more.history[:8] == first.history
    points = [trial.weights for trial in more.history]
    assert len(set(points)) == 14
    fresh = Optuna(trials=14, sampler=sampler).search(Problem(small(), seed=3))
    assert fresh.history[:8] == first.history  # nothing changes for a study that begins


def test_the_first_process_draws_as_the_seed_says():
    def drawn(sampler):
        study = optuna.create_study(sampler=sampler)
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=5)
        return [trial.params["x"] for trial in study.trials]

    plain = drawn(optuna.samplers.RandomSampler(seed=5))
    assert drawn(Seeded(optuna.samplers.RandomSampler, 5)) == plain


@pytest.mark.parametrize(
    ("changed", "age", "closed"),
    [
        ({}, 0, False),
        ({"pid": 2**22 + 1}, 0, True),
        ({"began": "1"}, 0, True),  # another process has its number now
        ({"host": "elsewhere"}, 0, False),
        ({"host": "elsewhere"}, 2, True),
        (None, 0, False),  # it is about to say whose it is
        (None, 2, True),
    ],
)
def test_running_trials_of_dead_processes_are_closed(tmp_path, changed, age, closed):
    storage = f"journal:{tmp_path / 'study.log'}"
    Optuna(trials=2, storage=storage).search(Problem(small()))
    study, states = study_at(storage), optuna.trial.TrialState
    attributes = {} if changed is None else {"process": {**owner(), **changed}}
    study.add_trial(
        optuna.trial.FrozenTrial(
            number=-1,
            trial_id=-1,
            state=states.RUNNING,
            value=None,
            datetime_start=datetime.now() - age * STALE + timedelta(seconds=-1),
            datetime_complete=None,
            params={},
            distributions={},
            user_attrs=attributes,
            system_attrs={"fixed_params": {"g1": 0.25}},
            intermediate_values={},
        )
    )
    found = Optuna(trials=4, storage=storage).search(Problem(small()))
    trial = study_at(storage).trials[2]
    assert trial.state == (states.FAIL if closed else states.RUNNING)
    assert len(found.history) == 4
    asked = [t for t in study_at(storage).trials if t.system_attrs.get("fixed_params")]
    assert len([t for t in asked if t.system_attrs["fixed_params"] == {"g1": 0.25}]) == 1 + closed


def test_a_process_that_was_killed_at_a_trial(tmp_path):
    """For real: kill -9 while the first trial is scored, then the search goes on."""
    storage = f"journal:{tmp_path / 'study.log'}"
    code = SEARCHER.replace("found =", "type(problem).trials = lambda *_: time.sleep(60)\nfound =")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    how = {"stdin": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen([sys.executable, "-c", code, storage, "4"], **how) as process:
        process.stdin.write("\n")
        process.stdin.flush()
        running, deadline = [], time.monotonic() + 60
        while not running and time.monotonic() < deadline:
            time.sleep(0.1)
            if (tmp_path / "study.log").exists():
                text = (tmp_path / "study.log").read_text()
                running = [line for line in text.splitlines() if '"weights"' in line]
        process.kill()
    found = Optuna(trials=4, storage=storage).search(Problem(small()))
    assert found.notes["failed_trials"] == 1
    assert {(1.0, 1.0), (1.0, 0.0)} <= {trial.weights[:2] for trial in found.history}
