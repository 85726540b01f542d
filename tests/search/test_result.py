"""What a search returns: as JSON, in words."""

from __future__ import annotations

import json

from fusion.kernels import arithmetic as reference
from fusion.search.result import SearchResult, Trial, best_trial


def test_results_as_json_and_the_best_of_ties():
    trials = (Trial((1.0, 0.0), float("nan")), Trial((1.0, 1.0), 0.5), Trial((2.0, 1.0), 0.5))
    assert best_trial(trials) == trials[1]
    result = SearchResult("grid", ("a", "b"), (1.0, 1.0), 0.5, "vspw", trials, held_out=0.45)
    plain = json.loads(json.dumps(result.to_json()))
    assert plain["weights"] == {"a": 1.0, "b": 1.0}
    assert plain["interval"] is None
    assert plain["history"][0] == [[1.0, 0.0], None]
    assert reference.normalised(result.vector) == [0.5, 0.5]
