"""What training starts from: random or published weights, another run's, or a teacher's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fusion.cli import remark
from fusion.errors import FusionError, InputError
from fusion.models import registry
from fusion.models.data.clips import Clips
from fusion.models.data.statistics import FILE, class_statistics
from fusion.models.data.teacher import is_store
from fusion.models.registry import Network
from fusion.models.training import checkpoint
from fusion.models.training.architecture import Architecture
from fusion.models.training.config import RANDOM, TEACHER, Config
from fusion.models.training.others import of_others


def networks(config: Config, clips: Clips) -> tuple[Network, Architecture, Network | None]:
    """The network to train, what it is, and its teacher, where that is a network.

    InputError: two things to start from, a crop, loss or weights that are not the network's.
    """
    choice, loss = config.network, config.loss
    options, module = dict(choice.options), choice.module or None
    pretrained = options.pop("pretrained", None)
    if pretrained is False and not registry.takes(choice.name, "pretrained", module=module):
        pretrained = None  # what a network without published weights does anyway
    teaches = "" if is_store(loss.teacher) else loss.teacher
    begins = teaches and loss.begin == TEACHER
    given = {"pretrained": pretrained is True, "start": choice.start, "teacher": begins}
    sources = [name for name, value in given.items() if value]
    if len(sources) > 1:
        got = f"{' and '.join(sources)} each say what to start from"
        raise InputError(f"network: {got}; keep one")
    adjustment = (loss.tau, loss.scale, loss.head) if loss.adjust else ()
    architecture = Architecture(choice.name, clips.classes, options, *adjustment)
    prior = None
    if loss.adjust:
        file, damaged = Path(config.out) / FILE, config.data.damaged
        prior = class_statistics(clips, file, damaged=damaged).log_prior()
    # a weights file brings its own, and its architecture need not ask for published ones
    asked = options if pretrained is None else options | {"pretrained": pretrained}
    network = replace(architecture, options=asked).build(prior, module=module)
    if network.options is not None:
        architecture = replace(architecture, options=dict(network.options))
    crop = config.augment.crop
    if crop % network.stride:
        advice = f"{choice.name!r} takes multiples of {network.stride}"
        raise InputError(f"augment: crop is {crop}; {advice}")
    if (loss.ohem or loss.teacher) and type(network).loss is not Network.loss:
        only = "ohem and teacher are for networks of per-pixel logits"
        raise InputError(f"loss: {choice.name!r} trains by its own loss; {only}")
    unused = (loss.labels, loss.temperature, loss.begin) != (1.0, 1.0, TEACHER)
    if not loss.teacher and unused:
        got = "labels, temperature and begin say how a teacher counts, and there is none"
        raise InputError(f"loss: {got}; give teacher, or leave them out")
    if choice.start:
        start_from(network, architecture, choice.start)
    if not teaches:
        return network, architecture, None
    teacher, taught = checkpoint.load_network(loss.teacher, module=module)
    if taught.classes != architecture.classes:
        got, advice = "has other classes than the data", "give one of these, in this order"
        raise InputError(f"loss: teacher {loss.teacher} {got}; {advice}")
    if begins:
        if taught != architecture:
            got = f"teacher {loss.teacher} is {taught.network} {taught.options}"
            advice = f"give one of these, or begin = {RANDOM!r}"
            raise InputError(f"loss: {got}, not the student's architecture; {advice}")
        network.load_state_dict(teacher.state_dict())
    return network, architecture, teacher.requires_grad_(False)


def begun(config: Config) -> Config:
    """A configuration whose network has the options of a new run (`Network.begun`).

    But a run that goes on, from its checkpoint or from others' weights, keeps the options that it
    was begun with.
    """
    choice = config.network
    options = registry.begun(choice.name, choice.options, module=choice.module or None)
    if options == choice.options:
        return config
    teacher = config.loss.teacher if config.loss.begin == TEACHER else ""
    paths = (Path(config.out) / f"checkpoint{checkpoint.SUFFIX}", choice.start, teacher)
    if any(path and _options(Path(path)) == choice.options for path in paths):
        return config
    return replace(config, network=replace(choice, options=options))


def _options(path: Path) -> dict[str, Any] | None:
    """The network's options in a checkpoint or weights file; None where there is no such file."""
    try:
        document = checkpoint.load(path)[1]
        there = document.get("architecture") or document["config"]["network"]
        return dict(there["options"])
    except (FusionError, LookupError, TypeError, ValueError):
        return None  # whoever reads it for its weights says what is wrong


def start_from(network: Network, architecture: Architecture, path: str | Path) -> None:
    """Fills a network with the weights of a file, for training to go on from.

    A file of others: `others.of_others`.
    Where the file's classes are others, the last layer and what else has a row a class stay as they
    are, which is said, else they are taken too; logit adjustment keeps its own prior, and has no
    use for a bias.
    InputError: another network or other options; other classes, and no name of the last layer.
    """
    tensors, document = checkpoint.read(path)
    if document is None:
        network.load_state_dict(network.state_dict() | of_others(network, tensors, path))
        return
    found = checkpoint.described(document, path)
    if (found.network, found.options) != (architecture.network, architecture.options):
        got = f"{found.network} {found.options}, not {architecture.network} {architecture.options}"
        advice = "give weights of the same network and options"
        raise InputError(f"network: start {path} is {got}; {advice}")
    same = found.classes == architecture.classes
    if not (same or network.classifier):
        got = f"other classes, and {architecture.network!r} names no last layer to leave out"
        raise InputError(f"network: start {path} has {got}")
    own, layer = network.state_dict(), f"{network.classifier}."
    last = {name for name in {*own, *tensors} if network.classifier and name.startswith(layer)}
    taken = {name: tensor for name, tensor in tensors.items() if name not in last}
    if not same:
        remark(f"{path}: of other classes; left as it is: {network.classifier}")
        taken |= {k: own[k] for k in taken.keys() & own.keys() if own[k].shape != taken[k].shape}
    for name in last & own.keys():
        fits = same and name in tensors and not name.endswith(".log_prior")
        # reshaped: a 1 x 1 convolution's [C, D, 1, 1] into the cosine classifier's [C, D]
        taken[name] = tensors[name].reshape(own[name].shape) if fits else own[name]
    checkpoint.load_state(network, taken, path)
