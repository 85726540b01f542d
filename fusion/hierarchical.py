"""HierarchicalEnsemble: the public ensemble, which also scores itself and searches its weights.

`fusion.ensemble.Ensemble` is what metrics, contested pixels and search are made of; this class
stands after them all, so that no arrow of the architecture points back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.arguments import checked
from fusion.ensemble import Ensemble
from fusion.text import html_table, listed

if TYPE_CHECKING:
    from fusion.labels import Labels
    from fusion.metrics import Calibration, Objective, Scores
    from fusion.search import SearchResult


@checked
class HierarchicalEnsemble(Ensemble):
    __doc__ = Ensemble.__doc__  # the same arguments

    def _repr_html_(self) -> str:
        weights = [f"{self.weights[name]:g}" if self.head is None else "" for name in self.groups]
        models = [listed(store.model for store in stores) for stores in self.groups.values()]
        rows = zip(self.groups, weights, map(len, self.groups.values()), models, strict=True)
        return html_table(rows, ("group", "weight", "stores", "models"), repr(self))

    def predict_all(
        self, videos: Sequence[str] | None = None, *, probabilities: bool = False
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Video after video: (its id, what `predict` gives for it).

            for video, labels in ensemble.predict_all(): ...
            everything = dict(ensemble.predict_all())

        Args:
            videos: ids, in the order wanted; default all.
            probabilities: what `predict_proba` gives instead.

        Returns:
            An iterator that holds one video at a time, whatever is done with the last one.

        Raises:
            InputError: an unknown video, before any is read.
        """
        wanted = self.videos if videos is None else tuple(videos)
        for video in wanted:
            self.frames(video)
        predict = self.predict_proba if probabilities else self.predict
        return ((video, predict(video)) for video in wanted)

    def uncertainty(
        self,
        video: str,
        frames: Sequence[str] | None = None,
        kinds: Sequence[str] = ("entropy", "margin", "confidence", "disagreement"),
    ) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """(frame id, float32 [H, W] by kind): `fusion.ensemble.uncertainty` says what they are.

        Args:
            video: its id.
            frames: ids; default all.
            kinds: of entropy (nats), margin, confidence, and disagreement, the mutual information
                between class and model (nats).

        Raises:
            InputError: another kind; independent channels, scores, disagreement of a head.
        """
        from fusion.ensemble.uncertainty import uncertainty_maps

        return uncertainty_maps(self, video, frames, kinds)

    def evaluate(
        self,
        truth: Labels,
        *,
        videos: Sequence[str] | None = None,
        convention: str | Objective = "vspw",
        scheduler: str = "threads",
        progress: str | None = None,
    ) -> Scores:
        """Scores against ground truth: an int64 confusion matrix a video, and what follows from it.

        Args:
            truth: frames without labels are not scored.
            videos: default all of the labels (with align="intersect", those that the stores have).
            convention: which classes the mean IoU is over, or another objective: a name in
                `fusion.metrics.objectives`, or an `Objective`.
            scheduler: Dask's "threads", "processes", "synchronous", or a cluster's address; the
                result is the same bit for bit.
            progress: title of a bar on stderr.
        """
        from fusion.metrics import Scores
        from fusion.metrics.evaluation import VideoConfusion, objective_of
        from fusion.parallel import map_videos

        task = VideoConfusion(self.sharing(scheduler), truth)
        wanted = self.scored_videos(truth, videos)
        frames = None
        if progress is not None:
            frames = {video: len(self.labelled_frames(truth, video)) for video in wanted}
        shown: dict[str, Any] = {"progress": progress, "frames": frames}
        matrices = map_videos(task, wanted, scheduler=scheduler, **shown)
        return Scores(matrices, self.classes, objective_of(self, convention))

    def calibration(
        self,
        truth: Labels,
        *,
        videos: Sequence[str] | None = None,
        scheduler: str = "threads",
        progress: str | None = None,
    ) -> Calibration:
        """How far fused probabilities can be believed: ECE, NLL and Brier score, void left out.

        Args:
            truth, videos, scheduler, progress: as in `evaluate`.
        """
        from fusion.metrics.calibration import calibrate

        return calibrate(self, truth, videos=videos, scheduler=scheduler, progress=progress)

    def search(self, truth: Labels, method: str = "grid", **options: Any) -> SearchResult:
        """Weights that maximise mIoU on `truth`; methods and options: `fusion.search.search`."""
        from fusion.search import search

        return search(self, truth, method, **options)
