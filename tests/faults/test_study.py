"""Studies whose numbers were edited or damaged, by Optuna's own API, by sqlite, byte by byte."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest

from fusion.errors import InputError, StoreError
from fusion.search import storage as storages
from fusion.search.method import Problem
from fusion.search.study import Optuna
from tests.faults.searching import tried
from tests.search.simulated import small

TRIALS = 4
KINDS = {"study.db": "sqlite:///{}/study.db", "study.log": "journal:{}/study.log"}
CALLS: list[int] = []


def problem(seed: int = 0) -> Problem:
    return Problem(small(seed=seed), digest=lambda: f"data {seed}")


def study(folder: Path, file: str, trials: int = TRIALS) -> Optuna:
    return Optuna(trials=trials, storage=KINDS[file].format(folder), sampler="random")


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    """Studies that a process left which is gone, by file and seed, each made once."""
    folder, gone = tmp_path_factory.mktemp("studies"), {**storages.owner(), "began": "1"}
    with pytest.MonkeyPatch.context() as before:
        before.setattr(storages, "owner", lambda: gone)
        for seed in (0, 1):
            (folder / str(seed)).mkdir()
            for file in KINDS:
                study(folder / str(seed), file).search(problem(seed))
    return folder


@pytest.fixture
def make(templates):
    def made(folder: Path, file: str, seed: int = 0) -> Path:
        folder.mkdir()
        return Path(shutil.copyfile(templates / str(seed) / file, folder / file))

    return made


def reader(path: Path) -> Callable[[], object]:
    return lambda: study(path.parent, path.name).search(problem()).history


def run(path: Path, text: str, *values: object) -> None:
    with sqlite3.connect(path) as database:
        assert database.execute(text, values).rowcount > 0
    database.close()


def refused(path: Path) -> str:
    with pytest.raises(StoreError) as caught:
        reader(path)()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_edited_value_is_no_score(tmp_path, make):
    """mIoU 0.99 in study.db where the pixels give 0.5."""
    path = make(tmp_path / "a", "study.db")
    run(path, "UPDATE trial_values SET value = 0.99 WHERE trial_id = 3")
    said = refused(path)
    assert f"sqlite:///{path}, study 'segfusion': says 0.99 of weights 1, " in said
    assert said.endswith("damaged or edited; delete that study, or give another storage= or study=")
    true = [t.miou for t in Optuna(trials=TRIALS, sampler="random").search(problem()).history]
    assert f"the pixels give {true[2]:.9g}:" in said


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        ("UPDATE trial_params SET param_value = 0.125 WHERE trial_id = 3", "with other weights"),
        ("DELETE FROM trial_user_attributes WHERE key = 'weights'", "has no weights"),
        ("UPDATE trials SET state = 'FAIL' WHERE trial_id = 3", "has a score and is not complete"),
        ("DELETE FROM trials WHERE trial_id = 4", "trials are missing"),
        ("DELETE FROM trials WHERE trial_id = 2", "trials are missing"),
        ("UPDATE trials SET state = 'DONE' WHERE trial_id = 3", "cannot be read or written"),
        ("UPDATE trial_values SET value = NULL WHERE trial_id = 3", "cannot be read or written"),
    ],
)
def test_other_edits(tmp_path, make, edit, what):
    path = make(tmp_path / "a", "study.db")
    run(path, edit)
    assert what in refused(path)


def test_an_edited_record_of_a_journal_is_no_score(tmp_path, make):
    path = make(tmp_path / "a", "study.log")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    told = [line for line in lines if line.get("values")]
    told[1]["values"] = [0.99]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "says 0.99 of weights" in refused(path)


def test_another_process_is_not_believed_either(tmp_path):
    """What comes into a study while it is searched is counted as well."""
    one, where = problem(), KINDS["study.db"].format(tmp_path)
    score = Problem.trials

    class Joined(Problem):
        def trials(self, weights, multipliers=None):
            other = optuna.load_study(study_name="segfusion", storage=where)
            trial = other.ask()
            drawn = [1.0, *(trial.suggest_float(name, 0.0, 2.0) for name in self.groups[1:])]
            trial.set_user_attr("weights", drawn)
            other.tell(trial, 0.99)
            return score(self, weights, multipliers)

    with pytest.raises(StoreError, match=r"says 0.99 of weights"):
        study(tmp_path, "study.db").search(Joined(one.condensed, digest=one.digest))


def test_a_process_that_died_between_score_and_word_loses_nothing(tmp_path, make):
    """Its trial is running, and scored."""
    path = make(tmp_path / "a", "study.db")
    clean = reader(path)()
    run(path, "DELETE FROM study_user_attributes WHERE key LIKE 'scored by %'")
    run(path, "DELETE FROM trial_values WHERE trial_id = 4")
    run(path, "UPDATE trials SET state = 'RUNNING' WHERE trial_id = 4")
    assert reader(path)() == clean


def test_studies_of_before_say_less_and_are_read(tmp_path, make):
    path = make(tmp_path / "a", "study.db")
    clean = reader(path)()
    run(path, "DELETE FROM study_user_attributes WHERE key LIKE 'scored by %'")
    run(path, "DELETE FROM trial_user_attributes WHERE key = 'score'")
    assert reader(path)() == clean


@pytest.mark.parametrize("file", KINDS)
def test_a_study_of_other_models_or_labels(tmp_path, make, file):
    path = make(tmp_path / "a", file, seed=1)
    with pytest.raises(InputError, match="is of other stores, labels or groups"):
        reader(path)()


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_twelve_trials_in_five_runs_are_twelve_weightings(tmp_path, sampler):
    """They were four, six with TPE."""
    for trials in (3, 5, 8, 10, 12):
        where = f"journal:{tmp_path}/study.log"
        found = Optuna(trials=trials, sampler=sampler, storage=where).search(problem())
    assert len({trial.weights for trial in found.history}) == 12


def test_dead_running_trials_are_closed(tmp_path, make):
    path = make(tmp_path / "a", "study.db")
    where = KINDS["study.db"].format(path.parent)
    zombie = optuna.load_study(study_name="segfusion", storage=where).ask()
    zombie.set_user_attr(storages.OWNER, {**storages.owner(), "began": "1"})
    found = study(path.parent, path.name, TRIALS + 1).search(problem())
    assert len(found.history) == TRIALS + 1
    known = optuna.load_study(study_name="segfusion", storage=where)
    assert [t.state.name for t in known.trials].count("RUNNING") == 0


def test_trials_that_raise_or_give_nan_fail_and_are_counted():
    condensed = small()

    class Flaky(Problem):
        def trials(self, weights, multipliers=None):
            CALLS.append(1)
            if len(CALLS) % 3 == 0:
                raise KeyError("what a kernel\nmay raise")
            found = super().trials(weights, multipliers)
            return [t._replace(miou=np.nan) for t in found] if len(CALLS) % 3 == 2 else found

    found = Optuna(trials=9).search(Flaky(condensed))
    assert found.notes["failed_trials"] == 6
    assert found.notes["failure"] == "KeyError: 'what a kernel\\nmay raise'"
    assert len(found.history) == 3


@pytest.mark.parametrize("content", [b"no database" * 99, b"SQLite format 3\0" + bytes(4080)])
def test_what_is_no_database(tmp_path, content):
    path = tmp_path / "study.db"
    path.write_bytes(content)
    said = refused(path)
    assert "http" not in said
    assert "damaged database" in said


def damage(tmp_path, make, file, every):
    path = make(tmp_path / "a", file)
    other = make(tmp_path / "b", file, seed=1)
    mended = "moved to" if file == "study.log" else None
    found = tried(path, other, every, reader(path), named=file, mended=mended)
    shutil.rmtree(tmp_path)
    return found


@pytest.mark.parametrize(("file", "every"), [("study.db", 9001), ("study.log", 397)])
def test_some_damages(tmp_path, make, file, every):
    assert damage(tmp_path, make, file, every)["refused"] >= 3


@pytest.mark.slow
@pytest.mark.parametrize(("file", "every"), [("study.db", 41), ("study.log", 1)])
def test_damages(tmp_path, make, file, every):
    assert damage(tmp_path, make, file, every)["refused"] >= 100
