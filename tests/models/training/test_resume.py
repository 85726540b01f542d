"""A run that was killed, repeated, distributed or helped ends in the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fusion.errors import InputError, StoreError
from fusion.models.networks.plain import Plain
from fusion.models.training import checkpoint, lock, run
from fusion.models.training.preemption import Preempted
from fusion.models.training.run import Run, train, trained
from tests.models.tools import CPU, SWA, as_processes, informed, same_state, same_weights

ROOT = Path(__file__).parents[3]


class Killed(BaseException):
    """Stands for the end of the process."""


def killed_before(step: int, options, monkeypatch) -> None:
    """Trains until the run is about to do `step`."""
    original = run.learning_rate

    def stop(options, now):
        if now == step:
            raise Killed
        return original(options, now)

    with monkeypatch.context() as patch:
        patch.setattr(run, "learning_rate", stop)
        with pytest.raises(Killed):
            train(options, "cpu")


@pytest.fixture
def uninterrupted(configure):
    return train(configure("whole", swa=SWA), "cpu")


@pytest.mark.parametrize("every", [1, 3])
def test_killed_at_any_step_and_resumed(configure, uninterrupted, monkeypatch, every):
    for step in range(1, 8):
        options = configure(f"cut_{step}", swa=SWA, train={"checkpoint_every": every})
        killed_before(step, options, monkeypatch)
        final = train(options, "cpu")
        for name in ("baseline", "swa_01", "swa_02", "averaged"):
            assert same_weights(final.with_stem(name), uninterrupted.with_stem(name)), (step, name)


EVERYTHING = {"ema": 0.8, "precision": "fp16", "schedule": "cosine", "accumulate": 2}


def document_of(folder: Path) -> dict:
    """A checkpoint's, without its place."""
    document = checkpoint.load(folder / f"checkpoint{checkpoint.SUFFIX}")[1]
    document["config"].pop("out")
    return document


def log_of(folder: Path) -> list[list[str]]:
    """The rows of log.csv, without what a clock says; a score that came later beside its step."""
    rows = [line.split(",")[:4] for line in (folder / "log.csv").read_text().splitlines()]
    late = {row[0]: row[3] for row in rows if not row[1]}
    return [[*row[:3], late.get(row[0], row[3])] for row in rows if row[1]]


@pytest.mark.parametrize(("signal_", "steps"), [(None, (2, 5)), (signal.SIGTERM, (3, 5, 6))])
def test_with_all_that_has_a_state(configure, monkeypatch, signal_, steps):
    """Moving average, scale of the loss, validation: killed, or asked to make room, and resumed."""
    pace = {**EVERYTHING, "steps": 5, "checkpoint_every": 3}
    sections = {"train": pace, "val": {"every": 2}, "swa": {**SWA, "cycles": 1}}
    whole = trained(configure("whole", **sections), CPU)
    for step in steps:
        options = configure(f"cut_{step}", **sections)
        if signal_ is None:
            killed_before(step, options, monkeypatch)
        else:
            asked_in(step, options, monkeypatch, signal_)
        found = trained(options, CPU)
        assert found.scores == whole.scores
        for name, path in whole.files.items():
            assert same_weights(found.files[name], path), (step, name)
        assert document_of(Path(options.out)) == document_of(whole.final.parent), step
        assert log_of(Path(options.out)) == log_of(whole.final.parent), step


def asked_in(step: int, options, monkeypatch, number: int) -> None:
    """Trains until a signal that comes in `step` has been obeyed."""
    original = Run.update

    def ask(self, batches):
        if self.step == step:
            signal.raise_signal(number)
        return original(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "update", ask)
        with pytest.raises(Preempted, match="stopped"):
            train(options, "cpu")
    saved = document_of(Path(options.out))["step"]
    assert saved == step + 1


def test_early_stopping_is_resumed(configure, monkeypatch):
    """Scores fall from the first on, so that the patience of 3 ends at the fourth validation."""
    monkeypatch.setattr(run, "score", lambda net, *_: 1 / float(net.stem[1].num_batches_tracked))
    sections = {"train": {"steps": 20, "checkpoint_every": 3}, "val": {"every": 2, "patience": 3}}
    whole = trained(configure("whole", **sections), CPU)
    assert whole.step == 8
    for step in (3, 7):
        options = configure(f"cut_{step}", **sections)
        killed_before(step, options, monkeypatch)
        found = trained(options, CPU)
        assert found.step == 8
        assert all(same_weights(found.files[name], path) for name, path in whole.files.items())
        assert document_of(Path(options.out)) == document_of(whole.final.parent)


