"""Training: killed and resumed, distributed, averaged; and what a wrong configuration or checkpoint says."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fusion.errors import InputError, StoreError
from fusion.models import train
from fusion.models.networks.plain import Plain
from fusion.models.training import checkpoint, losses, swa

ROOT = Path(__file__).parents[2]
SWA = {"cycles": 2, "every": 2, "highest": 1e-3, "lowest": 1e-4, "refresh": 2}


def same(left: Path, right: Path) -> bool:
    (a, _), (b, _) = checkpoint.load(left), checkpoint.load(right)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Killed(BaseException):
    """Stands for the end of the process."""


def killed_before(step: int, monkeypatch):
    """Makes training stop when it is about to do `step`."""
    original = train.learning_rate

    def stop(options, now):
        if now == step:
            raise Killed
        return original(options, now)

    monkeypatch.setattr(train, "learning_rate", stop)


@pytest.fixture
def uninterrupted(configure):
    return train.train(configure("whole", swa=SWA), "cpu")


@pytest.mark.parametrize("every", [1, 3])
def test_killed_at_any_step_and_resumed(configure, uninterrupted, monkeypatch, every):
    for step in range(1, 8):
        options = configure(f"cut_{step}", swa=SWA, train={"checkpoint_every": every})
        with monkeypatch.context() as patch:
            killed_before(step, patch)
            with pytest.raises(Killed):
                train.train(options, "cpu")
        final = train.train(options, "cpu")
        for name in ("baseline", "swa_01", "swa_02", "averaged"):
            assert same(final.with_stem(name), uninterrupted.with_stem(name)), (step, name)


def test_randomness_inside_the_network_is_resumed(configure, monkeypatch):
    original = Plain.logits
    monkeypatch.setattr(
        Plain,
        "logits",
        lambda self, images: torch.nn.functional.dropout(
            original(self, images), 0.5, self.training
        ),
    )
    whole = train.train(configure("whole"), "cpu")
    with monkeypatch.context() as patch:
        killed_before(2, patch)
        with pytest.raises(Killed):
            train.train(configure("cut"), "cpu")
    torch.manual_seed(99)
    assert same(train.train(configure("cut"), "cpu"), whole)


def test_a_run_that_is_done_changes_nothing(configure, uninterrupted):
    before = uninterrupted.read_bytes()
    assert train.train(configure("whole", swa=SWA), "cpu").read_bytes() == before


def in_its_own_process(options, folder: Path, **environment: str) -> subprocess.Popen:
    """The training command on the configuration's data, writing to folder/run.out."""
    train_keys = "".join(
        f"{key} = {value!r}\n" for key, value in options.to_json()["train"].items()
    )
    file = folder / "run.toml"
    file.write_text(
        f'out = "run.out"\nseed = {options.seed}\n[data]\nvspw = "{options.data.vspw}"\n[network]\nname = "plain"\npreset = "micro"\n'
        f"[augment]\ncrop = {options.augment.crop}\n[train]\n{train_keys}"
    )
    command = [
        sys.executable,
        "-m",
        "fusion.models.train",
        "--config",
        str(file),
        "--device",
        "cpu",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_as_a_process(configure, tmp_path):
    """SIGKILL, at whatever step it is in after its first checkpoint."""
    options = configure("run.out", train={"steps": 400, "checkpoint_every": 5})
    path = tmp_path / "run.out" / f"checkpoint{checkpoint.SUFFIX}"
    with in_its_own_process(options, tmp_path) as child:
        while not path.exists() and child.poll() is None:
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=60)
    resumed, fresh = (
        train.Run(other, train.world("cpu"))
        for other in (options, replace(options, out=str(tmp_path / "fresh")))
    )
    assert fresh.step == 0 < resumed.step < 400
    last = resumed.step + 3
    for run in (resumed, fresh):
        run.network.train()
        while run.step < last:
            run._update(list(run.batches(run.step, run.step + 1)))
            run.step += 1
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            resumed.network.state_dict().values(), fresh.network.state_dict().values(), strict=True
        )
    )


def test_the_average_is_of_the_saved_checkpoints(configure, uninterrupted):
    tensors, _ = checkpoint.load(uninterrupted)
    mean = swa.average([uninterrupted.with_stem("swa_01"), uninterrupted.with_stem("swa_02")])
    statistics = [name for name in mean if "running_" in name or "num_batches" in name]
    assert all(torch.equal(tensors[name], mean[name]) for name in mean if name not in statistics)
    assert any(not torch.equal(tensors[name], mean[name]) for name in statistics)


