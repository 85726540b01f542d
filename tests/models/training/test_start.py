"""What training starts from: other weights, a teacher, published weights; and what does not fit."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from fusion.errors import InputError, StoreError
from fusion.models.data.statistics import class_statistics
from fusion.models.networks.plain import Plain
from fusion.models.registry import Network
from fusion.models.training import checkpoint, losses
from fusion.models.training.architecture import Architecture
from fusion.models.training.run import Run, train, training_clips
from fusion.models.training.start import start_from
from fusion.stores import LogitWriter
from tests.models.tools import CPU, SWA, plain_weights, same_state, same_weights


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
    got = r"is plain \{'preset': 'micro'\}, not the student's architecture; .* begin = 'random'"
    with pytest.raises(InputError, match=got):
        Run(other, CPU)


def taught(configure, tmp_path, name="fused.zarr", seed=0):
    """A store of random probabilities of the training frames, and a configuration for it."""
    clips, draw = training_clips(configure()), np.random.default_rng(seed)
    with LogitWriter(tmp_path / name, clips.classes, values="probabilities") as writer:
        for video in clips.videos:
            frames = clips.frames(video)
            with writer.video(video, frames=frames, size=(64, 96)) as out:
                out.extend(draw.random((len(frames), len(clips.classes), 16, 24)))
    return {"teacher": str(tmp_path / name), "kl": 2.0, "temperature": 3.0, "labels": 0.5}


def test_a_store_teaches(configure, tmp_path):
    loss = taught(configure, tmp_path)
    run, plain = Run(configure("student", loss=loss), CPU), Run(configure("plain"), CPU)
    assert same_state(plain.network.state_dict(), run.network.state_dict())  # starts as ever
    images, targets, known = next(iter(run.batches(0, 1)))
    assert known.shape == (2, 124, 8, 8)
    run.network.train()
    outputs = run.network.logits(images)
    expected = 0.5 * losses.cross_entropy(outputs, targets)
    expected += 2 * losses.taught_by(outputs, known, 3.0)
    assert run.objective(images, targets, known).item() == pytest.approx(expected.item(), rel=1e-4)
    alone = Run(configure("alone", loss={**loss, "labels": 0.0}), CPU)
    alone.network.train()
    assert alone.objective(images, targets, known).item() == pytest.approx(
        2 * losses.taught_by(outputs, known, 3.0).item(), rel=1e-4
    )


def test_a_store_teaches_a_run_that_goes_on(configure, tmp_path):
    loss = taught(configure, tmp_path)
    whole = train(configure("whole", loss=loss, swa=SWA), "cpu")
    first = Run(configure("cut", loss=loss, swa=SWA), CPU)
    first.update(list(first.batches(0, 1)))
    first.step += 1
    first._keep()
    assert same_weights(train(configure("cut", loss=loss, swa=SWA), "cpu"), whole)
    shutil.rmtree(tmp_path / "fused.zarr")
    taught(configure, tmp_path, seed=1)
    with pytest.raises(InputError, match=r"checkpoint of another configuration \(teacher = '"):
        Run(configure("cut", loss=loss, swa=SWA), CPU)


def test_a_store_beside_weights_to_start_from(configure, tmp_path):
    first = train(configure("first"), "cpu")
    loss = taught(configure, tmp_path)
    run = Run(configure("second", network={"start": str(first)}, loss=loss), CPU)
    assert same_state(checkpoint.load(first)[0], run.network.state_dict())
    for key, value in {"labels": 0.5, "temperature": 0.5, "begin": "random"}.items():
        with pytest.raises(InputError, match="loss: labels, temperature and begin say how a tea"):
            Run(configure("third", loss={key: value}), CPU)


def test_any_network_teaches(configure):
    """Hinton's mix, T = 4 and halves: a student that begins as ever, a larger teacher."""
    teacher = train(configure("teacher", network={"preset": "tiny"}), "cpu")
    mix = {"kl": 0.5, "labels": 0.5, "temperature": 4.0}
    loss = {"teacher": str(teacher), "begin": "random", **mix}
    run, plain = Run(configure("student", loss=loss), CPU), Run(configure("plain"), CPU)
    assert same_state(plain.network.state_dict(), run.network.state_dict())
    images, targets = next(iter(run.batches(0, 1)))
    run.network.train()
    outputs, known = run.network.logits(images), run.objective.teacher.logits(images)
    soft = [(z.double() / 4).softmax(1) for z in (known, outputs)]
    kl = (soft[0] * (soft[0] / soft[1]).log()).sum(1).mean()
    expected = 0.5 * losses.cross_entropy(outputs, targets) + 0.5 * 16 * kl
    assert run.objective(images, targets).item() == pytest.approx(expected.item(), rel=1e-4)
    assert not run.objective.teacher.training
    assert {"begin", "temperature"} <= run.config.to_json()["loss"].keys()
    start = {"start": str(train(configure("first"), "cpu"))}
    Run(configure("third", network=start, loss=loss), CPU)  # two things, one to start from


