"""Lightning: what `predict_step` returns goes into a store; needs lightning (or pytorch_lightning).

trainer = Trainer(callbacks=[StoreWriter("cache/net.zarr", classes, unit="name")])
trainer.predict(module, loader, return_predictions=False)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from torch.utils.data.distributed import DistributedSampler

from fusion.errors import InputError
from fusion.integrations.batches import Batches, Names, Pick, lacking
from fusion.integrations.units import Size, Units

try:
    from lightning.pytorch.callbacks import BasePredictionWriter
except ImportError:
    try:
        from pytorch_lightning.callbacks import BasePredictionWriter  # type: ignore[assignment]
    except ImportError as error:
        needs = "fusion.integrations.lightning needs lightning, which is not installed"
        raise InputError(f"{needs}; pip install lightning") from error


class StoreWriter(BasePredictionWriter):
    """Writes each unit once it is whole; committed batches are not given to `predict_step` again.

    Several ranks fill one store, each its own units. With `frame`, the frames of a unit have to
    come to one rank, one after another.

    Args:
        path: the store.
        classes: C names in channel order.
        unit: key or function of a batch of N images: their N ids of videos, images or cases.
        frame: the same for N frame ids; default: every image is a unit, its frame has its id.
        size: the same for N (height, width) of the source images, which labels have; or one pair
            for all; default: the batch's images' own.
        images: key or function of a batch: [N, ..., H, W]; default: found by type and name.
        output: key or function of what `predict_step` returns: [N, C, h, w]; default: the tensor,
            the first of a tuple, "logits" or "out" of a dict.
        store: more of `LogitWriter`: values, profile, model, provenance.
    """

    def __init__(
        self,
        path: str | Path,
        classes: Sequence[str],
        *,
        unit: Pick,
        frame: Pick | None = None,
        size: Pick | Size | None = None,
        images: Pick | None = None,
        output: Pick | None = None,
        **store: Any,
    ) -> None:
        super().__init__("batch")
        self._store = {"path": path, "classes": classes, "pack": True, **store}
        self._batches = Batches(unit, frame, size, images, output)
        self._units: Any = None  # of this process, while it predicts
        self._names: Names = []  # of the batch at hand

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        loaders = trainer.predict_dataloaders
        for loader in loaders if isinstance(loaders, (list, tuple)) else [loaders]:
            if self._batches.frame is not None and trainer.world_size > 1 and _dealt(loader):
                problem = "the sampler deals the frames of a unit to several ranks"
                advice = "use Trainer(use_distributed_sampler=False) and deal whole units"
                raise InputError(f"{self._store['path']}: {problem}; {advice}")
        self._units, step = Units(**self._store), pl_module.predict_step

        @wraps(step)
        def predict_missing(batch: Any, *rest: Any, **more: Any) -> Any:
            self._names = self._batches.names(batch)
            # of what is committed nothing; None would be warned of
            return step(batch, *rest, **more) if lacking(self._names, self._units) else ()

        pl_module.predict_step = predict_missing

    def write_on_batch_end(
        self,
        trainer: Any,
        pl_module: Any,
        prediction: Any,
        batch_indices: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        self._batches.add(batch, self._names, prediction, self._units)

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        self._units.finish()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if self._units is not None:
            self._units.abandon()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        vars(pl_module).pop("predict_step", None)  # the class's own again
        self._units = None


def _dealt(loader: Any) -> bool:
    """Whether a sampler gives each rank items in turn."""
    batches = getattr(loader, "batch_sampler", None)
    samplers = (getattr(loader, "sampler", None), batches, getattr(batches, "sampler", None))
    return any(isinstance(sampler, DistributedSampler) for sampler in samplers)
