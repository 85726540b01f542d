"""What is trained: the members of both families, and what the tables compare with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.paper.sizes import MASKFORMER, PREFIX, SWIN, Size
from fusion.models.training.adjustment import TAU
from fusion.models.training.checkpoint import SUFFIX

FOLDS = 5
Extras = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Member:
    """One network to train.

    crop: 0 small, 1 large. steps: times the family's. extras: sections of its configuration, over
    those of its family. start, teacher: members whose weights its training needs. files: which
    weights become stores: name of the store -> name of the file. post_hoc: store -> tau, of the
    final weights, adjusted after training.
    """

    name: str
    network: str
    crop: int = 1
    seed: int = 0
    steps: float = 1
    start: str = ""
    teacher: str = ""
    extras: Extras = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    post_hoc: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_start(self) -> bool:
        return not (self.start or self.teacher)

    @property
    def is_numbered(self) -> bool:
        """Whether it is one of a family's members."""
        return self.name[-2:].isdigit()


def roster(size: Size) -> list[Member]:
    """Everything that is trained; what others start from comes before them.

    The first Swins are the rows of Table 1: small crop, large, large with OHEM; the others repeat
    these with other seeds and left-out videos. Rows that are compared share both.
    """
    found = [
        Member(f"{PREFIX[network]}_start", network, files={}) for network in (MASKFORMER, SWIN)
    ]

    def add(name: str, network: str, **facts: Any) -> None:
        start = {} if "teacher" in facts else {"start": f"{PREFIX[network]}_start"}
        files = facts.pop("files", {name: "baseline"})
        found.append(Member(name, network, files=files, **start, **facts))

    last = f"swa_{size.cycles:02d}"  # as many steps as the average, which is what it is beside
    for k in range(size.members):
        name, extras, more = f"swin_{k + 1:02d}", dict[str, Any](), dict[str, Any]()
        if k % 3 == 2:
            extras["loss"] = ohem(size)
        if k == 2:
            extras["swa"] = averaging(size, SWIN)
            more["files"] = {name: "baseline", f"{name}_last": last, f"{name}_averaged": "averaged"}
            more["post_hoc"] = {f"{name}_post_hoc": 0.5}
        add(name, SWIN, crop=min(k % 3, 1), seed=k // 3, extras=extras, **more)
    constant = {"swa": averaging(size, SWIN, "constant"), "train": {"ema": 0.99}}
    files = {"last": last, "averaged": "averaged", "ema": "ema"}
    files = {f"swin_constant_{key}": file for key, file in files.items()}
    add("swin_constant", SWIN, extras={"loss": ohem(size), **constant}, files=files)
    for k in range(size.members):
        name, more = f"maskformer_{k + 1:02d}", dict[str, Any]()
        if k == 0:
            more["extras"] = {"swa": averaging(size, MASKFORMER)}
            more["files"] = {name: "baseline", f"{name}_last": last, f"{name}_averaged": "averaged"}
        add(name, MASKFORMER, seed=k, **more)
    _adjusted(size, add)
    _distilled(add)
    add("swin_11x", SWIN, steps=size.longer)
    return found


def _adjusted(size: Size, add: Any) -> None:
    """Table 4. What the head does, what the prior does, and both."""
    scaled, base = {"adjust": True, "scale": 1 / TAU}, ohem(size)
    add("swin_cosine", SWIN, extras={"loss": {**base, **scaled, "tau": 0.0}})
    add("swin_adjusted", SWIN, extras={"loss": {**base, **scaled}})
    add("swin_prior", SWIN, extras={"loss": {**base, **scaled, "head": "own"}})
    add("maskformer_cosine", MASKFORMER, extras={"loss": {**scaled, "tau": 0.0}})
    add("maskformer_adjusted", MASKFORMER, extras={"loss": scaled})


def _distilled(add: Any) -> None:
    """Table 5. The first has a student's steps without what it is taught."""
    add("swin_longer", SWIN, teacher="swin_02", extras={"loss": {"kl": 0.0}})
    add("swin_student", SWIN, teacher="swin_02")
    soft = {"temperature": 4.0, "labels": 0.5, "kl": 0.5}
    add("swin_student_soft", SWIN, teacher="swin_02", extras={"loss": soft})


def ohem(size: Size) -> dict[str, Any]:
    return {"ohem": True, "min_kept": size.min_kept}


def averaging(size: Size, network: str, rate: str = "cyclical") -> dict[str, Any]:
    """Weight averaging: the paper's ten cycles; a constant rate is the mean of a cycle's."""
    highest, lowest = size.families[network].rate / 4, size.families[network].rate / 100
    pace = {"highest": highest, "lowest": lowest}
    if rate == "constant":
        pace = {"rate": rate, "highest": (highest + lowest) / 2, "lowest": lowest}
    return {"cycles": size.cycles, "every": size.swa_every, **pace, "refresh": 20}


def steps_of(member: Member, size: Size) -> int:
    """Before the averaging phase, where it has one."""
    family = size.families[member.network]
    return round((family.start if member.is_start else family.steps) * member.steps)


def configuration(member: Member, size: Size, out: Path, seed: int = 0) -> dict[str, Any]:
    """The training configuration of a member, as a document. seed: of the repetition."""
    family, runs = size.families[member.network], out.absolute() / "runs"
    split, steps = "pretrain" if member.is_start else "train", steps_of(member, size)
    weights = {
        key: str(runs / name / f"baseline{SUFFIX}") if name else ""
        for key, name in before(member).items()
    }
    pace = {"learning_rate": family.rate, "warmup": steps // 20, "clip": 1.0}
    pace["checkpoint_every"] = max(1, steps // 4)
    # networks of seed 0 see all videos, so that rows which are compared differ in one thing only;
    # others leave out a fold each
    fold = {"folds": FOLDS, "fold": member.seed % FOLDS} if member.seed else {}
    return {
        "out": str(runs / member.name),
        "seed": 1000 * seed + member.seed,
        "data": {"vspw": str(out.absolute() / "scenes"), "split": split, **fold},
        "network": {"name": member.network, "preset": size.preset, "start": weights["start"]},
        "augment": {"crop": size.crops[member.crop], "scale": [0.75, 1.33], "colour": 0.2},
        "loss": {"teacher": weights["teacher"], **member.extras.get("loss", {})},
        "train": {
            "steps": steps, "batch": size.batch, "workers": size.workers, **pace,
            **member.extras.get("train", {}),
        },
        "swa": member.extras.get("swa", {}),
    }  # fmt: skip


def before(member: Member) -> dict[str, str]:
    """Members whose weights a member needs, by the key of its configuration; "" for none."""
    return {"start": member.start, "teacher": member.teacher}