def test_a_teacher_of_other_classes(configure, tmp_path):
    plain_weights(tmp_path / "w")
    for begin in ("random", "teacher"):
        loss = {"teacher": str(tmp_path / "w"), "begin": begin}
        with pytest.raises(InputError, match=r"teacher .*w has other classes than the data; give"):
            Run(configure(loss=loss), CPU)


class Fixed(Network):
    """Answers that are given; `classifier` and the rest do not matter."""

    def __init__(self, outputs, values="logits"):
        super().__init__()
        self.outputs, self.values = outputs, values

    def logits(self, images):
        return self.outputs


def test_teachers_of_probabilities_and_of_other_resolutions():
    draw = torch.Generator().manual_seed(0)
    known, given = (torch.randn(2, 3, 4, 4, generator=draw) for _ in range(2))
    images, targets = torch.zeros(2, 3, 16, 16), torch.zeros(2, 16, 16, dtype=torch.int64)
    how = {"labels": 0.0, "temperature": 2.0}

    def loss(teacher):
        return losses.Objective(Fixed(given), losses.cross_entropy, teacher, 1.0, **how)(
            images, targets
        )

    expected = losses.distillation(given, known, 2.0)
    assert torch.equal(loss(Fixed(known)), expected)
    scores = 0.1 * known.softmax(1)  # as MaskFormer's, which need not add up to 1
    torch.testing.assert_close(loss(Fixed(scores, "probabilities")), expected)
    coarse = known[:, :, :1, :1]
    expected = losses.distillation(given, coarse.expand(2, 3, 4, 4), 2.0)
    torch.testing.assert_close(loss(Fixed(coarse)), expected)


def test_checkpoints_of_earlier_releases_know_no_temperature(configure):
    later = {"labels", "temperature", "begin", "head"}
    assert not later & configure().to_json()["loss"].keys()
    loss = {"teacher": "x", "temperature": 2.0}
    assert configure(loss=loss).to_json()["loss"]["temperature"] == 2.0


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


def test_a_prior_on_the_network_s_own_head(configure):
    options = configure(loss={"adjust": True, "head": "own", "tau": 1.0})
    network, there = checkpoint.load_network(train(options, "cpu"))
    assert (there.head, there.tau) == ("own", 1.0)
    assert network.get_parameter("head.weight").ndim == 4
    counts = class_statistics(training_clips(options)).log_prior()
    assert torch.equal(network.get_buffer("head.log_prior"), counts)
    run = Run(configure("other", loss={"adjust": True}), CPU)
    assert run.architecture.head == "cosine"


def test_a_prior_of_the_masks_that_can_be_read(configure, folder):
    (folder / "names.txt").write_text("a\nb\nc\n")
    (folder / "labels" / "clip" / "1.png").write_bytes(b"")
    place = {name: str(folder / name) for name in ("images", "labels")}
    place |= {"vspw": "", "classes": str(folder / "names.txt")}
    with pytest.raises(StoreError, match=r"clip/1\.png is"):
        Run(configure(data=place, loss={"adjust": True}), CPU)
    run = Run(configure(data=place | {"damaged": "skip"}, loss={"adjust": True}), CPU)
    mask = run.clips.masks.read("clip", "0")
    shares = np.bincount(mask[mask < 3]) / (mask < 3).sum()
    (prior,) = [b for name, b in run.network.named_buffers() if name.endswith("log_prior")]
    np.testing.assert_allclose(prior.exp().numpy(), shares, rtol=1e-5)


def test_crop_that_the_network_cannot_take(configure, monkeypatch):
    monkeypatch.setattr(Plain, "stride", 64)
    with pytest.raises(InputError, match="crop is 32; 'plain' takes multiples of 64"):
        Run(configure(), CPU)


def test_own_losses_take_no_other(transformers, configure):
    with pytest.raises(InputError, match="'maskformer' trains by its own loss"):
        Run(configure(network={"name": "maskformer"}, loss={"ohem": True}), CPU)
