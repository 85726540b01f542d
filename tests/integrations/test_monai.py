"""MONAI's readers, sliding window and transforms, up to the store.

`StoreHandler` is tested by what it asks of an engine (`state.output`, `add_event_handler`), because
pytorch-ignite, which engines need, is not a requirement of the tests.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.inferers import SlidingWindowInferer
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged
from PIL import Image

import fusion
from fusion.errors import InputError
from fusion.geometry import read_nifti
from fusion.integrations.metatensors import place
from fusion.integrations.monai import SaveLogitsd, StoreHandler, case_id, lacking
from tests.integrations.tools import CLASSES, halves

AFFINE = np.array([[-0.5, 0, 0, 3], [0, 0.7, 0, 4], [0, 0.1, 2.5, 5], [0, 0, 0, 1]])
SHAPE = (9, 8, 5)  # X, Y, Z
EXACT = {"classes": CLASSES, "profile": "exact"}


@pytest.fixture
def files(tmp_path):
    """Two volumes as NIfTI: MONAI's list of dicts."""
    draw = np.random.default_rng(0)
    found = []
    for name in ("case_1.nii.gz", "case_2.nii"):
        volume = draw.normal(size=SHAPE).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(volume, AFFINE), tmp_path / name)
        found.append({"image": str(tmp_path / name)})
    return found


class Net(torch.nn.Module):
    """[N, 1, X, Y, Z] to three classes of the voxel's own."""

    calls = 0

    def forward(self, volumes):
        type(self).calls += 1
        return torch.cat([volumes, volumes**2 - 1, -volumes], dim=1)


def loader(files) -> DataLoader:
    read = Compose([LoadImaged("image"), EnsureChannelFirstd("image")])
    return DataLoader(Dataset(files, read), batch_size=1)


def predict(files, save) -> None:
    net, window = Net(), SlidingWindowInferer(roi_size=(8, 8, 5), overlap=0.0)
    for batch in loader(files):
        batch["pred"] = window(batch["image"], net)
        for case in decollate_batch(batch):
            save(case)


def expected(file: str) -> np.ndarray:
    """[Z, C, Y, X] by way of this library's own reader."""
    volume = torch.from_numpy(read_nifti(Path(file)).array.copy())
    return halves(torch.stack([volume, volume**2 - 1, -volume], dim=1))


def test_volumes(files, tmp_path):
    save = SaveLogitsd("pred", tmp_path / "net.zarr", **EXACT)
    predict(files, save)
    store = fusion.LogitStore(tmp_path / "net.zarr")
    assert store.videos == ("case_1", "case_2")
    assert store.frames("case_1") == ("00000", "00001", "00002", "00003", "00004")
    assert store.describe("case_1").size == (8, 9)
    for case, item in zip(store.videos, files, strict=True):
        assert np.array_equal(store.read(case), expected(item["image"]))


def test_the_place_in_the_world_is_the_file_s(files):
    (batch, _) = loader(files)
    (case,) = decollate_batch(batch)
    wanted = read_nifti(Path(files[0]["image"])).geometry
    found = place(case["image"], case["image"].meta)
    assert found["kind"] == wanted["kind"]
    assert np.allclose(found["affine"], wanted["affine"], atol=1e-6)
    assert np.allclose(found["spacing"], wanted["spacing"], atol=1e-6)
    left = AFFINE * np.array([[-1], [-1], [1], [1]])  # what ITK's readers give, if asked to
    other = place(case["image"], {"affine": left, "space": "LPS"})
    assert np.allclose(other["affine"], wanted["affine"], atol=1e-6)


def test_only_what_is_lacking(files, tmp_path):
    path = tmp_path / "net.zarr"
    assert lacking(files, path) == files
    predict(files[:1], SaveLogitsd("pred", path, **EXACT))
    assert lacking(files, path) == files[1:]
    Net.calls = 0
    predict(lacking(files, path), SaveLogitsd("pred", path, **EXACT))
    assert Net.calls == 2  # windows of a case
    assert lacking(files, path) == []
    predict(files, SaveLogitsd("pred", path, **EXACT))  # what is there stays as it is
    assert fusion.LogitStore(path).videos == ("case_1", "case_2")


