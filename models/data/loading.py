"""Batches of samples, read by this process or by workers; what goes wrong stays one sentence."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from fusion.cli import remark
from fusion.errors import FusionError
from fusion.models.data.samples import Samples

# images [N, 3, c, c], targets [N, c, c], and of a store that teaches probabilities [N, C, u, u]
Batch = tuple[Tensor, ...]


class _Told(Dataset[Any]):
    """Samples, or their errors, which lose their words where a worker raises them."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __getitem__(self, number: int) -> tuple[Any, list[str]]:
        """A sample or error, and what was said of files that were skipped for it."""
        try:
            sample: Any = self.samples[number]
        except FusionError as error:
            sample = error
        skipped, self.samples.damaged = self.samples.damaged, []
        return sample, skipped


def loaded(
    samples: Samples,
    numbers: Iterable[Sequence[int]],
    *,
    workers: int = 0,
    pin: bool = False,
    begin: Callable[[int], None] | None = None,
) -> Generator[Batch]:
    """The batches of these numbers, in turn; damaged files that were skipped are told on stderr.

    Args:
        samples: by number.
        numbers: of each batch.
        workers: processes that make them; 0 for this one. Bits do not depend on it.
        pin: memory that a GPU copies from while it computes.
        begin: what each worker does first, given its number.

    Raises:
        FusionError: what a sample raised, whichever process made it.
    """
    loader: DataLoader[Any] = DataLoader(
        _Told(samples),
        batch_sampler=numbers,  # type: ignore[arg-type]  # it asks for no length
        num_workers=workers,
        pin_memory=pin,
        collate_fn=_collated,
        worker_init_fn=begin,
    )
    read = iter(loader)
    damaged: set[str] = set()
    try:
        for batch, skipped in read:
            if isinstance(batch, FusionError):
                raise batch
            if skipped and not damaged:
                remark(f"warning: {skipped[0]}; skipped, as damaged = 'skip' says")
            damaged.update(skipped)
            yield batch
    finally:
        # workers that ignore signals end at once where they are told, not when they are collected
        getattr(read, "_shutdown_workers", lambda: None)()
        if len(damaged) > 1:
            remark(f"warning: images: {len(damaged)} damaged files were skipped")


def _collated(items: Sequence[tuple[Any, list[str]]]) -> tuple[Any, list[str]]:
    """The batch, or the first error, and what was said of skipped files."""
    samples, skipped = zip(*items, strict=True)
    error = next((one for one in samples if isinstance(one, FusionError)), None)
    return default_collate(list(samples)) if error is None else error, [
        s for n in skipped for s in n
    ]
