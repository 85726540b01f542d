"""`fusion.cache_predictions`: any network and any loop over batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import fusion
from fusion.errors import InputError, StoreConflictError
from fusion.integrations.batches import Batches
from tests.integrations.tools import CLASSES, Net, expected, pictures

IMAGES = pictures(10)
EXACT = {"classes": CLASSES, "profile": "exact"}


def clips(batch_size: int = 4) -> DataLoader:
    """Two clips of six and four frames, of sources of two sizes, as dicts."""
    names = [("a", t, (30, 40)) for t in range(6)] + [("b", t, (50, 60)) for t in range(4)]
    items = [
        {"image": image, "clip": clip, "time": time, "source": size}
        for image, (clip, time, size) in zip(IMAGES, names, strict=True)
    ]
    return DataLoader(items, batch_size)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.zarr"


def test_clips_of_dicts(path):
    net = Net()
    store = fusion.cache_predictions(
        net, clips(), path, unit="clip", frame="time", size="source", **EXACT
    )
    assert store.videos == ("a", "b")
    assert store.frames("a") == tuple("012345")
    assert [store.describe(clip).size for clip in "ab"] == [(30, 40), (50, 60)]
    read = np.concatenate([store.read("a"), store.read("b")])
    assert np.array_equal(read, expected(IMAGES))
    assert net.calls == [4, 4, 2]


def test_single_images_of_tuples(path):
    names = [f"street {n}.png" for n in range(10)]
    loader = DataLoader(list(zip(IMAGES, names, strict=True)), 3)
    store = fusion.cache_predictions(Net(), loader, path, unit=1, **EXACT)
    assert store.videos == tuple(sorted(names))
    assert store.frames("street 7.png") == ("street 7.png",)
    assert store.describe("street 7.png").size == (16, 24)  # as the network sees it
    assert np.array_equal(np.concatenate([store.read(name) for name in names]), expected(IMAGES))


def test_a_resumed_run_predicts_only_what_is_lacking(path):
    def ending():
        for number, batch in enumerate(clips(2)):
            if number == 4:  # in the middle of b
                raise KeyboardInterrupt
            yield batch

    keys = {"unit": "clip", "frame": "time", "size": "source"}
    with pytest.raises(KeyboardInterrupt):
        fusion.cache_predictions(Net(), ending(), path, **keys, **EXACT)
    assert fusion.LogitStore(path).videos == ("a",)
    net = Net()
    store = fusion.cache_predictions(net, clips(2), path, **keys, **EXACT)
    assert net.calls == [2, 2]
    assert np.array_equal(store.read("b"), expected(IMAGES[6:]))
    assert fusion.cache_predictions(net, clips(2), path, **keys, **EXACT).videos == ("a", "b")
    assert net.calls == [2, 2]


def test_a_batch_is_predicted_whole_so_that_bits_stay(path):
    keys = {"unit": "clip", "frame": "time", "size": "source"}
    fusion.cache_predictions(Net(), list(clips(6))[:1], path, **keys, **EXACT)  # a alone
    net = Net()
    fusion.cache_predictions(net, clips(4), path, **keys, **EXACT)  # the second batch holds both
    assert net.calls == [4, 2]


def test_other_frames_of_a_committed_unit_are_refused(path):
    keys = {"unit": "clip", "frame": "time", "size": "source"}
    fusion.cache_predictions(Net(), list(clips(3))[:1], path, **keys, **EXACT)  # half of a
    with pytest.raises(StoreConflictError, match="'a' is committed already with other content"):
        fusion.cache_predictions(Net(), clips(2), path, **keys, **EXACT)


def test_modes_come_back_part_by_part(path):
    net = Net().train()
    net.frozen.eval()
    fusion.cache_predictions(net, clips(), path, unit="clip", frame="time", size=(9, 9), **EXACT)
    assert net.training
    assert not net.frozen.training


def test_a_network_may_use_its_memory_again(path):
    memory, net = torch.zeros(4, 3, 4, 6), Net().eval()

    def reusing(images):
        return memory[: len(images)].copy_(net(images))

    keys = {"unit": "clip", "frame": "time", "size": "source"}
    store = fusion.cache_predictions(reusing, clips(), path, **keys, **EXACT)
    assert np.array_equal(store.read("a"), expected(IMAGES[:6]))


@pytest.mark.parametrize(
    ("wrap", "output"),
    [
        (lambda logits: (logits, "auxiliary"), None),
        (lambda logits: {"out": logits, "aux": logits[:, :1]}, None),
        (lambda logits: {"seg": logits, "logits": "other"}, "seg"),
        (lambda logits: {"stages": [logits[:, :1], logits]}, lambda found: found["stages"][-1]),
    ],
)
def test_outputs_of_many_kinds(path, wrap, output):
    net = Net().eval()
    store = fusion.cache_predictions(
        lambda images: wrap(net(images)), clips(), path, unit="clip", frame="time",
        size="source", output=output, **EXACT,
    )  # fmt: skip
    assert np.array_equal(store.read("a"), expected(IMAGES[:6]))


def test_autocast(path):
    seen = []

    def net(images):
        assert torch.is_inference_mode_enabled()
        seen.append((images @ images.mT).dtype)
        return images[..., ::4, ::4].bfloat16()

    store = fusion.cache_predictions(
        net, clips(), path, unit="clip", frame="time", amp=True, device="cpu", **EXACT
    )
    assert set(seen) == {torch.bfloat16}
    assert np.array_equal(store.read("a"), IMAGES[:6, :, ::4, ::4].bfloat16().half().float())


def refused(path, sentence: str, net=None, loader=None, **changes) -> None:
    keys = {"unit": "clip", "frame": "time", "size": "source", **EXACT, **changes}
    with pytest.raises(InputError, match=sentence):
        fusion.cache_predictions(net or Net(), loader or clips(), path, **keys)


def test_numbers_that_cannot_be_kept(path):
    def broken(images):
        logits = Net().eval()(images)
        logits[1, 2, 0, 0] = float("nan")
        return logits

    loader = clips(5)
    refused(path, r"video 'a', frame 1 \('1'\): 1 NaN or \+inf", broken, loader)
    assert fusion.LogitStore(path).videos == ()
    two = {"classes": ["sky", "road"]}
    refused(path.with_name("two.zarr"), r"video 'a'.* expected \[2, h, w\]", **two)


def test_keys_that_are_not_there(path):
    refused(path, r"unit: 'name' is not in a dict of \['image', 'clip', .*give a key", unit="name")
    refused(path, r"size of 'a', \.\.\.: got .*give 4 pairs \(height, width\)", size="time")
    refused(path, r"frame: a batch has 1 frame ids for 4", frame=lambda batch: "x")
    refused(path, r"unit: got 0\.5; give an id", unit=lambda batch: torch.full((4,), 0.5))
    refused(path, r"images: a batch holds a list.* give images=", images="clip")


def test_outputs_that_are_no_logits(path):
    refused(
        path, r"unit 'a', \.\.\.: the network returned a tensor \[2\]", lambda x: x[0, 0, 0, :2]
    )
    refused(path, r"a dict of \['masks'\]; say how output=", lambda x: {"masks": x})
    refused(path, r"returned a tensor \[3, 3, 16, 24\].*\[4, C, h, w\]", lambda x: x[:3])


def test_units_in_pieces(path):
    parts = [*list(clips(2)), next(iter(clips(2)))]
    refused(path, r"unit 'a': comes again after others, or twice; .*shuffle=False", loader=parts)
    assert fusion.LogitStore(path).videos == ("a", "b")


def test_sources_of_two_sizes_in_a_unit(path):
    refused(
        path,
        r"unit 'a': frames of images \(30, 40\) and \(50, 60\)",
        unit=lambda b: ["a"] * len(b["time"]),
    )


def test_whatever_a_network_raises_names_the_batch(path):
    def failing(images):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory") as caught:
        fusion.cache_predictions(failing, clips(), path, unit="clip", frame="time", **EXACT)
    assert caught.value.__notes__ == ["in the batch of unit 'a' to 'a'"]


@pytest.mark.parametrize(
    "given",
    [
        [torch.tensor([3, 5]), torch.tensor([4, 6])],  # as PyTorch collates pairs
        torch.tensor([[3, 4], [5, 6]]),
        [(3, 4), (5, 6)],
        np.array([[3, 4], [5, 6]]),
    ],
)
def test_sizes_of_many_kinds(given):
    batch = {"name": ["a", "b"], "size": given}
    read = Batches("name", size="size").sizes(batch, [("a", None), ("b", None)])
    assert read == [(3, 4), (5, 6)]
