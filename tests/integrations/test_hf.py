"""Hugging Face models, randomly initialised, over data sets, through the real processors."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import fusion
from fusion.errors import InputError, StoreConflictError
from fusion.integrations import hf
from fusion.models.networks.maskformer import MaskFormer
from tests.integrations.tools import halves

SHAPES = [(40, 60), (40, 60), (60, 40), (32, 50), (40, 60)]
NAMES = ["d", "a", "c", "b", "e"]


def images() -> list[Image.Image]:
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (*s, 3), dtype=np.uint8)) for s in SHAPES]


@pytest.fixture(scope="module")
def dataset():
    rows = {"image": images(), "name": NAMES}
    return datasets.Dataset.from_dict(
        rows, datasets.Features({"image": datasets.Image(), "name": datasets.Value("string")})
    )


@pytest.fixture(scope="module")
def segformer():
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], decoder_hidden_size=16,
        num_attention_heads=[1, 1, 2, 2], id2label={0: "sky", 1: "road", 2: "car"},
    )  # fmt: skip
    return transformers.SegformerForSemanticSegmentation(config).eval()


@pytest.fixture
def calls(segformer):
    """Shapes that the network is given."""
    found = []
    hook = segformer.register_forward_pre_hook(lambda _, given: found.append(given[0].shape))
    yield found
    hook.remove()


PROCESSOR = transformers.SegformerImageProcessorPil(size={"height": 64, "width": 96})


def segformer_logits(model) -> np.ndarray:
    with torch.inference_mode():
        pixels = PROCESSOR(images=images(), return_tensors="pt")["pixel_values"]
        return halves(torch.cat([model(batch).logits for batch in pixels.split(2)]))


def test_segformer(tmp_path, segformer, dataset):
    store = hf.cache(
        segformer, dataset, tmp_path / "segformer.zarr", processor=PROCESSOR, unit="name",
        batch_size=2, profile="exact",
    )  # fmt: skip
    assert store.classes == ("sky", "road", "car")
    assert store.videos == tuple("abcde")
    assert [store.describe(name).size for name in NAMES] == SHAPES
    read = np.concatenate([store.read(name) for name in NAMES])
    assert read.shape == (5, 3, 16, 24)
    assert np.array_equal(read, segformer_logits(segformer))


def test_plain_dicts_and_their_numbers(tmp_path, segformer):
    pixels = PROCESSOR(images=images(), return_tensors="pt")["pixel_values"]
    items = [
        {"pixel_values": one, "image": image} for one, image in zip(pixels, images(), strict=True)
    ]
    store = hf.cache(segformer, items, tmp_path / "s.zarr", batch_size=2, profile="exact")
    assert store.videos == ("00000", "00001", "00002", "00003", "00004")
    assert [store.describe(name).size for name in store.videos] == SHAPES
    read = np.concatenate([store.read(name) for name in store.videos])
    assert np.array_equal(read, segformer_logits(segformer))


def test_clips(tmp_path, segformer):
    items = [{"image": images()[0], "clip": f"{n // 2}", "time": n % 2} for n in range(4)]
    store = hf.cache(segformer, items, tmp_path / "s.zarr", processor=PROCESSOR, unit="clip",
                     frame=lambda item: f"{item['time']:03d}")  # fmt: skip
    assert {clip: store.frames(clip) for clip in store.videos} == {
        "0": ("000", "001"), "1": ("000", "001")
    }  # fmt: skip
    with pytest.raises(StoreConflictError, match="video '0' is committed already with other"):
        hf.cache(segformer, items, tmp_path / "s.zarr", processor=PROCESSOR, unit="clip",
                 frame=lambda item: f"other {item['time']}")  # fmt: skip


class Opened(list):
    """A data set that notes what is opened."""

    def __init__(self, rows, names):
        super().__init__(rows)
        self.column_names, self.opened, self.names = ["image", "name"], [], names

    def __getitem__(self, row):
        self.opened.append(row)
        return super().__getitem__(row)

    def select_columns(self, columns):
        assert columns == ["name"]
        return datasets.Dataset.from_dict({"name": self.names})


def test_resumed(tmp_path, segformer, calls):
    rows = [{"image": image, "name": name} for image, name in zip(images(), NAMES, strict=True)]
    broken = [*rows[:3], {"image": "no picture", "name": "b"}, rows[4]]
    options = {"processor": PROCESSOR, "unit": "name", "batch_size": 2, "profile": "exact"}
    with pytest.raises(InputError, match="unit 'b': its picture cannot be prepared"):
        hf.cache(segformer, broken, tmp_path / "s.zarr", **options)
    assert fusion.LogitStore(tmp_path / "s.zarr").videos == ("a", "d")
    calls.clear()
    watched = Opened(rows, NAMES)
    store = hf.cache(segformer, watched, tmp_path / "s.zarr", **options)
    assert [shape[0] for shape in calls] == [2, 1]
    assert watched.opened == [2, 3, 4]  # no committed picture
    read = np.concatenate([store.read(name) for name in NAMES])
    assert np.array_equal(read, segformer_logits(segformer))


def scores(model, pixels: torch.Tensor) -> np.ndarray:
    """The library's own sum of masks times classes, before it resizes and takes the best."""
    found = model(pixels)
    found.masks_queries_logits = torch.nn.functional.interpolate(
        found.masks_queries_logits, pixels.shape[-2:], mode="nearest"
    )
    classes = found.class_queries_logits.softmax(-1)[0, :, :-1]
    masks = found.masks_queries_logits.sigmoid()[0]
    return sum(c[:, None, None] * m for c, m in zip(classes, masks, strict=True)).detach().numpy()


