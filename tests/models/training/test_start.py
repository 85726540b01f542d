"""What training starts from: other weights, a teacher, published weights; and what does not fit."""

from __future__ import annotations

import pytest
import torch

from fusion.errors import InputError
from fusion.models.networks.plain import Plain
from fusion.models.training import checkpoint, losses
from fusion.models.training.architecture import Architecture
from fusion.models.training.run import Run, train
from fusion.models.training.start import start_from
from tests.models.tools import CPU, plain_weights, same_state, same_weights


def test_starting_with_the_same_classes(tmp_path):
    source, there = plain_weights(tmp_path / "w")
    network = there.build()
    start_from(network, there, tmp_path / "w")
    assert same_state(source.state_dict(), network.state_dict())
    adjusted = Architecture("plain", there.classes, there.options, 0.03)
    prior = torch.tensor([0.9, 0.1]).log()
    network = adjusted.build(prior)
    start_from(network, adjusted, tmp_path / "w")
    head = source.get_parameter("head.weight")[:, :, 0, 0]
    assert torch.equal(network.get_parameter("head.weight"), head)
    checkpoint.save_network(tmp_path / "v", network, adjusted)
    other = adjusted.build(prior.flip(0))
    start_from(other, adjusted, tmp_path / "v")
    assert torch.equal(other.get_parameter("head.weight"), network.get_parameter("head.weight"))
    assert torch.equal(other.get_buffer("head.log_prior"), prior.flip(0))


def test_starting_from_what_does_not_fit(tmp_path, monkeypatch):
    network, there = plain_weights(tmp_path / "w")
    other = Architecture("plain", there.classes, {"preset": "tiny"})
    got = r"is plain \{'preset': 'micro'\}, not plain \{'preset': 'tiny'\}; give weights of the"
    with pytest.raises(InputError, match=got):
        start_from(other.build(), other, tmp_path / "w")
    monkeypatch.setattr(type(network), "classifier", "")
    more = Architecture("plain", ("a", "c"), there.options)
    with pytest.raises(InputError, match="has other classes, and 'plain' names no last layer"):
        start_from(more.build(), more, tmp_path / "w")
    tensors, document = checkpoint.load(tmp_path / "w")
    renamed = {name.replace("mix", "nix"): tensor for name, tensor in tensors.items()}
    checkpoint.save(tmp_path / "w", renamed, document)
    with pytest.raises(InputError, match="is of another architecture than Plain"):
        start_from(there.build(), there, tmp_path / "w")


def test_student_starts_as_its_teacher(configure):
    teacher = train(configure("teacher"), "cpu")
    options = configure("student", loss={"teacher": str(teacher), "kl": 2.0})
    run = Run(options, CPU)
    taught = checkpoint.load(teacher)[0]
    assert same_state(taught, run.network.state_dict())
    images, targets = next(iter(run.batches(0, 1)))
    run.network.train()
    outputs, reference = run.network.logits(images), run.objective.teacher.logits(images)
    expected = losses.cross_entropy(outputs, targets) + 2 * losses.distillation(outputs, reference)
    assert run.objective(images, targets).item() == pytest.approx(expected.item(), rel=1e-4)
    run.fit()
    assert same_state(taught, run.objective.teacher.state_dict())
    other = configure("other", network={"preset": "tiny"}, loss={"teacher": str(teacher)})
    got = r"teacher .* is plain \{'preset': 'micro'\}, not the student's architecture"
    with pytest.raises(InputError, match=got):
        Run(other, CPU)


def test_training_starts_from_given_weights(configure):
    first = train(configure("first"), "cpu")
    options = configure("second", network={"start": str(first)})
    run, there = Run(options, CPU), checkpoint.load(first)[0]
    assert same_state(there, run.network.state_dict())
    final = train(options, "cpu")
    assert not same_weights(final, first)
    assert same_weights(train(options, "cpu"), final)  # what was trained is not started again
    third = configure("third", network={"start": str(first)}, loss={"teacher": str(first)})
    with pytest.raises(InputError, match="start and teacher each say what to start from; keep one"):
        Run(third, CPU)


def test_crop_that_the_network_cannot_take(configure, monkeypatch):
    monkeypatch.setattr(Plain, "stride", 64)
    with pytest.raises(InputError, match="crop is 32; 'plain' takes multiples of 64"):
        Run(configure(), CPU)


def test_own_losses_take_no_other(transformers, configure):
    with pytest.raises(InputError, match="'maskformer' trains by its own loss"):
        Run(configure(network={"name": "maskformer"}, loss={"ohem": True}), CPU)
