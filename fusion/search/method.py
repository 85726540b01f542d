"""What a search method is: an object whose fields are its options, and one call.

    found = Grid(ranges={"weak": (0, 2, 0.5)}).search(Problem(condensed))

A method is a frozen dataclass derived from `Method`. Each field is declared once, by `option`: its
default, its help and its form on the command line serve the API and the command alike;
`__post_init__` checks the values. A new method is one file, one entry in `fusion.search.registry`,
and one test class that inherits tests/search/contract.py.

G groups, C classes. Scores are fractions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from fusion.contested import Condensed, Pixels
from fusion.ensemble.heads import Head
from fusion.errors import InputError
from fusion.metrics import Scores
from fusion.metrics.objectives import Objective, objective
from fusion.progress import Progress, silent
from fusion.search.held import UnitOf
from fusion.search.learned.cells import Cells
from fusion.search.result import SearchResult, Trial, best_trial

OVER = ("groups", "models")  # what gets a weight
FEWER = 4  # by which a head's multipliers are found on fewer
MOST_SEED = 1 << 32
SAMPLE = 1 << 20  # candidates that class multipliers climb on
Arguments = Mapping[str, Any]
Parse = Callable[..., Any]
Evaluate = Callable[[Sequence[float], Sequence[float] | None, Sequence[str]], Scores]


class Data(NamedTuple):
    """What results are of: the digest of stores, labels and groups, the objective, the seed."""

    digest: str | None
    convention: str
    seed: int


class Facts(NamedTuple):
    """What a search is of, by which a method decides how far to go.

    folds: in which everything is chosen again, 0 for none. units: that are held out. models,
    classes, pixels (labelled): how many. fusable: whether heads can fuse them.
    """

    folds: int
    units: int
    models: int
    classes: int
    pixels: int
    fusable: bool


@dataclass(frozen=True)
class Problem:
    """What is searched: the weights [G] with the highest objective on condensed pixels.

    Args:
        condensed: the pixels, which know groups, classes and videos.
        convention: the objective: a name in `fusion.metrics.objectives`, or an `Objective`.
        seed: of all that is drawn.
        digest: works out what the data are, for what is kept on disk; None where nobody knows.
        evaluate: scores of one weight vector where the pixels' own are not exactly fusion's.
        wide: the same pixels condensed for class multipliers, where these are searched as well.
        reach: of the multipliers, which lie in [1 / reach, reach]; None for none.
        units: of every video, what is held out together; each its own by default.
        cells: gives what heads are trained on; None where they cannot be.
        sample: candidates that class multipliers climb on.
    """

    condensed: Pixels
    convention: str | Objective = "vspw"
    seed: int = 0
    digest: Callable[[], str | None] = lambda: None
    evaluate: Evaluate | None = None
    wide: Condensed | None = None
    reach: float | None = None
    units: UnitOf | None = None
    cells: Callable[[], Cells] | None = None
    sample: int = SAMPLE

    def __post_init__(self) -> None:
        objective(self.convention)
        check_seed(self.seed)

    @property
    def objective(self) -> Objective:
        """What is maximised."""
        return objective(self.convention)

    @property
    def groups(self) -> tuple[str, ...]:
        return self.condensed.groups

    @property
    def reaching(self) -> Pixels:
        """The pixels that multipliers are counted on."""
        return self.wide or self.condensed

    def trials(
        self,
        weights: Iterable[Iterable[float]],
        multipliers: Sequence[Sequence[float]] | None = None,
    ) -> list[Trial]:
        """Weight vectors [B, G], multipliers [B, C], and the mIoU that fusion in float32 gives."""
        points = [tuple(map(float, point)) for point in weights]
        if not points:
            return []
        if multipliers is None:
            return list(map(Trial, points, self.condensed.miou(points, self.convention).tolist()))
        scores = self.reaching.miou(points, self.convention, multipliers).tolist()
        return list(map(Trial, points, scores, [tuple(map(float, row)) for row in multipliers]))

    def scores(
        self,
        weights: Sequence[float],
        multipliers: Sequence[float] | None = None,
        videos: Sequence[str] | None = None,
    ) -> Scores:
        """Scores per video, of all or of some, under weights [G] and multipliers [C]."""
        some = self.condensed.videos if videos is None else videos
        if self.evaluate is not None:
            return self.evaluate(weights, multipliers, some)
        pixels = self.condensed if multipliers is None else self.reaching
        confusions = pixels.subset(some).confusion(weights, multipliers)
        matrices = dict(zip(some, confusions, strict=True))
        return Scores(matrices, self.condensed.classes, self.convention)

    @property
    def uniform(self) -> Scores:
        """Scores under equal weights, which every search has to beat."""
        return self.scores([1.0] * len(self.groups))

    @property
    def data(self) -> Data:
        return Data(self.digest(), self.objective.name, self.seed)

    def subset(self, videos: Sequence[str]) -> Problem:
        """The same on some of the videos: other data, which nothing on disk belongs to."""
        # without digest: a fold must not resume the study or state of the whole
        wide, cells = self.wide and self.wide.subset(videos), self.cells
        more: dict[str, Any] = {"wide": wide, "reach": self.reach, "units": self.units}
        more["cells"] = None if cells is None else lambda: cells().subset(videos)
        return Problem(self.condensed.subset(videos), self.convention, self.seed, **more)

    def under(self, heads: Head | Mapping[str, Head]) -> Problem:
        """The same pixels fused by a head, or each video's by its own: one group.

        Scores are those of the maps: near ties labels may differ from fusion's.
        """
        assert self.cells is not None
        maps = self.cells().maps
        each = dict.fromkeys(maps.videos, heads) if isinstance(heads, Head) else heads
        more: dict[str, Any] = {"reach": self.reach, "units": self.units}
        more["sample"] = self.sample // FEWER  # a head has its biases: little is left to find
        return Problem(maps.under(each), self.convention, self.seed, **more)

    @property
    def unit_of(self) -> UnitOf:
        """The unit of every video."""
        return self.units or {video: video for video in self.condensed.videos}

    def result(self, method: str, history: Sequence[Trial], **more: Any) -> SearchResult:
        """The best of a history. more: further fields of SearchResult."""
        best = best_trial(history)
        name = self.objective.name
        found = (method, self.groups, best.weights, best.miou, name, tuple(history))
        return SearchResult(*found, **more)


def check_seed(seed: int) -> None:
    """InputError for what no generator of random numbers takes."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed < MOST_SEED:
        raise InputError(f"seed: got {seed!r}; give a whole number from 0 to {MOST_SEED - 1}")


