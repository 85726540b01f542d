"""MONAI: predictions as MetaTensors, by a transform or an engine's handler; needs monai.

MONAI's readers give [C, X, Y, Z], and pictures as [C, X, Y]: NIfTI's own order. A store keeps the
reverse, as everywhere here: a case's frames are its slices along Z, each [C, Y, X].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from fusion.errors import InputError
from fusion.geometry import slice_ids
from fusion.integrations.metatensors import place, rows_first
from fusion.integrations.units import Units
from fusion.stores import LogitStore

try:
    from monai.transforms import MapTransform
except ImportError as error:
    needs = "fusion.integrations.monai needs monai, which is not installed"
    raise InputError(f"{needs}; pip install monai") from error

FILE = "filename_or_obj"  # where MONAI's readers keep the name


def case_id(file: str | Path) -> str:
    """A case by its file's name: what stands before .nii.gz or the last suffix."""
    return Path(file).name.removesuffix(".gz").rpartition(".")[0] or Path(file).name


def lacking(items: Iterable[Mapping[str, Any]], path: str | Path, key: str = "image") -> list[Any]:
    """MONAI's list of dicts without the cases that a store has: what is left to predict.

    Args:
        items: dicts with a file under `key`.
        path: the store; one that is not there yet has none.
        key: where the file stands.
    """
    there = set(LogitStore(path).videos) if Path(path).exists() else set()
    return [item for item in items if case_id(item[key]) not in there]


class SaveLogitsd(MapTransform):
    """Commits a prediction [C, X, Y(, Z)] as a case of a store, at once, and passes it on.

    Put it behind Invertd (with nearest_interp=False), so that cases have their own grid again.

    Args:
        key: of the MetaTensor in the dict.
        path: the store.
        classes: C names in channel order.
        unit: function of the MetaTensor's meta dict: the case's id; default: its file's name.
        rows_first: whether arrays are [C, Y, X] or [C, Z, Y, X] already, not as MONAI reads them.
        store: more of `LogitWriter`: values, profile, model, provenance.

    Raises:
        InputError: no MetaTensor of a case, or numbers that cannot be kept; names the case.
    """

    def __init__(
        self,
        key: str,
        path: str | Path,
        classes: Iterable[str],
        *,
        unit: Callable[[Mapping[str, Any]], str] | None = None,
        rows_first: bool = False,
        **store: Any,
    ) -> None:
        super().__init__(key)
        self._units, self._unit = Units(path, tuple(classes), **store), unit
        self._rows_first = rows_first

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        key, where = str(self.keys[0]), self._units.path
        if key not in data:
            raise InputError(f"{where}: no {key!r} in the data, which hold {list(data)[:10]}")
        tensor, meta = data[key], getattr(data[key], "meta", {})
        if self._unit is None and not isinstance(meta.get(FILE), (str, Path)):
            problem = f"{key!r} is no MetaTensor of one case that names its file"
            raise InputError(f"{where}: {problem}; decollate the batch, or give unit=")
        unit = case_id(meta[FILE]) if self._unit is None else self._unit(meta)
        if tensor.ndim not in (3, 4):
            got = f"got {list(tensor.shape)}, give [C, X, Y] or [C, X, Y, Z]"
            raise InputError(f"{where}: case {unit!r}: {got}")
        array = rows_first(unit, tensor, meta, self._rows_first)
        ids = [unit] if array.ndim == 3 else slice_ids(array.shape[1])
        frames = array[None] if array.ndim == 3 else array.swapaxes(0, 1)
        self._units.add_whole(unit, ids, frames, geometry=place(tensor, meta))
        return dict(data)


class StoreHandler(SaveLogitsd):
    """The same for what an engine puts out: `StoreHandler(...).attach(evaluator)`.

    The engine decollates (MONAI's default), `key` is often "pred"; needs pytorch-ignite as engines
    do. Any function that is given an object with `.state.output` may call it as well.
    """

    def __call__(self, engine: Any) -> None:  # type: ignore[override]
        output = engine.state.output
        for item in output if isinstance(output, (list, tuple)) else [output]:
            super().__call__(item)

    def attach(self, engine: Any) -> None:
        """Calls this after each of the engine's iterations."""
        try:
            from ignite.engine import Events
        except ImportError as error:
            needs = "MONAI's engines need pytorch-ignite, which is not installed"
            raise InputError(f"{needs}; pip install pytorch-ignite") from error
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
