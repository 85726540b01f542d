"""Three nnU-Net configurations that were run with --save_probabilities: 3D cases, Dice per case.

The folders are as nnU-Net v2 leaves them: <case>.npz with the key "probabilities" [C, Z, Y, X],
<case>.pkl of properties, dataset.json; labelsTr/<case>.nii.gz is the truth.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.doors import scenes

CASES, SHAPE = 6, (10, 24, 20)  # [Z, Y, X]
CONFIGURATIONS = {"2d": 2.6, "3d_lowres": 2.0, "3d_fullres": 1.5}
CLASSES = {"background": 0, "organ": 1, "tumour": 2}
AFFINE = np.array([[0.8, 0, 0, -40], [0, 0.8, 0, -30], [0, 0, 2.5, 10], [0, 0, 0, 1.0]])


def make(root: Path) -> None:
    import nibabel

    rng = np.random.default_rng(8)
    document = {"labels": CLASSES, "file_ending": ".nii.gz", "channel_names": {"0": "CT"}}
    for folder in ("labelsTr", *CONFIGURATIONS):
        (root / folder).mkdir(parents=True)
    for folder in (".", *CONFIGURATIONS):
        (root / folder / "dataset.json").write_text(json.dumps(document))
    for number in range(CASES):
        case, truth = f"case_{number:03d}", scenes.regions(rng, len(CLASSES), SHAPE)
        image = nibabel.Nifti1Image(truth.T, AFFINE)
        nibabel.save(image, root / "labelsTr" / f"{case}.nii.gz")
        for folder, noise in CONFIGURATIONS.items():
            probabilities = scenes.softmax(scenes.seen(rng, truth, len(CLASSES), noise))
            np.savez_compressed(root / folder / f"{case}.npz", probabilities=probabilities)
            nibabel.save(image, root / folder / f"{case}.nii.gz")
            properties = {
                "spacing": [2.5, 0.8, 0.8],
                "shape_before_cropping": SHAPE,
                "bbox_used_for_cropping": [[0, length] for length in SHAPE],
                "shape_after_cropping_and_before_resampling": SHAPE,
            }
            (root / folder / f"{case}.pkl").write_bytes(pickle.dumps(properties))


def use(root: Path) -> dict[str, Any]:
    import fusion
    from fusion.outputs import write
    from fusion.stores.importers import import_folder

    for folder in ("2d", "3d_lowres", "3d_fullres"):
        import_folder(root / folder, root / "cache" / f"{folder}.zarr")
    labels = fusion.Labels.open("auto", root)
    ensemble = fusion.HierarchicalEnsemble(root / "cache" / "*.zarr")
    found = ensemble.search(labels, "auto", objective="case-dice-nnunet")
    print(found)
    write(found.recommended, root / "out", "nifti")
    return {"found": found, "labels": labels, "ensemble": ensemble}
