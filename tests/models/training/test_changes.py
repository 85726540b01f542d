"""Which keys may differ between a run and its continuation, and what that does."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch

from fusion.errors import InputError, StoreError
from fusion.models.section import said
from fusion.models.training import checkpoint, run
from fusion.models.training.changes import ANY_TIME, BEFORE_AVERAGING, MAY_CHANGE, STEPS_LEFT
from fusion.models.training.config import Config
from fusion.models.training.run import Run, train, trained
from tests.models.tools import CPU, SWA, same_weights
from tests.models.training.test_resume import killed_before


def test_the_table_names_keys_that_there_are():
    sections = said(Config(out=""))
    known = {"val", *(key.name for key in dataclasses.fields(Config))}
    hints = {key.name: key for key in dataclasses.fields(Config)}
    for key in MAY_CHANGE:
        section, _, name = key.partition(".")
        assert section in known
        if name:
            kind = type(hints[section].default_factory())
            assert name in {each.name for each in dataclasses.fields(kind)}, key
    assert "seed" in sections
    assert set(MAY_CHANGE.values()) == {ANY_TIME, BEFORE_AVERAGING, STEPS_LEFT}


def test_a_run_that_is_done_goes_on(configure, capsys):
    """As one whose schedule changed at that step: the loop written out."""
    short, long = ({"steps": n, "warmup": 0, "checkpoint_every": 9} for n in (4, 6))
    train(configure(train=short), "cpu")
    capsys.readouterr()
    final = train(configure(train=long), "cpu")
    told = capsys.readouterr().err
    assert "train.steps was 4, is 6 from step 4 on" in told
    assert "the schedule (poly) goes on at a rate of 0.000333" in told  # 1e-3 (1 - 4 / 6)
    twin = Run(configure("twin", train=short), CPU)
    twin.network.train()
    for step in range(6):
        if step == 4:
            twin.config = configure("twin", train=long)
        twin.update(list(twin.batches(step, step + 1)))
        twin.step += 1
    twin._save("six", twin.network)
    assert same_weights(final, twin.file("six"))
    assert checkpoint.load(final)[1]["step"] == 6


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"train": {"batch": 3}}, "train.batch = 2 there, 3 here); choose another 'out'"),
        ({"train": {"ema": 0.9}}, "train.ema = 0.0 there, 0.9 here); choose another 'out'"),
        ({"train": {"clip": 1.0}}, "train.clip = 0.0 there, 1.0 here); choose another 'out'"),
        ({"train": {"precision": "bf16"}}, "(train.precision = 'auto' there, 'bf16' here)"),
        (
            {"train": {"steps": 6}},
            "(train.steps = 4 there, 6 here); weights are averaged since step 4: raise swa.cycles",
        ),
        ({"swa": {"rate": "constant"}}, "(swa.rate = 'cyclical' there, 'constant' here); weights"),
        ({"swa": {"cycles": 1}}, "stands at step 8, and the configuration ends at 6; raise"),
    ],
)
def test_what_may_not_differ_when_a_run_is_done(configure, sections, message):
    train(configure(swa=SWA), "cpu")
    sections["swa"] = {**SWA, **sections.get("swa", {})}
    with pytest.raises(InputError, match=re.escape(message)):
        Run(configure(**sections), CPU)


def test_more_cycles(configure):
    train(configure(swa=SWA), "cpu")
    more = {**SWA, "cycles": 3}
    final = train(configure(swa=more), "cpu")
    assert same_weights(final, train(configure("whole", swa=more), "cpu"))


def test_what_a_step_reads_anew_may_differ_while_there_are_steps(configure, monkeypatch, capsys):
    killed_before(2, configure(), monkeypatch)
    changed = {"learning_rate": 2e-3, "clip": 0.1, "precision": "bf16", "log": []}
    capsys.readouterr()
    assert train(configure(train=changed, val={"every": 3}), "cpu").exists()
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[2] for line in told] == [
        "train.clip was 0.0, is 0.1 from step 2 on",
        "train.learning_rate was 0.001, is 0.002 from step 2 on",
        "train.precision was auto, is bf16 from step 2 on",
    ]


def test_other_validation_frames_begin_anew(configure, capsys, monkeypatch):
    killed_before(3, configure(val={"every": 2}), monkeypatch)
    result = trained(configure(val={"every": 2, "split": "test"}), CPU)
    assert "other frames are validated on" in capsys.readouterr().err
    assert checkpoint.load(result.files["best"])[1]["step"] == 4


@pytest.mark.parametrize("what", ["loss", "weights"])
def test_what_diverges_leaves_the_last_good_checkpoint(configure, monkeypatch, what):
    """The loss tells in the step itself, the weights one later: neither is written."""
    options = configure(train={"steps": 8})
    update = Run.update

    def broken(self, batches):
        found = update(self, batches)
        if self.step == 3 and what == "weights":
            with torch.no_grad():
                self.network.head.bias[0] = torch.nan
        if self.step == 3 and what == "loss":
            raise self._diverged("loss is nan")
        return found

    monkeypatch.setattr(Run, "update", broken)
    got = rf"{what} (is|are) (nan|not finite) in step [34]; lower the learning rate, set clip"
    with pytest.raises(InputError, match=rf"{got}.*checkpoint\.safetensors goes on from step 3"):
        train(options, "cpu")
    monkeypatch.undo()
    there = Run(options, CPU)
    assert there.step == 3
    assert all(bool(each.isfinite().all()) for each in there.network.parameters())
    lower = configure(train={"steps": 8, "learning_rate": 1e-4, "clip": 1.0})
    assert train(lower, "cpu").exists()


def test_a_full_disk_leaves_the_last_checkpoint(configure, monkeypatch):
    options, write = configure(), checkpoint.files.write

    def full(path, arrays, document):
        if document["step"] == 3:
            raise StoreError(f"{path}: cannot be written (No space left on device)")
        write(path, arrays, document)

    monkeypatch.setattr(checkpoint.files, "write", full)
    with pytest.raises(StoreError, match=r"No space left.*; the checkpoint of step 2 stays, run"):
        train(options, "cpu")
    monkeypatch.undo()
    assert Run(options, CPU).step == 2
    assert same_weights(train(options, "cpu"), train(configure("whole"), "cpu"))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_too_little_memory(configure, monkeypatch, error):
    def large(self, *_):
        raise error

    monkeypatch.setattr(run.Objective, "forward", large)
    match = r"a batch of 8 crops of 32 does not fit.*; set batch = 4 and accumulate = 2, the same"
    with pytest.raises(InputError, match=match):
        train(configure(train={"batch": 8}), "cpu")
    with pytest.raises(InputError, match=r"lower augment\.crop, or choose a smaller network"):
        train(configure("two"), "cpu")


def test_other_errors_stay_what_they_are(configure, monkeypatch):
    def wrong(self, *_):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(run.Objective, "forward", wrong)
    with pytest.raises(RuntimeError, match="shapes differ"):
        train(configure(), "cpu")
    huge = lambda self, *_: torch.empty(1 << 60)  # noqa: E731
    monkeypatch.setattr(run.Objective, "forward", huge)
    with pytest.raises(InputError, match="does not fit into memory"):
        train(configure("huge"), "cpu")
