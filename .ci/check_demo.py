"""Checks what `python -m fusion.search --demo` left in demo/: its numbers, not only that it
ended, and that they say what the demo is there to show."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

import fusion

out = Path("demo")
found = json.loads((out / "search.json").read_text())
result, ladder = found["result"], {row["name"]: row for row in found["ladder"]}


def truth(split: str) -> fusion.Labels:
    return fusion.Labels.folder(out / "labels" / split)


def saved(name: str, split: str) -> float:
    """mIoU of a saved ensemble on a split."""
    ensemble = fusion.HierarchicalEnsemble.load(out / name, stores=out / split)
    return ensemble.evaluate(truth(split)).miou


val, test = (saved("best.json", split) for split in ("val", "test"))
assert val == result["miou"] == found["scores"]["val"]["miou"], (
    "best.json does not give the mIoU found"
)
assert test == found["scores"]["test"]["miou"], "test mIoU of best.json is not the ladder's"

assert {name: len(models) for name, models in found["groups"].items()} == {
    "strong": 2,
    "weak": 1,
    "auxiliary": 2,
}
stores = {
    name: [out / "val" / f"{model}.zarr" for model in models]
    for name, models in found["groups"].items()
}
ensemble = fusion.HierarchicalEnsemble(stores)
with open(out / "trials.csv") as file:
    trials = list(csv.DictReader(file))
assert len(trials) >= 441, f"{len(trials)} trials, the grid's among them"
boost = {name: f"multiplier of {name}" for name in ensemble.classes}
some = np.random.default_rng(0).choice(len(trials) - 1, 3, replace=False)
for trial in [*(trials[k] for k in some), trials[-1]]:  # the last has multipliers
    again = ensemble.with_weights({name: float(trial[name]) for name in stores})
    if trial.get(boost[ensemble.classes[0]]):
        again = again.with_multipliers({name: float(trial[key]) for name, key in boost.items()})
    miou = again.evaluate(truth("val")).miou
    assert miou == float(trial["miou"]), f"{trial}: predicting gives {miou}"

names = list(ladder)
assert names[0].startswith("best single: "), names
assert names[1].endswith("P_strong"), names
assert "uniform weights" in names, names
single = ladder[names[0]]
assert test > single["test"], f"on test the best single model has {single['test']}, fused {test}"
held = result["verdict"]["held_out"]["what was found"]
assert held < val, "held out, what was searched scores less than where it was searched"
low, high = result["prediction_interval"]
assert low < test < high, f"test {test} is outside {low} to {high}, where it was expected"

pictures = sorted((out / "pictures").glob("*.png"))
assert [picture.stem for picture in pictures] == ["helped", "hurt", "typical"]
for picture in pictures:
    with Image.open(picture) as image:
        assert image.mode == "RGB"
        assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 5
page = (out / "report.html").read_text(encoding="utf-8")
assert "<!-- segfusion report -->" in page, "report.html is no report"
assert result["verdict"]["sentence"].split(":")[0][1:] in page, "report.html lacks the verdict"
print(f"demo checked: val mIoU {val:.4f}, held out {held:.4f}, test {test:.4f}")
