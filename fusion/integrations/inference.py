"""One network over many batches: what is committed is passed by, all else is predicted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from fusion.device import chosen
from fusion.integrations.batches import Batches, Names, lacking
from fusion.integrations.units import Units
from fusion.progress import progress


def fill(
    net: Callable[[Tensor], Any],
    loader: Iterable[Any],
    units: Units,
    batches: Batches,
    *,
    device: str | None = None,
    amp: bool | torch.dtype = False,
) -> None:
    """Adds predictions of a loader's batches to `units`; for arguments see `cache_predictions`."""
    place = None if device is None else chosen(device)
    if isinstance(net, nn.Module):
        net = net if place is None else net.to(place)
        place = next((weight.device for weight in net.parameters()), place)
    total = len(loader) if isinstance(loader, Sized) else None
    with _evaluating(net):
        for batch in progress(loader, units.path.stem, total, unit="batch"):
            names, found = batches.names(batch), None
            if lacking(names, units):
                with _naming(names):
                    found = _predicted(net, batches.images_of(batch), place, amp)
            batches.add(batch, names, found, units)


def _predicted(
    net: Callable[[Tensor], Any],
    images: Tensor,
    place: torch.device | None,
    amp: bool | torch.dtype,
) -> Any:
    images = images if place is None else images.to(place, non_blocking=True)
    how: Any = {} if isinstance(amp, bool) else {"dtype": amp}
    cast = torch.autocast(images.device.type, **how) if amp else nullcontext()
    with torch.inference_mode(), cast:
        return net(images)


@contextmanager
def _evaluating(net: Any) -> Iterator[None]:
    """Eval mode; afterwards each part is in its own again, also those frozen inside a network."""
    modes = [(part, part.training) for part in net.modules()] if isinstance(net, nn.Module) else []
    if modes:
        net.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def _naming(names: Names) -> Iterator[None]:
    """Whatever a network raises says at which units."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in the batch of unit {names[0][0]!r} to {names[-1][0]!r}")
        raise
