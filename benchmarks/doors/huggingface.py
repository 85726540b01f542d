"""Two SegFormers of Hugging Face (randomly initialised): images into stores, stores into one label
map an image, and pseudo-labels where the ensemble is sure.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.doors import scenes

IMAGES, CLASSES = 6, ("background", "cat", "dog")
SURE = 0.4  # confidence from which a pixel becomes a pseudo-label


def make(root: Path) -> None:
    """images/<image>.png of different sizes."""
    rng = np.random.default_rng(8)
    (root / "images").mkdir(parents=True)
    for number in range(IMAGES):
        size = rng.integers(48, 96, 2)
        picture = (127 + 60 * scenes.fields(rng, 3, size)).clip(0, 255).astype(np.uint8)
        Image.fromarray(picture.transpose(1, 2, 0)).save(root / "images" / f"pet_{number}.png")


def networks() -> list[Any]:
    """Two tiny networks, each as `from_pretrained` would give it."""
    import torch
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.manual_seed(0)
    sizes = {"hidden_sizes": [8, 16, 24, 32], "depths": [1] * 4, "decoder_hidden_size": 16}
    names = {"id2label": dict(enumerate(CLASSES)), "num_attention_heads": [1, 2, 3, 4]}
    return [SegformerForSemanticSegmentation(SegformerConfig(**sizes, **names)) for _ in range(2)]


def use(root: Path) -> dict[str, Any]:
    from transformers import SegformerImageProcessorPil

    import fusion
    from fusion.integrations import hf
    from fusion.outputs import write

    images = [
        {"id": path.stem, "image": Image.open(path).convert("RGB")}
        for path in sorted(root.glob("images/*"))
    ]
    processor = SegformerImageProcessorPil(size={"height": 64, "width": 64})
    for number, network in enumerate(networks()):
        path = root / "cache" / f"segformer_{number}.zarr"
        hf.cache(network, images, path, processor=processor, unit="id")
    ensemble = fusion.HierarchicalEnsemble(root / "cache" / "*.zarr")
    write(ensemble, root / "labels")
    for image in ensemble.videos:
        fused = ensemble.predict_proba(image)[0]
        sure = np.where(fused.max(axis=0) >= SURE, fused.argmax(axis=0), 255).astype(np.uint8)
        fusion.labels.write_labels(root / "pseudo" / f"{image}.png", sure)
    return {"ensemble": ensemble}
