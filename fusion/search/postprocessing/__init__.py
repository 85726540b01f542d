"""Postprocessing that is chosen on folds, as weights are: `--tune postprocess`.

Tuning.parse("postprocess", run)       before the search: what can be tried
tuning.tuned(run.search(method))       after it: candidates, choice, and what it is worth
"""
