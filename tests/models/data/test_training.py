"""What [data] and [augment] say, in runs, and what a continuation may say otherwise."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from fusion.errors import InputError
from fusion.models.data.augment import Augment
from fusion.models.training import checkpoint, config
from fusion.models.training.run import Run, train
from tests.models.tools import CPU, same_weights


def test_the_crop_that_images_decide_is_the_run_s(configure, capsys):
    """Written into its checkpoint, so that one with the number goes on."""
    options = configure(augment={"crop": 0}, train={"steps": 1})
    final = train(options, "cpu")
    assert "augment: crop is 64, for images of 64x96" in capsys.readouterr().err
    _, document = checkpoint.load(final)
    assert document["config"]["augment"]["crop"] == 64
    said = replace(options, augment=replace(options.augment, crop=64))
    assert Run(said, CPU).step == 1
    with pytest.raises(InputError, match=r"augment\.crop = 64 there, 32 here"):
        Run(replace(options, augment=replace(options.augment, crop=32)), CPU)


def test_earlier_configurations_say_what_they_said():
    """Keys that came later are not in documents; checkpoints without them are the same run's."""
    document = config.parse({"out": "a", "augment": {"crop": 480}}).to_json()
    known = {"crop", "scale", "flip", "colour", "operations"}
    assert document["augment"].keys() == known
    places = {"vspw", "split", "images", "labels", "classes"}
    assert document["data"].keys() == places | {"folds", "fold", "fold_seed"}
    earlier = {**document, "augment": {k: v for k, v in document["augment"].items() if v != {}}}
    assert checkpoint.difference(earlier, document) is None


def test_a_run_goes_on_where_its_data_were_moved(configure, vspw, tmp_path):
    """A continuation reads the same samples by another key, from another place."""
    train(configure(train={"steps": 2}), "cpu")
    shutil.copytree(vspw, tmp_path / "moved")
    options = configure(train={"steps": 2})
    moved = replace(options.data, vspw="", root=str(tmp_path / "moved"), split="train")
    assert Run(replace(options, data=moved), CPU).step == 2
    with pytest.raises(InputError, match=r"data\.every = 1 there, 2 here"):
        Run(replace(options, data=replace(options.data, every=2)), CPU)


def test_sampling_is_resumed(configure):
    """Balance, spread frames and kornia: a run of two parts ends in the bits of one of one."""
    pytest.importorskip("kornia")
    noise = {"RandomGaussianNoise": {"std": 0.1, "p": 1.0}}
    keys = {
        "data": {"balance": 0.5, "frames_per_video": 2},
        "augment": {"photometric": True, "cat_max_ratio": 0.75, "operations": noise},
    }
    whole = train(configure("whole", **keys), "cpu")
    part = Run(configure("part", **keys), CPU)
    part.network.train()
    batches = part.batches(0, 4)
    for _ in range(2):
        part.update([next(batches)])
        part.step += 1
    part._keep()
    assert same_weights(train(configure("part", **keys, train={"workers": 1}), "cpu"), whole)


def test_a_class_map_is_a_name_or_a_path(tmp_path):
    def found(name: str) -> str:
        document = {"out": "a", "data": {"images": "i", "labels": "l", "class_map": name}}
        return config.parse(document, tmp_path).data.class_map

    assert found("voc") == "voc"
    assert found("maps/own.json") == str(tmp_path / "maps" / "own.json")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"data": {"fold": 2}}, "data: fold is 2 and folds 0, .*; give folds, or leave fold out"),
        ({"data": {"fold_seed": 2}}, "fold_seed is 2 and folds 0"),
        ({"data": {"damaged": "ignore"}}, "data: damaged is 'ignore'; give one of error, skip"),
        ({"data": {"balance": 1.5}}, "balance is 1.5; give a share of frames in 0..1"),
        ({"data": {"every": 0}}, "every is 0; give 1 or more"),
        ({"augment": {"cat_max_ratio": 0.0}}, "cat_max_ratio is 0.0; give a share of pixels"),
        ({"augment": {"operations": 3}}, "augment.operations is 3; give a table of keys"),
    ],
)
def test_values_that_no_key_has(section, message):
    with pytest.raises(InputError, match=message):
        config.parse({"out": "a", **section})


def test_operations_are_found_wrong_before_the_first_step(configure):
    pytest.importorskip("kornia")
    assert Augment().operations == {}
    with pytest.raises(InputError, match="no 'Blur' among kornia's"):
        Run(configure(augment={"operations": {"Blur": {}}}), CPU)
