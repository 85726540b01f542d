"""`fuse`: one output of predictions in memory, image by image, on their own device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fusion.arguments import checked
from fusion.ensemble import Ensemble
from fusion.ensemble.channels import Thresholds, outcome_names, with_thresholds
from fusion.ensemble.factors import Multipliers, checked_multipliers, checked_weights
from fusion.ensemble.plan import make_plan
from fusion.ensemble.stream import Fusion
from fusion.errors import InputError
from fusion.kernels.numbers import TEMPERATURES, is_temperature
from fusion.search.result import SearchResult
from fusion.stores.codec import CHANNELS, kernel_numbers, to_numpy
from fusion.stores.format import VALUES
from fusion.stores.memory import as_array
from fusion.stores.video_writer import checked_size
from fusion.text import did_you_mean, listed

Predictions = Sequence[Any] | Mapping[str, Any]  # a model each: arrays or tensors
UNBOUNDED = 1 << 62  # bytes: arrays that are in memory were not too many


@checked
def fuse(
    predictions: Predictions,
    weights: Sequence[float] | Mapping[str, float] | SearchResult | Ensemble | None = None,
    *,
    values: str = "probabilities",
    labels: bool = False,
    groups: Sequence[Sequence[int]] | Mapping[str, Sequence[int | str]] | None = None,
    temperatures: Sequence[float] | Mapping[str, float] | None = None,
    multipliers: Multipliers = None,
    thresholds: Thresholds = None,
    size: tuple[int, int] | None = None,
) -> Any:
    """The weighted mean of predictions in memory, or its labels; as an ensemble of stores fuses.

    Args:
        predictions: M arrays or tensors [C, h, w] or [N, C, h, w], a list or name -> array. h and w
            may differ between models.
        weights: one number >= 0 for each group, in their order or by name; only ratios matter.
            Or what a search found, or an ensemble: its groups, weights, temperatures, multipliers
            and head, whose models have the predictions' names.
        values: "probabilities" (normalised, as stores do), "logits", "scores" (averaged as they
            are), or of independent channels "sigmoid-probabilities" or "sigmoid" logits.
        labels: label maps instead of probabilities.
        groups: indexes or names of the models of each group; models of a group are averaged in this
            order. Default: each model by itself.
        temperatures: M numbers above 0, or by name, that divide logits; default 1.
        multipliers: as `HierarchicalEnsemble` takes them.
        thresholds: as `HierarchicalEnsemble` takes them, of independent channels.
        size: (H, W) of the result; default the largest of the predictions'.

    Returns:
        Probabilities, float32 [N, C, H, W], or labels [N, H, W], uint8 (uint16 beyond 255 classes);
        of independent channels masks [N, C, H, W]; without N where the predictions have none. A
        tensor on their device where predictions are tensors, else a NumPy array.

    Raises:
        InputError: numbers that are no predictions, with count and first index, and all else that
            does not fit together.
    """
    images, single = _images(predictions, values)
    first = next(iter(images.values()))
    if isinstance(weights, SearchResult | Ensemble):
        beside = (groups, temperatures, multipliers, thresholds)
        if any(given is not None for given in beside):
            raise InputError("weights: a search's result says all the rest too; give it alone")
        recipe = _recipe_of(weights, images)
    else:
        members = _members(groups, list(images))
        factors = _factors(first, multipliers, thresholds)
        recipe = Fusion(
            {name: [images[model] for model in models] for name, models in members.items()},
            checked_weights(members, _by_name("weights", weights, list(members))),
            _temperatures(temperatures, images),
            factors,
            resize="probabilities",
            mean="arithmetic",
            head=None,
            device=first.device,
            channels=first.values in CHANNELS,
        )
    made = _fused(recipe, images, "labels" if labels else "probabilities", size)
    made = made[0] if single else made
    return made.to(first.array.device) if isinstance(first.array, Tensor) else made.numpy()


class _Images:
    """One model's predictions [N, C, h, w] as `Fusion` reads a store: one image, checked."""

    def __init__(self, name: str, array: Any, values: str) -> None:
        self.name, self.array, self.values = name, array, values
        self.kernel_values = "probabilities" if values == "scores" else "logits"
        self.stays = stays(array)
        self.device = array.device if self.stays else torch.device("cpu")

    def codes(self, video: str, frames: Sequence[str]) -> Tensor:
        (image,) = frames
        frame, classes = self.array[int(image)], self.array.shape[1]
        try:
            if not self.stays:
                numbers = kernel_numbers(to_numpy(frame), classes, self.values)
                return torch.from_numpy(numbers)[None]
            if not frame.dtype.is_floating_point:
                raise InputError(f"got {frame.dtype}; give floating-point logits")
            return kernel_numbers(frame.float(), classes, self.values, torch)[None]
        except InputError as error:
            raise InputError(f"prediction {self.name!r}, image {image}: {error}") from None


