"""The training loop beside its steps written out."""

from __future__ import annotations

import json
import math

import pytest
import torch

from fusion import cli
from fusion.errors import InputError
from fusion.models import train as command_line
from fusion.models.training import checkpoint, losses, swa
from fusion.models.training.run import Result, Run, train, training_clips
from fusion.models.training.schedule import learning_rate
from tests.models.tools import CPU, SWA


def test_the_average_is_of_the_saved_checkpoints(configure):
    final = train(configure(swa=SWA), "cpu")
    tensors, _ = checkpoint.load(final)
    mean = swa.average([final.with_stem("swa_01"), final.with_stem("swa_02")])
    statistics = [name for name in mean if "running_" in name or "num_batches" in name]
    assert all(torch.equal(tensors[name], mean[name]) for name in mean if name not in statistics)
    assert any(not torch.equal(tensors[name], mean[name]) for name in statistics)


def test_a_step_is_adamw_on_the_mean_gradient(configure):
    """The loop beside the same step written out."""
    options = configure(train={"accumulate": 2, "weight_decay": 0.1})
    run, twin = Run(options, CPU), Run(options, CPU)
    batches = list(run.batches(0, 2))
    run.network.train()
    run.update(batches)
    twin.network.train()
    for images, targets in batches:
        (losses.cross_entropy(twin.network.logits(images), targets) / 2).backward()
    rate, (a, b) = learning_rate(options, 0), (0.9, 0.999)
    parameters = dict(run.network.named_parameters())
    for name, parameter in twin.network.named_parameters():
        gradient, decay = parameter.grad, 0.1 if parameter.ndim > 1 else 0.0
        mean, square = (1 - a) * gradient / (1 - a), (1 - b) * gradient**2 / (1 - b)
        expected = parameter.detach() * (1 - rate * decay) - rate * mean / (square.sqrt() + 1e-8)
        found = parameters[name].detach()
        torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-4, msg=name)


def test_ohem_is_what_the_configuration_says(configure):
    options = configure(loss={"ohem": True, "threshold": 0.5, "min_kept": 9})
    run = Run(options, CPU)
    images, targets = next(iter(run.batches(0, 1)))
    found = run.objective(images, targets)
    expected = losses.ohem_cross_entropy(run.network.logits(images), targets, 0.5, 9)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_folds_leave_videos_out(configure):
    left = [set(training_clips(configure(data={"folds": 3, "fold": k})).videos) for k in range(3)]
    everything = set(training_clips(configure()).videos)
    assert all(len(videos) == 4 for videos in left)
    held = [everything - videos for videos in left]
    assert sorted(video for fold in held for video in fold) == sorted(everything)


def test_the_gradient_is_clipped_to_its_norm(configure):
    norms = []
    for options in (configure(train={"clip": 0.01}), configure("free")):
        run = Run(options, CPU)
        run.network.train()
        run.update(list(run.batches(0, 1)))
        norms.append(torch.cat([p.grad.flatten() for p in run.network.parameters()]).norm().item())
    assert norms[0] == pytest.approx(0.01, rel=1e-4)
    assert norms[1] > 0.1


def test_adjustment_takes_the_prior_of_the_training_videos(configure, vspw):
    loss, data = {"adjust": True, "scale": 30.0}, {"folds": 3, "fold": 1}
    options = configure("adjusted", loss=loss, data=data)
    run = Run(options, CPU)
    pixels = torch.zeros(124)
    for video, frame in run.clips.labelled():
        mask = torch.from_numpy(run.clips.pair(video, frame)[1]).long()
        pixels += torch.bincount(mask[mask < 124], minlength=124)
    pixels = pixels.clamp(min=1)
    torch.testing.assert_close(run.network.head.log_prior, (pixels / pixels.sum()).log())
    final = train(options, "cpu")
    network, architecture = checkpoint.load_network(final)
    assert (architecture.tau, architecture.scale) == (0.03, 30.0)
    assert (network.head.tau, network.head.scale) == (0.03, 30.0)


def test_a_loss_that_is_not_finite_stops(configure, tmp_path):
    with pytest.raises(InputError, match=r"loss is (nan|inf) in step \d+; lower the learning rate"):
        train(configure(train={"learning_rate": 1e30, "steps": 8, "checkpoint_every": 9}), "cpu")
    assert not list((tmp_path / "run").glob("baseline*"))


def test_the_command_says_what_it_left(configure, vspw, tmp_path, capsys):
    path = tmp_path / "run.toml"
    path.write_text(
        f'out = "run"\ndata.vspw = "{vspw}"\nnetwork = {{name = "plain", preset = "micro"}}\n'
        f"augment.crop = 32\ntrain.steps = 2\nval.every = 1\n"
    )
    command = ["--config", str(path), "--device", "cpu"]
    assert cli.run(command_line.main, [*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    names = ["baseline", "best", "last"]
    assert sorted(document["files"]) == sorted(document["scores"]) == names
    final = str(tmp_path / "run" / "baseline.safetensors")
    assert (document["final"], document["step"], document["files"]["baseline"]) == (final, 2, final)
    assert all(0 <= score <= 1 for score in document["scores"].values())
    assert cli.run(command_line.main, command) == 0  # nothing left to do: the same once more
    text = capsys.readouterr().out
    assert text.splitlines()[-1] == f"final weights: {final}"
    assert f"{100 * document['scores']['best']:.2f}" in text


def test_a_score_of_nothing_is_null(tmp_path):
    result = Result(tmp_path, 1, {}, {"last": math.nan})
    assert result.to_json()["scores"] == {"last": None}