def test_a_validation_that_was_stopped_is_done_again(configure, monkeypatch):
    sections = {"train": {"checkpoint_every": 9}, "val": {"every": 2}}
    whole = trained(configure("whole", **sections), CPU)
    options, score = configure("cut", **sections), run.score

    def stopped(network, clips, place, notice):
        signal.raise_signal(signal.SIGUSR1)
        return score(network, clips, place, notice)

    with monkeypatch.context() as patch:
        patch.setattr(run, "score", stopped)
        with pytest.raises(Preempted):
            trained(options, CPU)
    document = document_of(Path(options.out))
    assert (document["step"], document["val"]["last"]) == (2, 0)
    found = trained(options, CPU)
    assert found.scores == whole.scores
    assert document_of(Path(options.out)) == document_of(whole.final.parent)
    assert same_weights(found.files["best"], whole.files["best"])


def test_randomness_inside_the_network_is_resumed(configure, monkeypatch):
    original = Plain.logits

    def noisy(self, images):
        return torch.nn.functional.dropout(original(self, images), 0.5, self.training)

    monkeypatch.setattr(Plain, "logits", noisy)
    whole = train(configure("whole"), "cpu")
    killed_before(2, configure("cut"), monkeypatch)
    torch.manual_seed(99)
    assert same_weights(train(configure("cut"), "cpu"), whole)


def test_a_run_that_is_done_changes_nothing(configure, uninterrupted):
    before = uninterrupted.read_bytes()
    assert train(configure("whole", swa=SWA), "cpu").read_bytes() == before


def in_its_own_process(options, folder: Path, **environment: str) -> subprocess.Popen:
    """The training command on the configuration's data, writing to folder/run.out."""
    keys = [f"{key} = {value!r}" for key, value in options.to_json()["train"].items()]
    head = ['out = "run.out"', f"seed = {options.seed}", f'data.vspw = "{options.data.vspw}"']
    start = options.network.start and f', start = "{options.network.start}"'
    network = [f'network = {{name = "plain", preset = "micro"{start}}}', "augment.crop = 32"]
    network.append("[train]")
    file, val = folder / "run.toml", ["[val]", f"every = {options.val.every}"]
    file.write_text("\n".join([*head, *network, *keys, *val]))
    command = [sys.executable, "-m", "fusion.models.train", "--config", str(file)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    pipes["start_new_session"] = bool(environment.pop("start_new_session", ""))
    return subprocess.Popen([*command, "--device", "cpu"], cwd=ROOT, env=environment, **pipes)


def test_killed_as_a_process(configure, tmp_path):
    """SIGKILL, at whatever step it is in after its first checkpoint."""
    options = configure("run.out", train={"steps": 400, "checkpoint_every": 5})
    path = tmp_path / "run.out" / f"checkpoint{checkpoint.SUFFIX}"
    with in_its_own_process(options, tmp_path) as child:
        while not path.exists() and child.poll() is None:
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=60)
    resumed, fresh = Run(options, CPU), Run(replace(options, out=str(tmp_path / "fresh")), CPU)
    assert fresh.step == 0 < resumed.step < 400
    last = resumed.step + 3
    for one in (resumed, fresh):
        one.network.train()
        while one.step < last:
            one.update(list(one.batches(one.step, one.step + 1)))
            one.step += 1
    assert same_state(resumed.network.state_dict(), fresh.network.state_dict())


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGUSR1", 138)])
def test_asked_to_make_room_as_a_process(configure, tmp_path, name, code):
    """The step ends, is saved, and said; processes that read images do not mind the signal."""
    options = configure("run.out", train={"steps": 4000, "checkpoint_every": 1000, "workers": 1})
    log = tmp_path / "run.out" / "log.csv"
    with in_its_own_process(options, tmp_path, start_new_session="1") as child:
        while not (log.exists() and log.read_bytes().count(b"\n") > 3) and child.poll() is None:
            time.sleep(0.05)
        os.killpg(child.pid, getattr(signal, name))  # as SLURM does, to all of them
        said = child.communicate(timeout=60)[1]
    assert child.returncode == code, said
    found = Run(options, CPU)
    assert 3 <= found.step < 4000
    line = f"stopped by {name}; step {found.step} is saved in {found.file('checkpoint')}"
    assert said.strip() == f"{line}, run the same command to go on"


