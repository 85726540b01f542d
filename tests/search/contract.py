"""What every search method keeps: a test class that a method's tests inherit by naming it.

class TestGreedy(MethodContract):
    method = Greedy(steps=8)
    bad = {"steps": 0}
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from fusion.contested import Condensed
from fusion.errors import InputError
from fusion.metrics import CONVENTIONS
from fusion.search.__main__ import build_parser
from fusion.search.method import Method, Problem, Workspace
from fusion.search.registry import METHODS
from fusion.search.result import SearchResult, best_trial
from tests.search.simulated import condensed_of, problem, videos


def check(found: SearchResult, condensed: Condensed, convention: str = "vspw") -> None:
    """The result is the best of its history, and every score is the pixels' own."""
    best = best_trial(found.history)
    assert (found.vector, found.miou, found.convention) == (best.weights, best.miou, convention)
    assert found.groups == condensed.groups
    scores = condensed.miou([trial.weights for trial in found.history], convention)
    assert [trial.miou for trial in found.history] == scores.tolist()


class MethodContract:
    """method: a quick setting of it. bad: options that it refuses by name, one at a time.

    refuses_void: whether labels without a scored pixel are an error; elsewhere the result is nan.
    """

    method: ClassVar[Method]
    bad: ClassVar[dict[str, Any]]
    refuses_void: ClassVar[bool] = False

    @pytest.mark.parametrize("convention", [*CONVENTIONS, "dice", "case-dice-nnunet"])
    def test_the_best_of_its_history_with_the_pixels_own_scores(self, convention):
        condensed = videos()
        found = self.method.search(Problem(condensed, convention))
        assert found.method == self.method.name
        check(found, condensed, convention)

    def test_same_seed_same_history(self):
        found, again = (self.method.search(Problem(videos(), seed=3)) for _ in range(2))
        assert found.history == again.history

    def test_some_of_the_videos(self):
        weighed = Problem(videos()).subset(["v1", "v4"])
        assert weighed.condensed.videos == ("v1", "v4")
        check(self.method.search(weighed), videos().subset(["v1", "v4"]))

    def test_one_group_has_all_the_weight(self):
        condensed = videos(groups=1)
        found = self.method.search(Problem(condensed))
        check(found, condensed)
        assert found.weights == {"g0": 1.0}
        assert found.miou == condensed.miou([[1.0]])[0]

    def test_all_void_is_nan_or_refused_in_words(self):
        void = condensed_of(problem(3, 3, 30)[0], np.full(30, 255, np.uint8))
        if self.refuses_void:
            with pytest.raises(InputError, match="void"):
                self.method.search(Problem(void))
            return
        found = self.method.search(Problem(void))
        assert np.isnan(found.miou)
        assert found.to_json()["miou"] is None
        assert found.certificate is None

    def test_inside_a_fold_it_is_the_same_kind_and_leaves_nothing(self):
        inner = self.method.inner()
        assert type(inner) is type(self.method)
        assert inner.inner() == inner
        found = inner.search(Problem(videos()))
        check(found, videos())
        assert found.certificate is None

    def test_progress_sees_all_that_is_done(self):
        seen: dict[str, int] = {}

        def progress(items, description, total):
            for item in items:
                seen[description] = seen.get(description, 0) + 1
                yield item

        found = self.method.search(Problem(videos()), Workspace(progress))
        assert sum(seen.values()) > 1
        assert found.history == self.method.search(Problem(videos())).history

    def test_stopped_in_the_middle_it_can_be_called_again(self, tmp_path):
        def stopping(items, description, total):
            for number, item in enumerate(items):
                if number == 2:
                    raise KeyboardInterrupt
                yield item

        weighed = Problem(videos(), digest=lambda: "some data")
        with pytest.raises(KeyboardInterrupt):
            self.method.search(weighed, Workspace(stopping, tmp_path))
        found = self.method.search(weighed, Workspace(folder=tmp_path))
        check(found, weighed.condensed)
        assert found.miou >= weighed.trials([[1.0] * 3])[0].miou or found.notes.get("resumed")
        assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]

    def test_options_are_its_fields_and_bad_ones_are_named(self):
        options = {f.name: getattr(self.method, f.name) for f in fields(self.method)}
        assert type(self.method)(**options) == self.method
        assert self.bad.keys() <= options.keys()
        for name, value in self.bad.items():
            with pytest.raises(InputError, match=name.replace("_", " ").rstrip("s")):
                replace(self.method, **{name: value}).search(Problem(videos()))

    def test_the_command_line_has_it(self):
        kind, parser = type(self.method), build_parser()
        assert METHODS[self.method.name] is kind
        assert kind.from_arguments(vars(parser.parse_args([]))) == kind()
        told = " ".join(parser.format_help().split())
        assert f"{kind.name} ({kind.about})" in told
        assert all(f"{flag} " in told for flag in kind.flags())