def test_pictures_are_rows_first(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 10), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "street.png")
    save = SaveLogitsd("image", tmp_path / "net.zarr", ["grey"], profile="exact", values="sigmoid")
    save(LoadImaged("image", ensure_channel_first=True)({"image": tmp_path / "street.png"}))
    store = fusion.LogitStore(tmp_path / "net.zarr")
    assert store.frames("street") == ("street",)
    assert np.array_equal(store.read("street")[0, 0], np.minimum(pixels, 24))  # logits up to 24
    turned = {"image": MetaTensor(torch.zeros(1, 6, 10), meta=save_meta(tmp_path))}
    with pytest.raises(InputError, match=r"6 rows and 10 columns; set rows_first=True"):
        save(turned)


def save_meta(folder) -> dict:
    return dict(LoadImaged("image")({"image": folder / "street.png"})["image"].meta)


def test_arrays_that_are_turned_already(tmp_path):
    volume, path = torch.randn(3, 5, 8, 9), tmp_path / "net.zarr"
    save = SaveLogitsd("pred", path, unit=lambda meta: "x", rows_first=True, **EXACT)
    save({"pred": volume})
    assert np.array_equal(fusion.LogitStore(path).read("x"), halves(volume.swapaxes(0, 1)))


class Engine:
    """What a handler sees of ignite's engine, and of MONAI's evaluators."""

    def __init__(self, outputs):
        self.outputs, self.handlers, self.state = outputs, [], SimpleNamespace(output=None)

    def add_event_handler(self, event, handler):
        self.handlers.append((str(event), handler))

    def run(self):
        for output in self.outputs:
            self.state.output = output
            for _, handler in self.handlers:
                handler(self)


def test_a_handler_of_an_engine(files, tmp_path):
    cases = []
    predict(files, cases.append)
    engine = Engine([[case] for case in cases])
    handler = StoreHandler("pred", tmp_path / "net.zarr", **EXACT)
    engine.add_event_handler("iteration completed", handler)
    engine.run()
    store = fusion.LogitStore(tmp_path / "net.zarr")
    assert np.array_equal(store.read("case_2"), expected(files[1]["image"]))


def test_a_handler_without_ignite_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ignite.engine", None)
    with pytest.raises(InputError, match="pip install pytorch-ignite"):
        StoreHandler("pred", tmp_path / "net.zarr", **EXACT).attach(Engine([]))


def test_what_cannot_be_saved(files, tmp_path):
    save = SaveLogitsd("pred", tmp_path / "net.zarr", **EXACT)
    meta = {"filename_or_obj": "case_1.nii.gz"}
    broken = MetaTensor(torch.zeros(3, *SHAPE), meta=meta)
    broken[1, 2, 3, 4] = torch.nan
    for data, sentence in [
        ({"image": broken}, r"net.zarr: no 'pred' in the data, which hold \['image'\]"),
        ({"pred": torch.zeros(3, *SHAPE)}, "'pred' is no MetaTensor of one case that names its"),
        ({"pred": broken}, r"video 'case_1', frame 4 .*1 NaN .* \[class, y, x\] = \[1, 3, 2\]"),
        ({"pred": MetaTensor(torch.zeros(2, *SHAPE), meta=meta | {"filename_or_obj": "b.nii"})},
         r"video 'b'.* expected \[3, h, w\]"),
        ({"pred": MetaTensor(torch.zeros(3, 9), meta=meta | {"filename_or_obj": "c.nii"})},
         r"case 'c': got \[3, 9\], give \[C, X, Y\] or \[C, X, Y, Z\]"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=sentence):
            save(data)
    assert fusion.LogitStore(tmp_path / "net.zarr").videos == ()


@pytest.mark.parametrize(
    ("file", "case"),
    [("a/BraTS.001.nii.gz", "BraTS.001"), ("b.nii", "b"), ("c.d.mha", "c.d"), ("plain", "plain")],
)
def test_cases_by_their_files(file, case):
    assert case_id(file) == case