def test_another_configuration_is_refused(configure):
    train(configure(), "cpu")
    got = r"another configuration \(train\.learning_rate = 0\.001 there, 0\.002 here\)"
    with pytest.raises(InputError, match=got):
        train(configure(train={"learning_rate": 2e-3}), "cpu")
    got = r"another configuration \(network\.options\.preset = 'micro' there, 'tiny' here\)"
    with pytest.raises(InputError, match=got):
        train(configure(network={"preset": "tiny"}), "cpu")
    train(configure(train={"checkpoint_every": 3, "workers": 1}), "cpu")


def test_a_checkpoint_of_another_network(configure, tmp_path):
    train(configure(), "cpu")
    path = tmp_path / "run" / f"checkpoint{checkpoint.SUFFIX}"
    tensors, document = checkpoint.load(path)
    renamed = {name.replace("head", "tail"): tensor for name, tensor in tensors.items()}
    checkpoint.save(path, renamed, document)
    with pytest.raises(InputError, match="is of another architecture than Plain"):
        train(configure(), "cpu")
    path.write_bytes(b"PK" + bytes(100))
    with pytest.raises(StoreError, match="is damaged"):
        train(configure(), "cpu")


def test_two_trainings_into_one_folder(configure, monkeypatch):
    """On a GPU no two runs end in the same bits: cycles of both would be averaged."""
    options = configure(train={"workers": 1})
    monkeypatch.setattr(lock, "PATIENCE", 0.3)
    with lock.alone(Path(options.out)), pytest.raises(InputError) as caught:
        train(options, "cpu")
    said = "another process trains into this folder; wait until it is done, or choose another 'out'"
    assert str(caught.value) == f"{options.out}: {said}"
    assert list(Path(options.out).iterdir()) == []
    train(options, "cpu")
    train(options, "cpu")


def test_workers_change_nothing(configure):
    alone = train(configure("alone"), "cpu")
    helped = train(configure("helped", train={"workers": 1}), "cpu")
    assert same_weights(alone, helped)


def test_two_processes_do_what_accumulation_does(configure, tmp_path):
    """Two ranks of a batch a step see the images that one process accumulates over two."""
    begin, start = informed(configure(val={"every": 1})), tmp_path / "start.safetensors"
    checkpoint.save_network(start, begin.network, begin.architecture)
    network, steps = {"start": str(start)}, {"steps": 2, "learning_rate": 1e-2}
    single = train(configure("single", network=network, train={**steps, "accumulate": 2}), "cpu")
    options = configure(network=network, train={**steps, "ema": 0.5}, val={"every": 1})
    store, places = as_processes(2)  # which they find as long as it is held
    ranks = [in_its_own_process(options, tmp_path, **place) for place in places]
    errors = [rank.communicate(timeout=600)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], (errors, store)
    # they share what is validated: the score is that of the first one's weights, as they were saved
    rows = (tmp_path / "run.out" / "log.csv").read_text().splitlines()[1:]
    scores = [float(row.split(",")[3]) for row in rows]
    for name, score in {"best": max(scores), "last": scores[1]}.items():
        tensors = checkpoint.load(tmp_path / "run.out" / f"{name}.safetensors")[0]
        begin.network.load_state_dict(tensors)
        assert run.score(begin.network, begin.judged, CPU) == score > 0
    files = (start, single, tmp_path / "run.out" / single.name)
    (before, _), (a, _), (b, _) = (checkpoint.load(path) for path in files)
    for name in a:
        if "running" not in name and "num_batches" not in name:
            # AdamW's first steps are sign-like: where gradients are rounding noise they may differ
            # by a step
            moved, apart = (a[name] - before[name]).abs().mean(), (a[name] - b[name]).abs().mean()
            assert apart < 0.05 * moved, (name, apart, moved)