@pytest.fixture(scope="module")
def mask2former():
    torch.manual_seed(0)
    sizes = {"hidden_dim": 32, "feature_size": 32, "mask_feature_size": 32, "num_queries": 5}
    swin = transformers.SwinConfig(
        embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.Mask2FormerConfig(
        backbone_config=swin, encoder_layers=1, decoder_layers=2, num_attention_heads=2,
        encoder_feedforward_dim=16, dim_feedforward=16, num_labels=4, **sizes,
    )  # fmt: skip
    return transformers.Mask2FormerForUniversalSegmentation(config).eval()


def test_mask2former(tmp_path, mask2former):
    processor = transformers.Mask2FormerImageProcessorPil(
        size={"shortest_edge": 64, "longest_edge": 128}
    )
    items = [{"image": image} for image in images()]
    path, options = tmp_path / "m.zarr", {"processor": processor, "profile": "exact"}
    normalised = hf.cache(mask2former, items, path, **options)
    assert normalised.values == "probabilities"
    plain = hf.cache(mask2former, items, tmp_path / "p.zarr", values="scores", **options)
    for name, image in zip(normalised.videos, images(), strict=True):
        pixels = processor(images=image, return_tensors="pt")["pixel_values"]
        wanted = scores(mask2former, pixels)[:, ::4, ::4]
        assert np.allclose(plain.read(name)[0], wanted, rtol=1e-3)
        read = np.exp(normalised.read(name)[0])
        assert np.allclose(read / read.sum(0), wanted / wanted.sum(0), rtol=5e-3)
        assert normalised.describe(name).size == image.size[::-1]


def test_maskformer_as_the_training_layer_has_it(tmp_path):
    torch.manual_seed(0)
    ours = MaskFormer(3, preset="micro").eval()
    pixels = torch.randn(2, 3, 64, 96)
    items = [{"pixel_values": one} for one in pixels]
    store = hf.cache(ours.model, items, tmp_path / "m.zarr", profile="exact")
    read = np.concatenate([store.read(name) for name in store.videos])
    with torch.inference_mode():
        assert np.array_equal(read, halves(ours.logits(pixels).log()))


def refused(sentence: str, model, items, path, **options) -> None:
    with pytest.raises(InputError, match=sentence):
        hf.cache(model, items, path, **{"processor": PROCESSOR, **options})


def test_what_cannot_be_cached(tmp_path, segformer, mask2former, dataset):
    path = tmp_path / "s.zarr"
    refused(r"dataset: no 'file' in its items, which hold \['image', 'name'\]",
            segformer, dataset, path, unit="file")  # fmt: skip
    refused("dataset: no 'picture' in its items", segformer, dataset, path, image="picture")
    refused("batch_size: got 0", segformer, dataset, path, batch_size=0)
    refused("frame: got frames of no unit", segformer, dataset, path, frame="name")
    refused(r"video '00000'.* expected \[2, h, w\]", segformer, dataset, tmp_path / "two.zarr",
            classes=["sky", "road"])  # fmt: skip
    cropping = transformers.MobileViTImageProcessorPil()
    refused("MobileViT.* crops pictures", segformer, dataset, path, processor=cropping)
    refused("values: got 'logits', but this model scores classes by its queries",
            mask2former, dataset, tmp_path / "m.zarr", values="logits")  # fmt: skip
    plain = transformers.ResNetForImageClassification(transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8], depths=[1], num_labels=3))  # fmt: skip
    refused(r"unit '00000'.*returned a tensor \[4, 3\]", plain, dataset, tmp_path / "r.zarr")
    assert fusion.LogitStore(path).videos == ()


def test_pictures_of_one_channel_or_with_a_palette_become_rgb(tmp_path, segformer):
    picture = images()[0].convert("L")
    same = [{"image": picture}, {"image": picture.convert("RGB")}, {"image": picture.convert("P")}]
    store = hf.cache(segformer, same, tmp_path / "s.zarr", processor=PROCESSOR)
    first, second, third = (store.codes(name) for name in store.videos)
    assert np.array_equal(first, second)
    assert np.array_equal(first, third)
