"""MMEngine: what MMSegmentation's test loop predicts goes into a store; needs mmengine.

    runner.register_hook(StoreHook("cache/net.zarr")); runner.test()

or `custom_hooks = [dict(type="StoreHook", path="cache/net.zarr")]` and
`custom_imports = dict(imports=["fusion.integrations.mmengine"])`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fusion.errors import InputError
from fusion.integrations.units import Units

try:
    from mmengine.hooks import Hook
    from mmengine.registry import HOOKS
except ImportError as error:
    needs = "fusion.integrations.mmengine needs mmengine, which is not installed"
    raise InputError(f"{needs}; pip install mmengine") from error

Key = Callable[[Any], str]


@HOOKS.register_module()
class StoreHook(Hook):
    """Writes `seg_logits` of each data sample, at the size that the model's head gives them.

    The loop's metrics need every prediction, so committed units are predicted again, but not
    written. Several ranks fill one store.

    Args:
        path: the store.
        classes: C names; default: the test data set's `metainfo["classes"]`.
        unit: function of a data sample: id of its video or image; default: `img_path`'s stem.
        frame: the same for frame ids of clips, which stand together; default: an image a unit.
        store: more of `LogitWriter`: values ("sigmoid-probabilities" of a head of one channel,
            which MMSegmentation has put through a sigmoid), profile, model, provenance.
    """

    priority = "LOW"

    def __init__(
        self,
        path: str | Path,
        classes: Sequence[str] | None = None,
        *,
        unit: Key | None = None,
        frame: Key | None = None,
        **store: Any,
    ) -> None:
        self._path, self._classes, self._store = path, classes, store
        self._unit, self._frame = unit or (lambda sample: Path(sample.img_path).stem), frame
        self._units: Any = None  # of this process, while it tests

    def before_test(self, runner: Any) -> None:
        classes = self._classes
        if classes is None:
            known = getattr(runner.test_loop.dataloader.dataset, "metainfo", {})
            classes = known.get("classes")
        if not classes:
            problem = "the test data set's metainfo names no classes"
            raise InputError(f"{self._path}: {problem}; give StoreHook classes")
        self._units = Units(self._path, classes, **self._store)

    def after_test_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        for sample in outputs or ():
            unit, frame = self._unit(sample), self._frame and self._frame(sample)
            if not hasattr(sample, "seg_logits"):
                problem = f"unit {unit!r}: the data sample holds no seg_logits"
                raise InputError(f"{self._path}: {problem}; test a model of mmseg's EncoderDecoder")
            self._units.add(unit, frame, sample.seg_logits.data, tuple(sample.ori_shape[:2]))

    def after_test(self, runner: Any) -> None:
        self._units.finish()
