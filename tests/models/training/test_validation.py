"""Validation: the score of the store that the weights would fill, and what follows from it."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from fusion import HierarchicalEnsemble, Labels
from fusion.errors import InputError
from fusion.labels import write_labels
from fusion.metrics.evaluation import VideoConfusion
from fusion.models import predict
from fusion.models.training import checkpoint, run, validation
from fusion.models.training.distributed import world
from fusion.models.training.run import Run, trained
from fusion.models.training.splits import training_clips, validation_clips
from fusion.models.training.validation import Live, Watch, score
from tests.models.tools import CPU, informed, same_weights

VAL = {"every": 2}


@pytest.mark.parametrize("values", ["logits", "probabilities"])
def test_the_score_is_that_of_the_exact_store(configure, vspw, tmp_path, monkeypatch, values):
    one = informed(configure(val=VAL))
    if values == "probabilities":
        logits = type(one.network).logits
        scores = lambda self, images: logits(self, images).exp()  # noqa: E731
        monkeypatch.setattr(type(one.network), "values", values)
        monkeypatch.setattr(type(one.network), "logits", scores)
    found = score(one.network, one.judged, CPU)
    assert one.network.training
    out = tmp_path / "net.zarr"
    predict.fill(one.network, one.judged, out, CPU, {}, profile="exact")
    labels = Labels.vspw(vspw, "val")
    expected = HierarchicalEnsemble({"all": [out]}).evaluate(labels)
    assert found == expected.miou > 0
    live = Live(one.network, one.judged, CPU.device)
    counts = sum(map(VideoConfusion(live, one.judged.masks), one.judged.videos))
    assert (counts == expected.confusion).all()
    assert (counts.sum(axis=0) > 0).sum() > 1  # it predicts several classes


def test_processes_share_the_videos(configure, monkeypatch):
    """What each of three counts adds up to what one does."""
    one = informed(configure(val=VAL))
    told = []

    def add(tensor, place):
        told.append(tensor)
        return sum(told)

    monkeypatch.setattr(validation, "added", add)
    expected, (whole,) = score(one.network, one.judged, CPU), told
    assert expected > 0
    told.clear()
    places = [type(CPU)(rank, 3, CPU.device) for rank in range(3)]
    found = [score(one.network, one.judged, place) for place in places]
    assert found == [None, None, expected]  # the others had not been heard yet
    assert torch.equal(sum(told)[:-1], whole[:-1])  # counts; the last says that none was stopped
    monkeypatch.undo()
    assert score(one.network, one.judged, CPU, lambda: True) is None


def test_what_is_validated_on(configure, vspw, folder, tmp_path):
    def clips(**sections):
        options = configure(**sections)
        return validation_clips(options, training_clips(options))

    assert clips() is None
    assert clips(val=VAL).videos == Labels.vspw(vspw, "val").videos
    assert len(clips(val={**VAL, "split": "test"}).videos) == 2
    folds = {"folds": 3, "fold": 1}
    held = clips(val=VAL, data=folds)
    everything = set(training_clips(configure()).videos)
    assert set(held.videos) == everything - set(training_clips(configure(data=folds)).videos)
    with pytest.raises(InputError, match=r"val: 6 videos are trained on too, the first '.*'; give"):
        clips(val={**VAL, "split": "train"})
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    place = {name: str(folder / name) for name in ("images", "labels")}
    place["classes"] = str(tmp_path / "classes.txt")
    with pytest.raises(InputError, match=r"val: its classes are not those of \[data\]"):
        clips(val={**VAL, **place})
    with pytest.raises(InputError, match="val: nothing to validate on; give root, vspw or images"):
        clips(val=VAL, data={"vspw": "", **place})


def test_what_is_validated_on_is_found_sound_before_the_first_step(configure, folder):
    place = {name: str(folder / name) for name in ("images", "labels")}
    options = configure(val={**VAL, **place})
    got = r"^video 'clip', frame '1': image 40x50, mask 40x49 "
    write_labels(folder / "labels" / "clip" / "1.png", np.zeros((40, 49), np.uint8), overwrite=True)
    with pytest.raises(InputError, match=got):
        Run(options, CPU)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"val": {"vspw": "V"}}, "val: every is 0; give the steps between validations"),
        ({"val": {"patience": 2}}, "val: every is 0; give the steps between validations"),
        ({"val": {"every": -1}}, "val: every is -1; give 0 or more"),
        (
            {"val": {**VAL, "patience": 1}, "swa": {"cycles": 1}},
            "val.patience stops before swa.cycles begin; leave one of them out",
        ),
    ],
)
def test_bad_configurations(configure, sections, message):
    with pytest.raises(InputError, match=message):
        configure(**sections)


def test_a_watch_by_hand():
    watch = Watch(every=5, patience=2, samples="s")
    assert [step for step in range(16) if watch.due(step)] == [5, 10, 15]
    assert watch.saw(5, math.nan) is False
    assert watch.saw(10, 0.25)
    assert not watch.due(10)
    assert not watch.saw(15, 0.25)  # as good is not better
    assert not watch.over
    other = Watch(every=5, patience=2, samples="s")
    assert other.restore(watch.state())
    assert not other.saw(20, 0.1)
    assert other.over
    assert (other.best, other.best_step, other.score) == (0.25, 10, 0.1)
    anew = Watch(every=5, patience=2, samples="others")
    assert not anew.restore(watch.state())
    assert (anew.best, anew.last) == (None, 0)
    assert Watch().state() == {}


def test_the_best_is_kept_and_a_run_stops_early(configure, monkeypatch):
    scores = iter([0.1, 0.4, 0.3, 0.2])
    monkeypatch.setattr(run, "score", lambda *_: next(scores, 0.15))
    options = configure(train={"steps": 20}, val={"every": 1, "patience": 2})
    result = trained(options, world("cpu"))
    assert result.step == 4
    assert list(result.files) == ["last", "best"]
    assert result.final == result.files["best"]
    document = checkpoint.load(result.final)[1]
    assert (document["step"], document["val_miou"]) == (2, 0.4)
    whole = trained(configure("short", train={"steps": 20}), world("cpu"))
    at = Run(configure("other", train={"steps": 20, "checkpoint_every": 2}), CPU)
    at.network.train()
    for step in range(2):
        at.update(list(at.batches(step, step + 1)))
        at.step += 1
    at._save("two", at.network)
    assert same_weights(result.final, at.file("two"))
    assert not same_weights(result.final, whole.final)
    assert trained(options, world("cpu")).step == 4  # stays stopped
    more = configure(train={"steps": 20}, val={"every": 1, "patience": 5})
    assert trained(more, world("cpu")).step == 7


def test_weights_are_scored_beside_each_other(configure):
    with warnings.catch_warnings():
        result = trained(configure(val=VAL, train={"ema": 0.5}), world("cpu"))
    assert list(result.scores) == ["baseline", "last", "best", "ema"] == list(result.files)
    assert result.scores["baseline"] == result.scores["last"]
    assert result.scores["best"] == checkpoint.load(result.files["best"])[1]["val_miou"]
    assert result.scores["best"] >= result.scores["last"]
