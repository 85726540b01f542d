"""Components of stacks of slices: against scipy on whole volumes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from fusion.postprocess.components import Table, marks
from fusion.postprocess.small_components import SmallComponents
from tests.postprocess.volumes import (
    ORDER,
    run,
    structure,
)


@pytest.mark.parametrize("connectivity", ORDER)
def test_a_table_counts_what_scipy_counts(connectivity):
    """Noise at which components percolate: snakes that are joined late, over many slices."""
    draw = np.random.default_rng(connectivity)
    volume = (draw.random((20, 24, 24)) < 0.3).astype(np.uint8) * 2
    for block in [volume] if connectivity > 8 or connectivity == 6 else volume[:4, None]:
        table = Table(connectivity, contacts=True)
        for plane in block:
            table.add(marks(plane))
        found = table.finish()
        rows = np.stack([table.rows(z, marks(plane)) for z, plane in enumerate(block)])
        for label in (0, 2):
            ids, number = ndimage.label(block == label, structure(connectivity))
            mine = found.root[rows] * (block == label)
            pairs = {(int(a), int(b)) for a, b in zip(ids.ravel(), mine.ravel(), strict=True)}
            assert len(pairs - {(0, 0)}) == number
            assert len({b for _, b in pairs}) == len({a for a, _ in pairs})
            sizes = np.bincount(ids.ravel(), minlength=number + 1)
            assert all(found.size[b] == sizes[a] for a, b in pairs if a)


def test_contacts_are_summed_meanwhile(monkeypatch):
    from fusion.postprocess import components as module

    draw = np.random.default_rng(0)
    volume = draw.integers(0, 3, (12, 16, 16)).astype(np.uint8)
    operation = SmallComponents(pixels=30, dimensions=3, connectivity=6)
    expected = run(operation, volume)
    monkeypatch.setattr(module, "PENDING", 10)
    assert np.array_equal(run(operation, volume), expected)


def test_what_the_disk_refuses_is_said(monkeypatch, tmp_path):
    import tempfile

    from fusion.errors import StoreError

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(StoreError, match="nowhere"):
        run(SmallComponents(dimensions=3), np.zeros((2, 4, 4), np.uint8))