def test_schedule(configure):
    options = configure(
        train={"steps": 10, "warmup": 4, "learning_rate": 1.0, "power": 2.0},
        swa={**SWA, "highest": 0.5, "lowest": 0.1},
    )
    rates = [train.learning_rate(options, step) for step in range(14)]
    expected = [min(1, (i + 1) / 4) * (1 - i / 10) ** 2 for i in range(10)]
    assert rates == pytest.approx([*expected, 0.3, 0.1, 0.3, 0.1])


def test_a_step_is_adamw_on_the_mean_gradient(configure):
    """The loop beside the same step written out."""
    options = configure(train={"accumulate": 2, "weight_decay": 0.1})
    run, twin = train.Run(options, train.world("cpu")), train.Run(options, train.world("cpu"))
    batches = list(run.batches(0, 2))
    run.network.train()
    run._update(batches)
    twin.network.train()
    for images, targets in batches:
        (losses.cross_entropy(twin.network.logits(images), targets) / 2).backward()
    rate, (a, b) = train.learning_rate(options, 0), (0.9, 0.999)
    for (name, parameter), found in zip(
        twin.network.named_parameters(), run.network.parameters(), strict=True
    ):
        gradient, decay = parameter.grad, 0.1 if parameter.ndim > 1 else 0.0
        mean, square = (1 - a) * gradient / (1 - a), (1 - b) * gradient**2 / (1 - b)
        expected = parameter.detach() * (1 - rate * decay) - rate * mean / (square.sqrt() + 1e-8)
        torch.testing.assert_close(found.detach(), expected, atol=2e-6, rtol=1e-4, msg=name)


def test_ohem_is_what_the_configuration_says(configure):
    options = configure(loss={"ohem": True, "threshold": 0.5, "min_kept": 9})
    run = train.Run(options, train.world("cpu"))
    images, targets = next(iter(run.batches(0, 1)))
    found = run.objective(images, targets)
    expected = losses.ohem_cross_entropy(run.network.logits(images), targets, 0.5, 9)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_folds_leave_videos_out(configure):
    left = [
        set(train.training_clips(configure(data={"folds": 3, "fold": k})).videos) for k in range(3)
    ]
    everything = set(train.training_clips(configure()).videos)
    assert all(len(videos) == 4 for videos in left)
    held = [everything - videos for videos in left]
    assert sorted(video for fold in held for video in fold) == sorted(everything)


def test_student_starts_as_its_teacher(configure):
    teacher = train.train(configure("teacher"), "cpu")
    options = configure("student", loss={"teacher": str(teacher), "kl": 2.0})
    run = train.Run(options, train.world("cpu"))
    taught = checkpoint.load(teacher)[0]
    assert all(
        torch.equal(taught[name], tensor) for name, tensor in run.network.state_dict().items()
    )
    images, targets = next(iter(run.batches(0, 1)))
    run.network.train()
    outputs, reference = run.network.logits(images), run.objective.teacher.logits(images)
    expected = losses.cross_entropy(outputs, targets) + 2 * losses.distillation(outputs, reference)
    assert run.objective(images, targets).item() == pytest.approx(expected.item(), rel=1e-4)
    run.fit()
    assert all(
        torch.equal(taught[name], tensor)
        for name, tensor in run.objective.teacher.state_dict().items()
    )
    with pytest.raises(
        InputError,
        match=r"teacher .* is plain \{'preset': 'micro'\}, not the student's architecture",
    ):
        train.Run(
            configure("other", network={"preset": "tiny"}, loss={"teacher": str(teacher)}),
            train.world("cpu"),
        )


def test_training_starts_from_given_weights(configure):
    first = train.train(configure("first"), "cpu")
    options = configure("second", network={"start": str(first)})
    run, there = train.Run(options, train.world("cpu")), checkpoint.load(first)[0]
    assert all(
        torch.equal(there[name], tensor) for name, tensor in run.network.state_dict().items()
    )
    final = train.train(options, "cpu")
    assert not same(final, first)
    assert same(train.train(options, "cpu"), final)  # what was trained is not started again
    with pytest.raises(InputError, match="start and teacher each say what to start from; keep one"):
        train.Run(
            configure("third", network={"start": str(first)}, loss={"teacher": str(first)}),
            train.world("cpu"),
        )


