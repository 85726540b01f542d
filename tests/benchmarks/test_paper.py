"""The paper in miniature runs, and its tables say what the stores say."""

from __future__ import annotations

import json

import pytest

import fusion
from benchmarks import paper

pytest.importorskip("transformers")
pytest.importorskip("scipy")


def test_tables_of_the_smallest_size(tmp_path, capsys):
    assert paper.main(["--size", "tiny", "--out", str(tmp_path), "--jobs", "1"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("`python -m benchmarks.paper --size tiny`")
    found = json.loads((tmp_path / "tables.json").read_text())
    assert [f"Table {k}" in printed for k in range(1, 6)] == [True] * 5
    assert (tmp_path / "tables.md").read_text().strip() in printed
    for split in paper.SPLITS:
        for name in ("swin_03_swa", "maskformer_adjusted", "swin_student"):
            truth = fusion.Labels.vspw(tmp_path / "scenes", split)
            scores = fusion.HierarchicalEnsemble(
                {"one": [tmp_path / split / f"{name}.zarr"]}
            ).evaluate(truth, scheduler="synchronous")
            assert found["models"][split][name] == scores.miou
    rows = found["tables"]["Table 2, weight averaging"]
    for column in (1, 3):
        before, after, gain = (float(rows[k][column].split()[0]) for k in (0, 1, 2))
        assert gain == pytest.approx(after - before, abs=0.011)
    assert rows[2][4] == "+0.83"
    assert fusion.LogitStore(tmp_path / "val" / "maskformer_01.zarr").values == "probabilities"


@pytest.mark.parametrize("size", ["cpu", "gpu"])
def test_the_roster_is_the_paper_s(size):
    members = paper.roster(paper.SIZES[size])
    for network, prefix in ((paper.SWIN, "swin"), (paper.MASKFORMER, "maskformer")):
        family = [
            member for member in members if member.network == network and member.name[-2:].isdigit()
        ]
        assert [member.name for member in family] == [f"{prefix}_{k:02d}" for k in range(1, 12)]
        documents = [
            paper.configuration(member, paper.SIZES[size], paper.Path("x")) for member in family
        ]
        for document in documents:
            paper.config.parse(document)
        assert (
            len({json.dumps({**document, "out": ""}, sort_keys=True) for document in documents})
            == 11
        )
    made = {""}
    for member in members:
        assert made.issuperset(paper.before(member).values()), member.name
        made.add(member.name)
    assert sorted(member.name for member in members if member.is_start) == [
        "maskformer_start",
        "swin_start",
    ]
    stores = {store for member in members for store in member.stores}
    assert (
        len(stores) == 22 + 2 + 2 + 2
    )  # the members, averaged, adjusted, distilled and its control
    assert {name for lines in paper.TABLES.values() for name, *_ in lines} <= stores
    assert set(paper.GAINS) | set(paper.GAINS.values()) <= stores
