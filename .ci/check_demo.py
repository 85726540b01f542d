"""Checks what `python -m fusion.search --demo` left in demo/: its numbers, not only that it
ended."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

import fusion

out = Path("demo")
found = json.loads((out / "search.json").read_text())
ensemble = fusion.HierarchicalEnsemble.load(out / "best.json")
val = ensemble.evaluate(fusion.Labels.folder(out / "labels" / "val"))
assert val.miou == found["result"]["miou"] == found["scores"]["val"]["miou"], (
    "best.json does not give the mIoU found"
)

test = fusion.HierarchicalEnsemble.load(out / "best.json", stores=out / "test").evaluate(
    fusion.Labels.folder(out / "labels" / "test")
)
assert test.miou == found["scores"]["test"]["miou"], "test mIoU of best.json is not the ladder's"

with open(out / "trials.csv") as file:
    trials = [
        (tuple(float(row[group]) for group in found["groups"]), float(row["miou"]))
        for row in csv.DictReader(file)
    ]
assert len(trials) >= 441, f"{len(trials)} trials, the grid's among them"
assert max(miou for _, miou in trials) == found["result"]["miou"]
some = [trials[k] for k in np.random.default_rng(0).choice(len(trials), 3, replace=False)]
for weights, miou in some:
    again = ensemble.with_weights(dict(zip(found["groups"], weights, strict=True))).evaluate(
        fusion.Labels.folder(out / "labels" / "val")
    )
    assert again.miou == miou, (
        f"weights {weights}: trials.csv says {miou}, predicting gives {again.miou}"
    )

names = [row["name"] for row in found["ladder"]]
assert names[0].startswith("best single: "), names
assert names[1].endswith("P_strong"), names
assert "uniform weights" in names, names
assert {name: len(models) for name, models in found["groups"].items()} == {
    "strong": 3,
    "weak": 8,
    "auxiliary": 6,
}
pictures = sorted((out / "pictures").glob("*.png"))
assert len(pictures) == 3
for picture in pictures:
    with Image.open(picture) as image:
        assert (image.mode, image.size) == ("P", (160, 120))
        assert len(np.unique(np.asarray(image))) > 1
print(f"demo checked: val mIoU {val.miou:.4f}, test mIoU {test.miou:.4f}, {len(trials)} trials")
