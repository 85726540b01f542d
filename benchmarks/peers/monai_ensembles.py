"""MONAI: `MeanEnsemble` of every model's softmax, and `VoteEnsemble` of every model's labels.

A vote is another question (no weights, and a model that is nearly sure counts as one that is not),
so that its labels are held to counting votes and not to the reference's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.peers.peer import Peer
from benchmarks.peers.problem import Problem, decoded

NEEDS = {"needs": ("monai",), "install": "monai"}


def mean_ensemble(p: Problem) -> Tensor:
    from monai.transforms import MeanEnsemble

    maps = [decoded(z).softmax(dim=0) for z in p.logits]
    return MeanEnsemble(weights=p.shares())(maps).argmax(dim=0)


def vote_ensemble(p: Problem) -> Tensor:
    from monai.transforms import VoteEnsemble

    maps = [decoded(z).argmax(dim=0, keepdim=True) for z in p.logits]
    return VoteEnsemble(num_classes=p.classes)(maps)[0]


def votes(p: Problem) -> Tensor:
    """The class that most models say, of equal ones the lowest: what the other has to be."""
    tops = torch.stack([decoded(z).argmax(dim=0) for z in p.logits])
    count = torch.stack([(tops == c).sum(dim=0) for c in range(p.classes)])
    return count.argmax(dim=0)


MEAN = Peer("monai MeanEnsemble", mean_ensemble, **NEEDS)
VOTE = Peer("monai VoteEnsemble (a vote)", vote_ensemble, **NEEDS, answers=votes)
