"""MMEngine's hook, against what its test loop does with one.

mmengine is not a requirement of the tests (MMSegmentation pins years-old libraries), so a stand-in
has its `Hook` and `HOOKS`, and `run` below calls the hook as `TestLoop.run` of mmengine 0.10 does:
before_test, after_test_iter with a list of data samples, after_test.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

import fusion
from fusion.errors import InputError
from tests.integrations.tools import CLASSES, Net, expected, pictures

IMAGES = pictures(6)


@pytest.fixture
def mmengine(monkeypatch):
    """fusion.integrations.mmengine over the stand-in."""
    hooks, registry = ModuleType("mmengine.hooks"), ModuleType("mmengine.registry")
    hooks.Hook = type("Hook", (), {})
    registry.HOOKS = SimpleNamespace(register_module=lambda: lambda kind: kind)
    monkeypatch.setitem(sys.modules, "mmengine", ModuleType("mmengine"))
    monkeypatch.setitem(sys.modules, "mmengine.hooks", hooks)
    monkeypatch.setitem(sys.modules, "mmengine.registry", registry)
    monkeypatch.delitem(sys.modules, "fusion.integrations.mmengine", raising=False)
    yield importlib.import_module("fusion.integrations.mmengine")
    sys.modules.pop("fusion.integrations.mmengine", None)


def sample(place: int, logits: torch.Tensor) -> SimpleNamespace:
    """A SegDataSample of MMSegmentation, with what a hook reads of it."""
    data = SimpleNamespace(data=logits)
    path = f"data/leftImg8bit/val/clip_{place // 3}/{place:06d}.png"
    return SimpleNamespace(img_path=path, ori_shape=(32, 48), seg_logits=data)


def run(hook, net=None, batches=3, metainfo=None) -> None:
    net = net or Net().eval()
    dataset = SimpleNamespace(metainfo={"classes": CLASSES} if metainfo is None else metainfo)
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset))
    runner = SimpleNamespace(test_loop=loop, model=net)
    hook.before_test(runner)
    for number in range(batches):
        places = range(2 * number, 2 * number + 2)
        with torch.no_grad():
            outputs = [sample(p, net(IMAGES[p : p + 1])[0]) for p in places]
        hook.after_test_iter(runner, batch_idx=number, data_batch={}, outputs=outputs)
    hook.after_test(runner)


def test_images(mmengine, tmp_path):
    run(mmengine.StoreHook(tmp_path / "net.zarr", profile="exact"))
    store = fusion.LogitStore(tmp_path / "net.zarr")
    assert store.classes == tuple(CLASSES)
    assert store.videos == tuple(f"{place:06d}" for place in range(6))
    assert store.describe("000004").size == (32, 48)
    assert np.array_equal(np.concatenate([store.read(v) for v in store.videos]), expected(IMAGES))


def test_clips(mmengine, tmp_path):
    hook = mmengine.StoreHook(
        tmp_path / "net.zarr",
        unit=lambda sample: sample.img_path.split("/")[-2],
        frame=lambda sample: sample.img_path.split("/")[-1],
        profile="exact",
    )
    run(hook)
    store = fusion.LogitStore(tmp_path / "net.zarr")
    assert store.frames("clip_1") == ("000003.png", "000004.png", "000005.png")
    assert np.array_equal(
        np.concatenate([store.read("clip_0"), store.read("clip_1")]), expected(IMAGES)
    )


def test_an_error_leaves_whole_units_and_the_next_run_goes_on(mmengine, tmp_path):
    class Failing(Net):
        def forward(self, images):
            if len(self.calls) == 5:
                raise RuntimeError("out of memory")
            return super().forward(images)

    options = {"unit": lambda s: s.img_path.split("/")[-2], "frame": lambda s: s.img_path}
    with pytest.raises(RuntimeError):
        run(mmengine.StoreHook(tmp_path / "net.zarr", **options), Failing().eval())
    assert fusion.LogitStore(tmp_path / "net.zarr").videos == ("clip_0",)
    run(mmengine.StoreHook(tmp_path / "net.zarr", **options))
    assert fusion.LogitStore(tmp_path / "net.zarr").videos == ("clip_0", "clip_1")


def test_what_cannot_be_written(mmengine, tmp_path):
    path = tmp_path / "net.zarr"
    with pytest.raises(InputError, match="metainfo names no classes; give StoreHook classes"):
        run(mmengine.StoreHook(path), metainfo={})
    with pytest.raises(InputError, match=r"video '000000'.* expected \[2, h, w\]"):
        run(mmengine.StoreHook(path, CLASSES[:2]))
    hook = mmengine.StoreHook(tmp_path / "other.zarr", CLASSES)
    hook.before_test(None)
    with pytest.raises(InputError, match=r"unit 'a': the data sample holds no seg_logits"):
        hook.after_test_iter(None, 0, outputs=[SimpleNamespace(img_path="a.png")])


@pytest.mark.parametrize("module", ["mmengine", "monai", "lightning"])
def test_without_the_library_it_says_what_to_install(module, monkeypatch):
    for name in (f"{module}.hooks", "monai.transforms", "lightning.pytorch.callbacks"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "pytorch_lightning.callbacks", None)
    monkeypatch.setitem(sys.modules, "mmengine", None)
    monkeypatch.delitem(sys.modules, f"fusion.integrations.{module}", raising=False)
    with pytest.raises(InputError, match=f"not installed; pip install {module}"):
        importlib.import_module(f"fusion.integrations.{module}")
