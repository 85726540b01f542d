"""A Lightning module, its loader and trainer; as a program, both in two processes under DDP."""

from __future__ import annotations

import sys
from pathlib import Path

import lightning
from torch.utils.data import DataLoader

from fusion.integrations.lightning import StoreWriter
from tests.integrations.tools import CLASSES, Net, pictures

IMAGES = pictures(10)
NAMES = [f"image {n}" for n in range(10)]
EXACT = {"classes": CLASSES, "profile": "exact"}


class Module(lightning.LightningModule):
    def __init__(self, answer=lambda logits: logits):
        super().__init__()
        self.net, self.answer, self.batches = Net(), answer, []

    def predict_step(self, batch, batch_idx):
        self.batches.append(batch_idx)
        return self.answer(self.net(batch["image"]))


def loader(batch_size: int = 4, **more) -> DataLoader:
    items = [{"image": i, "name": n, **more} for i, n in zip(IMAGES, NAMES, strict=True)]
    return DataLoader(items, batch_size)


def trainer(*callbacks, **options) -> lightning.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return lightning.Trainer(
        accelerator="cpu", callbacks=list(callbacks), enable_model_summary=False, **quiet, **options
    )


def main(folder: Path) -> None:
    """images.zarr, written by both; error.txt, what came of a clip."""
    writer = StoreWriter(folder / "images.zarr", unit="name", **EXACT)
    two = {"devices": 2, "strategy": "ddp_fork"}
    trainer(writer, **two).predict(Module(), loader(), return_predictions=False)
    writer = StoreWriter(folder / "clips.zarr", unit="clip", frame="name", **EXACT)
    try:
        trainer(writer, **two).predict(Module(), loader(clip="a"), return_predictions=False)
    except Exception as error:  # of torch, with the traceback of a rank
        (folder / "error.txt").write_text(str(error))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
