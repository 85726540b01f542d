"""Columns of Hugging Face data sets, saved and held, by the contract, and what is their own."""

from __future__ import annotations

import io
import pickle

import datasets
import pytest
from PIL import Image

from fusion.errors import InputError, StoreError
from fusion.labels import Labels
from tests.labels.contract import LayoutContract, maps


class TestHuggingFaceImages(LayoutContract):
    layout = "hf"
    options = {"unit_column": "clip", "frame_column": "time"}  # noqa: RUF012

    def dataset(self, data):
        rows = [(u, f, ids) for u, frames in data.items() for f, ids in frames.items()]
        columns = {"clip": [u for u, _, _ in rows], "time": [f for _, f, _ in rows]}
        columns["mask"] = [Image.fromarray(ids) for _, _, ids in rows]
        features = datasets.Features(
            clip=datasets.Value("string"), time=datasets.Value("string"), mask=datasets.Image()
        )
        return datasets.Dataset.from_dict(columns, features=features)

    def write(self, root, data):
        place = root / f"saved_{len(list(root.iterdir()))}"  # none is written over
        self.dataset(data).save_to_disk(place)
        return place


class TestHuggingFaceArrays(TestHuggingFaceImages):
    options = {**TestHuggingFaceImages.options, "column": "map"}  # noqa: RUF012

    def dataset(self, data):
        rows = [(u, f, ids) for u, frames in data.items() for f, ids in frames.items()]
        columns = {"clip": [u for u, _, _ in rows], "time": [f for _, f, _ in rows]}
        features = datasets.Features(
            clip=datasets.Value("string"),
            time=datasets.Value("string"),
            map=datasets.Array2D((6, 9), "uint8"),
        )
        columns["map"] = [ids for _, _, ids in rows]
        return datasets.Dataset.from_dict(columns, features=features)


class TestDataset(TestHuggingFaceImages):
    """One that Python holds."""

    recognised, in_memory = False, True

    def write(self, root, data):
        type(self).held = self.dataset(data)
        return root

    def open(self, root, **options):
        if not root.name.startswith("data"):
            raise StoreError(str(root))
        options = {**self.options, "column": "mask", **options}
        return Labels.from_dataset(self.held, **{k: v for k, v in options.items() if v})

    def test_what_is_not_there(self, root):
        with pytest.raises(InputError, match="column: got 'masq'; did you mean 'mask'"):
            self.open(root, column="masq")
        with pytest.raises(InputError, match=r"got a list; give a datasets\.Dataset"):
            Labels.from_dataset([])

    def test_digest_follows_the_data(self, root):
        digest, data = self.open(root).digest(), self.data()
        data["clip_2"]["f1"][3, 3] ^= 1
        self.write(root, data)
        assert digest != self.open(root).digest()


def test_data_sets_without_units(tmp_path):
    whole = datasets.Dataset.from_dict({"image": [1, 2], "label": [[[1, 2]], [[3, 4]]]})
    labels = Labels.from_dataset(whole)
    assert labels.videos == ("00000", "00001")
    assert labels.read("00001", "00001").tolist() == [[3, 4]]
    there = pickle.loads(pickle.dumps(labels))
    assert (there == labels, there.digest() == labels.digest()) == (True, True)
    datasets.DatasetDict(train=whole, validation=whole.select([0])).save_to_disk(tmp_path / "d")
    assert Labels.open("auto", tmp_path / "d").videos == ("00000",)
    assert len(Labels.open("hf", tmp_path / "d", "train").videos) == 2
    with pytest.raises(InputError, match="no split 'tran'; did you mean 'train'"):
        Labels.open("hf", tmp_path / "d", "tran")
    two = whole.add_column("mask", [[[1]], [[1]]])
    with pytest.raises(InputError, match="has 2 columns that may be masks"):
        Labels.from_dataset(two)
    same = whole.add_column("u", [7, 7]).add_column("f", [1, 1])
    with pytest.raises(InputError, match="unit '7' has 2 rows, 1 different frames"):
        Labels.from_dataset(same, "label", "u", frame_column="f")


def test_images_in_a_data_set_are_read_as_strictly_as_files():
    buffer = io.BytesIO()
    Image.fromarray(maps()).save(buffer, format="JPEG")
    features = datasets.Features(mask=datasets.Image())
    rows = {"mask": [{"bytes": buffer.getvalue(), "path": None}]}
    labels = Labels.from_dataset(datasets.Dataset.from_dict(rows, features=features))
    with pytest.raises(StoreError, match=r"mask\[0\] is no PNG; convert it"):
        labels.read("00000", "00000")
