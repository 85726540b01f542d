"""What people have gets in: every door, its lines counted, its results checked by other means."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
import rasterio
from PIL import Image

from benchmarks.doors import arrays, binary, cityscapes, huggingface, rasters, volumes
from benchmarks.doors.__main__ import DOORS, door, glue
from fusion.metrics import OBJECTIVES

MOST_LINES = 12
FEW = 7  # images: too few for heads, whose training takes its time


def dice(truth: np.ndarray, predicted: np.ndarray) -> float:
    both = truth.sum() + predicted.sum()
    return 2 * (truth & predicted).sum() / both if both else float("nan")


def mean_iou(pairs: list[tuple[np.ndarray, np.ndarray]], void: int) -> float:
    """Over the values that the truth has, of (truth, predicted)."""
    truth, made = (np.concatenate([pair[k].ravel() for pair in pairs]) for k in (0, 1))
    made, truth = made[truth != void], truth[truth != void]
    found = []
    for value in np.unique(truth):
        one, other = truth == value, made == value
        found.append((one & other).sum() / (one | other).sum())
    return float(np.mean(found))


def found_miou(folder) -> float:
    return json.loads((folder / "results" / "search.json").read_text())["result"]["miou"]


@pytest.mark.parametrize("name", DOORS)
def test_a_door_is_a_few_lines(name):
    assert 0 < glue(door(name)) <= MOST_LINES


def test_binary_masks_of_many_sizes(tmp_path):
    binary.make(tmp_path, images=24)
    made = binary.use(tmp_path)
    found = made["found"]
    assert found.ensemble.channels == ("lesion",)
    assert 0 < found.ensemble.thresholds["lesion"] < 1
    scores, sizes = [], set()
    for path in sorted((tmp_path / "masks").iterdir()):
        truth = np.asarray(Image.open(path)) == 255
        written = np.asarray(Image.open(tmp_path / "out" / path.name))
        assert set(np.unique(written)) <= {0, 255}
        assert written.shape == truth.shape
        sizes.add(truth.shape)
        if truth.any():
            scores.append(dice(truth, written == 255))
    assert len(sizes) > 20
    assert found.miou == pytest.approx(np.mean(scores), abs=1e-12)


def test_volumes_of_three_configurations(tmp_path):
    volumes.make(tmp_path)
    made = volumes.use(tmp_path)
    per_class = []
    for label in volumes.CLASSES.values():
        cases = []
        for path in sorted((tmp_path / "labelsTr").iterdir()):
            truth, written = nibabel.load(path), nibabel.load(tmp_path / "out" / path.name)
            assert np.allclose(written.affine, volumes.AFFINE)
            one, other = (np.asarray(image.dataobj) == label for image in (truth, written))
            cases.append(dice(one, other))
        per_class.append(np.mean(cases))
    recommended = made["found"].recommended.evaluate(made["labels"], convention="case-dice-nnunet")
    assert recommended.score == pytest.approx(np.mean(per_class), abs=1e-12)


def test_rasters_in_colours(tmp_path):
    rasters.make(tmp_path, tiles=FEW)
    outputs = rasters.use(tmp_path)["outputs"]
    assert f"{FEW} label maps written" in outputs[-1]
    pairs, weights = [], np.array([1 << 16, 1 << 8, 1])
    for path in sorted((tmp_path / "labels").iterdir()):
        with rasterio.open(path) as truth, rasterio.open(tmp_path / "maps" / path.name) as made:
            assert made.crs == truth.crs
            assert made.transform == truth.transform
            bands = [file.read().astype(np.int64) for file in (truth, made)]
        pairs.append(tuple(np.tensordot(weights, each, 1) for each in bands))
    assert found_miou(tmp_path) == pytest.approx(mean_iou(pairs, void=0), abs=1e-12)


def test_cityscapes_by_its_own_names(tmp_path):
    cityscapes.make(tmp_path, {"lindau": FEW})
    cityscapes.use(tmp_path)
    pairs = []
    for path in sorted((tmp_path / "gtFine").rglob("*.png")):
        name = path.name.removesuffix("_gtFine_labelIds.png")
        made = np.asarray(Image.open(tmp_path / "maps" / f"{name}.png"))
        assert set(np.unique(made)) <= set(cityscapes.TRAIN_IDS)
        pairs.append((np.asarray(Image.open(path)), made))
    assert found_miou(tmp_path) == pytest.approx(mean_iou(pairs, void=1), abs=1e-12)


def test_a_segformer_to_pseudo_labels(tmp_path):
    huggingface.make(tmp_path)
    ensemble = huggingface.use(tmp_path)["ensemble"]
    for image in ensemble.videos:
        picture = np.asarray(Image.open(tmp_path / "images" / f"{image}.png"))
        fused = np.asarray(Image.open(tmp_path / "labels" / f"{image}.png"))
        pseudo = np.asarray(Image.open(tmp_path / "pseudo" / f"{image}.png"))
        assert fused.shape == pseudo.shape == picture.shape[:2]
        sure = pseudo != 255
        assert np.array_equal(fused[sure], pseudo[sure])


def test_arrays_in_memory(tmp_path, monkeypatch):
    monkeypatch.delenv("SEGFUSION_DATA", raising=False)
    arrays.make(tmp_path, images=FEW)
    made = arrays.use(tmp_path)
    found, fused, labels = made["found"], made["fused"], made["labels"]
    inter, union = [], []
    for c in range(arrays.CLASSES):
        inter.append(((labels == c) & (fused == c)).sum())
        union.append(((labels == c) | (fused == c)).sum())
    assert found.miou == pytest.approx(np.mean(np.array(inter) / union), abs=1e-12)
    assert OBJECTIVES["vspw"].name == found.convention