def test_the_gradient_is_clipped_to_its_norm(configure):
    run = train.Run(configure(train={"clip": 0.01}), train.world("cpu"))
    free = train.Run(configure("free"), train.world("cpu"))
    for one in (run, free):
        one.network.train()
        one._update([next(iter(one.batches(0, 1)))])
    norms = [
        torch.cat([p.grad.flatten() for p in one.network.parameters()]).norm().item()
        for one in (run, free)
    ]
    assert norms[0] == pytest.approx(0.01, rel=1e-4)
    assert norms[1] > 0.1


def test_adjustment_takes_the_prior_of_the_training_videos(configure, vspw):
    options = configure(
        "adjusted", loss={"adjust": True, "scale": 30.0}, data={"folds": 3, "fold": 1}
    )
    run = train.Run(options, train.world("cpu"))
    pixels = torch.zeros(124)
    for video, frame in run.clips.labelled():
        mask = torch.from_numpy(run.clips.pair(video, frame)[1]).long()
        pixels += torch.bincount(mask[mask < 124], minlength=124)
    pixels = pixels.clamp(min=1)
    torch.testing.assert_close(run.network.head.log_prior, (pixels / pixels.sum()).log())
    final = train.train(options, "cpu")
    network, architecture = checkpoint.load_network(final)
    assert (architecture.tau, architecture.scale) == (0.03, 30.0)
    assert (network.head.tau, network.head.scale) == (0.03, 30.0)


def test_another_configuration_is_refused(configure):
    train.train(configure(), "cpu")
    with pytest.raises(
        InputError,
        match=r"another configuration \(train\.learning_rate = 0\.001 there, 0\.002 here\)",
    ):
        train.train(configure(train={"learning_rate": 2e-3}), "cpu")
    with pytest.raises(
        InputError,
        match=r"another configuration \(network\.options\.preset = 'micro' there, 'tiny' here\)",
    ):
        train.train(configure(network={"preset": "tiny"}), "cpu")
    train.train(configure(train={"checkpoint_every": 3, "workers": 1}), "cpu")


def test_a_checkpoint_of_another_network(configure, tmp_path):
    train.train(configure(), "cpu")
    path = tmp_path / "run" / f"checkpoint{checkpoint.SUFFIX}"
    tensors, document = checkpoint.load(path)
    checkpoint.save(
        path, {name.replace("head", "tail"): tensor for name, tensor in tensors.items()}, document
    )
    with pytest.raises(InputError, match="is of another architecture than Plain"):
        train.train(configure(), "cpu")
    path.write_bytes(b"PK" + bytes(100))
    with pytest.raises(StoreError, match="is damaged"):
        train.train(configure(), "cpu")


def test_a_loss_that_is_not_finite_stops(configure, tmp_path):
    with pytest.raises(InputError, match=r"loss is (nan|inf) in step \d+; lower the learning rate"):
        train.train(
            configure(train={"learning_rate": 1e30, "steps": 8, "checkpoint_every": 100}), "cpu"
        )
    assert not list((tmp_path / "run").glob("baseline*"))


def test_crop_that_the_network_cannot_take(configure, monkeypatch):
    monkeypatch.setattr(Plain, "stride", 64)
    with pytest.raises(InputError, match="crop is 32; 'plain' takes multiples of 64"):
        train.Run(configure(), train.world("cpu"))


def test_workers_change_nothing(configure):
    alone = train.train(configure("alone"), "cpu")
    helped = train.train(configure("helped", train={"workers": 1}), "cpu")
    assert same(alone, helped)


def test_two_processes_do_what_accumulation_does(configure, tmp_path):
    """Two ranks of one batch a step see the images that one process accumulates over two batches."""
    single = train.train(configure("single", train={"accumulate": 2, "steps": 2}), "cpu")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = {
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(probe.getsockname()[1]),
        }
    options = configure(train={"steps": 2})
    ranks = [
        in_its_own_process(options, tmp_path, **meeting, RANK=str(rank), LOCAL_RANK=str(rank))
        for rank in range(2)
    ]
    errors = [rank.communicate(timeout=120)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], errors
    (a, _), (b, _) = (
        checkpoint.load(path) for path in (single, tmp_path / "run.out" / single.name)
    )
    for name in a:
        if "running" not in name and "num_batches" not in name:
            # AdamW's first steps are sign-like: where gradients are rounding noise they may differ by a step
            assert (a[name] - b[name]).abs().mean() < 1e-4, name
