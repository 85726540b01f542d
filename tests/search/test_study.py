"""Optuna: studies that resume, that processes share, trials that fail."""

from __future__ import annotations

import threading

import numpy as np
import optuna
import pytest

from fusion.errors import InputError
from fusion.search import condense_ensemble
from fusion.search.method import Data, Problem, Workspace
from fusion.search.study import Optuna
from tests.search.simulated import small


def test_optuna_resumes_and_refuses_other_data(ensemble, truth, tmp_path):
    options = {"storage": f"sqlite:///{tmp_path / 'study.db'}", "seed": 3}
    first = ensemble.search(truth, "optuna", trials=6, **options)
    assert len(first.history) == 6
    assert {(1.0, 1.0, 1.0), (1.0, 0.0, 0.0)} <= {trial.weights for trial in first.history}
    more = ensemble.search(truth, "optuna", trials=10, **options)
    assert more.history[:6] == first.history
    assert len(more.history) == 10
    assert more.miou == max(t.miou for t in more.history) == more.ensemble.evaluate(truth).miou
    other = ensemble.regrouped({name: ensemble.groups[name] for name in ("strong", "weak")})
    with pytest.raises(InputError, match="is of other stores, labels or groups"):
        other.search(truth, "optuna", trials=12, **options)
    with pytest.raises(InputError, match="cannot be opened"):
        ensemble.search(truth, "optuna", storage="nosuch://x")
    with pytest.raises(InputError, match="sampler 'gauss'"):
        ensemble.search(truth, "optuna", sampler="gauss")


def test_processes_that_share_a_study_stop_at_its_trials(ensemble, truth, tmp_path):
    condensed, storage = condense_ensemble(ensemble, truth), f"sqlite:///{tmp_path / 'study.db'}"

    class Neighboured:
        """While the first trial is scored, another process fills the study."""

        groups, calls = condensed.groups, 0

        def miou(self, weights, convention, multipliers=None):
            self.calls += 1
            if self.calls == 1:
                method.search(Problem(condensed))
            return condensed.miou(weights, convention, multipliers)

    method, mine = Optuna(trials=5, storage=storage), Neighboured()
    assert len(method.search(Problem(mine)).history) == 6
    assert mine.calls == 2  # the second counts again what the neighbour says


def test_optuna_survives_failing_trials(ensemble, truth):
    condensed = condense_ensemble(ensemble, truth)

    class Flaky:
        groups, calls = condensed.groups, 0

        def miou(self, weights, convention, multipliers=None):
            self.calls += 1
            if self.calls % 3 == 0:
                raise RuntimeError("out of memory")
            right = self.calls % 3 == 1
            return condensed.miou(weights, convention) if right else np.array([np.nan])

    found = Optuna(trials=9).search(Problem(Flaky()))
    assert found.notes["failed_trials"] == 6
    assert len(found.history) == 3


def test_a_study_of_another_convention_is_refused_and_an_older_one_taken(tmp_path):
    condensed, at = small(), Workspace(folder=tmp_path)
    first = Optuna(trials=2).search(Problem(condensed), at)
    with pytest.raises(InputError, match="another convention; give another storage= or study="):
        Optuna(trials=4).search(Problem(condensed, "all"), at)
    other = Optuna(trials=3, study="all").search(Problem(condensed, "all"), at)
    assert len(other.history) == 3
    study = optuna.load_study(study_name="segfusion", storage=f"sqlite:///{tmp_path / 'study.db'}")
    storage = study._storage
    older = optuna.create_study(storage=storage, study_name="older", direction="maximize")
    older.set_user_attr("digest", None)  # all that studies carried before
    older.add_trials(study.trials)
    again = Optuna(trials=3, study="older").search(Problem(condensed), at)
    assert again.history[:2] == first.history
    assert {path.name for path in tmp_path.iterdir()} == {"study.db"}


def test_of_two_that_open_one_study_at_once_the_other_data_are_refused(tmp_path, monkeypatch):
    """While one process opens a new study, another comes with other data."""
    at, late, original = Workspace(folder=tmp_path), [], optuna.create_study

    def second():
        try:
            late.append(Optuna(trials=2).search(Problem(small(seed=1), digest=lambda: "b"), at))
        except InputError as error:
            late.append(error)

    other = threading.Thread(target=second)

    def create(**options):
        made = original(**options)
        if not other.ident:
            other.start()
            other.join(1.0)  # it waits for us, or has been let through
        return made

    monkeypatch.setattr(optuna, "create_study", create)
    found = Optuna(trials=2).search(Problem(small(), digest=lambda: "a"), at)
    other.join()
    assert len(found.history) == 2
    assert "is of other stores" in str(late[0])


def test_a_storage_is_checked_before_there_is_a_folder(tmp_path):
    data, at = Data("a", "vspw", 0), Workspace(folder=tmp_path / "results")
    Optuna(storage=f"sqlite:///{tmp_path / 'study.db'}").check(data, at)
    assert not at.folder.exists()


@pytest.mark.parametrize(("name", "kind"), [("tpe", "TPESampler"), ("random", "RandomSampler")])
def test_samplers_are_optunas_own(monkeypatch, name, kind):
    made = []
    original = optuna.create_study

    def create(**options):
        made.append(type(options["sampler"].made).__name__)
        return original(**options)

    monkeypatch.setattr(optuna, "create_study", create)
    Optuna(trials=1, sampler=name).search(Problem(small()))
    assert made == [kind]


@pytest.mark.parametrize("point", [(1.0, 1.0, 1.0), (1.0, 0.0, 0.0)])
def test_a_point_that_ctrl_c_ended_is_asked_for_again(tmp_path, monkeypatch, point):
    """Found by tests/faults/test_search_machine.py: uniform weights were never tried any more."""
    trials = Problem.trials

    def interrupted(self, weights, *more):
        if list(map(tuple, weights)) == [point]:
            raise KeyboardInterrupt
        return trials(self, weights, *more)

    method = Optuna(trials=4, storage=f"sqlite:///{tmp_path / 'study.db'}")
    with monkeypatch.context() as patched:
        patched.setattr(Problem, "trials", interrupted)
        with pytest.raises(KeyboardInterrupt):
            method.search(Problem(small()))
    found = method.search(Problem(small()))
    assert {(1.0, 1.0, 1.0), (1.0, 0.0, 0.0)} <= {trial.weights for trial in found.history}
    assert len(found.history) == 4