def stays(array: Any) -> bool:
    """Whether a tensor is checked where it lies, on a GPU: its logarithms are then the GPU's."""
    return isinstance(array, Tensor) and array.device.type == "cuda"


def named(predictions: Predictions, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Predictions by the names of their models."""
    if isinstance(predictions, Mapping):
        if names is not None:
            raise InputError("names: the predictions have theirs; give a list, or no names")
        named = {str(name): array for name, array in predictions.items()}
    elif isinstance(predictions, list | tuple):
        names = [str(m) for m in range(len(predictions))] if names is None else list(names)
        named = dict(zip(names, predictions, strict=False))
        if len(names) != len(predictions) or len(named) != len(names):
            got = f"{len(names)} names, {len(named)} different, of {len(predictions)} predictions"
            raise InputError(f"names: got {got}; give each a name of its own")
    else:
        got = f"a {type(predictions).__name__}"
        raise InputError(f"predictions: got {got}; give a list of arrays, one for each model")
    if not named:
        raise InputError("predictions: got none; give an array for each model")
    return named


def _images(predictions: Predictions, values: str) -> tuple[dict[str, _Images], bool]:
    """Predictions as [N, C, h, w] each, and whether they came without N."""
    if values not in VALUES:
        raise InputError(f"values: got {values!r}; choose one of {VALUES}")
    arrays = {name: as_array(array) for name, array in named(predictions).items()}
    axes = len(next(iter(arrays.values())).shape)
    known: tuple[int, ...] | None = None
    for name, array in arrays.items():
        shape = tuple(array.shape)
        if len(shape) != axes or len(shape) not in (3, 4) or 0 in shape:
            raise InputError(
                f"prediction {name!r}: got shape {list(shape)}; give [C, H, W] or [N, C, H, W]"
            )
        known = known or shape[:-2]
        if shape[:-2] != known:
            got = f"got {list(shape)}, {next(iter(arrays))!r} has {[*known, 'h', 'w']}"
            raise InputError(f"prediction {name!r}: {got}; give the same images and classes")
    if axes == 3:
        arrays = {name: array[None] for name, array in arrays.items()}
    images = {name: _Images(name, array, values) for name, array in arrays.items()}
    if len({image.device for image in images.values()}) > 1:
        where = listed({str(image.device) for image in images.values()})
        raise InputError(f"predictions: on devices {where}; bring them to one")
    return images, axes == 3


def _fused(
    recipe: Fusion, images: Mapping[str, _Images], output: str, size: tuple[int, int] | None
) -> Tensor:
    """One output of every image, [N, ...]."""
    shapes = [tuple(image.array.shape[1:]) for image in images.values()]
    whole = checked_size("result", size) or max((shape[1:] for shape in shapes), key=math.prod)
    how: dict[str, Any] = {"mean": recipe.mean, "channels": recipe.channels}
    items = [4] * len(shapes)
    plan = make_plan(shapes, items, len(recipe.groups), whole, (output,), UNBOUNDED, 1, **how)
    plan, number = replace(plan, frames=1), len(next(iter(images.values())).array)
    made: Tensor | None = None
    frames = [str(n) for n in range(number)]
    for place, (_, _, fused) in enumerate(recipe.bands("", frames, plan)):
        one = getattr(fused, output)
        if made is None:
            made = torch.empty((number, *one.shape), dtype=one.dtype, device=one.device)
        made[place] = one
    assert made is not None
    return made


def _recipe_of(found: SearchResult | Ensemble, images: Mapping[str, _Images]) -> Fusion:
    """How an ensemble fuses its models, over the predictions of their names."""
    ensemble = found if isinstance(found, Ensemble) else found.ensemble
    if ensemble is None:
        raise InputError("weights: this result has no ensemble; give its weights")
    models = {store: store.model for store in ensemble.stores}
    _check_names("weights", models.values(), images)
    first = next(iter(images.values()))
    number = len(ensemble.channels or ensemble.classes)
    if first.array.shape[1] != number or (first.values in CHANNELS) != bool(ensemble.channels):
        kind = "classes" if ensemble.channels is None else "independent channels"
        got = f"{first.array.shape[1]} of values {first.values!r}"
        raise InputError(f"predictions: got {got}; the ensemble has {number} {kind}")
    groups = {g: [images[models[s]] for s in stores] for g, stores in ensemble.groups.items()}
    known = zip(ensemble.stores, ensemble.temperatures, strict=True)
    temperatures = {images[models[store]]: t for store, t in known}
    how: dict[str, Any] = {"groups": groups, "temperatures": temperatures, "device": first.device}
    return replace(ensemble.recipe, **how)


def _members(groups: Any, names: Sequence[str]) -> dict[str, list[str]]:
    """The models of every group by name, in the order of their sum."""
    if groups is None:
        return {name: [name] for name in names}
    if not isinstance(groups, Mapping):
        groups = {str(g): group for g, group in enumerate(groups)}
    found = {
        str(name): [names[m] if isinstance(m, int) and 0 <= m < len(names) else m for m in group]
        for name, group in groups.items()
    }
    for name, models in found.items():
        _check_names(f"group {name!r}", models, names)
        if not models or len(set(models)) != len(models):
            raise InputError(f"group {name!r}: got {models}; give at least one model, each once")
    return found


def _check_names(where: str, wanted: Any, known: Any) -> None:
    if unknown := [name for name in wanted if name not in known]:
        near = did_you_mean(str(unknown[0]), known)
        raise InputError(f"{where}: {unknown[0]!r} is no prediction{near}")


def _by_name(what: str, numbers: Any, names: Sequence[str]) -> dict[str, float] | None:
    """Numbers in the order of the names, or some by name."""
    if numbers is None or isinstance(numbers, Mapping):
        return None if numbers is None else dict(numbers)
    listed_ = list(numbers) if hasattr(numbers, "__len__") else [numbers]
    if len(listed_) != len(names):
        raise InputError(f"{what}: got {len(listed_)}; give {len(names)}, of {listed(names)}")
    return dict(zip(names, listed_, strict=True))


def _temperatures(given: Any, images: Mapping[str, _Images]) -> dict[_Images, float]:
    named = _by_name("temperatures", given, list(images)) or {}
    _check_names("temperatures", named, images)
    try:
        found = {image: float(named.get(name, 1.0)) for name, image in images.items()}
    except (TypeError, ValueError) as error:
        raise InputError(f"temperatures: {error}; give a number per model") from error
    if not all(map(is_temperature, found.values())):
        raise InputError(f"temperatures: got {given!r:.80}; give numbers {TEMPERATURES}")
    return found


def _factors(
    images: _Images, multipliers: Multipliers, thresholds: Thresholds
) -> tuple[float, ...] | None:
    """Multipliers of the classes, or of both outcomes of every channel."""
    # predictions do not know what classes are called: mappings name them in their order
    names = tuple(map(str, range(images.array.shape[1])))
    if isinstance(thresholds, Mapping) and len(thresholds) == len(names):
        names = tuple(thresholds)
    independent = images.values in CHANNELS
    multipliers = with_thresholds(multipliers, thresholds, names if independent else None)
    names = outcome_names(names) if independent else names
    if isinstance(multipliers, Mapping) and len(multipliers) == len(names):
        names = tuple(multipliers)
    checked = checked_multipliers(multipliers, names)
    return None if checked is None else tuple(checked.values())