class Workspace(NamedTuple):
    """Where a method works: what shows its progress, and a folder for what it goes on from."""

    progress: Progress = silent
    folder: Path | None = None


ALONE = Workspace()


def option(
    flag: str, default: Any, help: str, form: Arguments | None = None, parse: Parse | None = None
) -> Any:
    """A field of a method that the command line has too; fields without it are the API's alone.

    Args:
        flag: on the command line.
        default: what it is where nobody says otherwise.
        help: of the command line, which adds the default where there is one.
        form: argparse's own: type, metavar, action.
        parse: makes the value of what argparse gives.
    """
    told = help if default is None else f"{help} (default {default})"
    form = {**(form or {}), "help": told}
    return field(default=default, metadata={"flag": flag, "form": form, "parse": parse})


@dataclass(frozen=True)
class Method(ABC):
    """A search method; its fields are its options.

    name: as callers and the command line say it. about: what it is, in a few words. over: what it
    gives weights to by default, one of `OVER`. multiplies: whether class multipliers are searched
    after it by default. trains: whether it needs the cells of a problem. goes_beyond: whether it is
    a ladder of other methods.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    over: ClassVar[str] = "groups"
    multiplies: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    goes_beyond: ClassVar[bool] = False

    @abstractmethod
    def search(self, problem: Problem, workspace: Workspace = ALONE) -> SearchResult:
        """The best weights found; `history` is every weighting tried, in order.

        Raises InputError for options that do not fit the problem, and where the workspace holds the
        state of other data.
        """

    def effort(self, groups: Sequence[str]) -> int | None:
        """How many weightings of these groups will be evaluated; None where nobody knows."""
        return None

    def check(self, data: Data, workspace: Workspace) -> None:  # noqa: B027
        """Refuses what a workspace keeps of other data, before anything is worked out.

        InputError as `search` raises it.
        """

    def beyond(self, facts: Facts) -> tuple[Method | None, str]:
        """What goes on from here, on the same folds, if anything does; and why, or why not."""
        return None, ""

    def inner(self) -> Self:
        """The method inside a fold: without study, state or certificate."""
        return self

    @classmethod
    def flags(cls) -> dict[str, Field[Any]]:
        """The options that the command line has, by flag."""
        return {f.metadata["flag"]: f for f in fields(cls) if f.metadata}

    @classmethod
    def from_arguments(cls, given: Arguments) -> Self:
        """The method that a command line says; None is not said, other methods' do not matter."""
        said = {}
        for flag, f in cls.flags().items():
            value, parse = given[flag.lstrip("-").replace("-", "_")], f.metadata["parse"]
            if value is not None:
                said[f.name] = parse(value) if parse else value
        return cls(**said)
