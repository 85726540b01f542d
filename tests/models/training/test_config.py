"""Configurations: what fits, and one clear line for what does not."""

from __future__ import annotations

import re

import pytest

from fusion.errors import InputError, StoreError
from fusion.models.training import config

WHOLE = """
out = "runs/a"
data.vspw = "V"
network = {name = "plain", preset = "micro", start = "w.pt"}
[augment]
crop = 640
scale = [1, 2]
[swa]
cycles = 10
"""


def read(tmp_path, text):
    (tmp_path / "run.toml").write_text(text)
    return config.read(tmp_path / "run.toml")


def test_config_defaults_and_sections(tmp_path):
    found = read(tmp_path, WHOLE)
    assert found.out == str(tmp_path / "runs/a")
    assert found.data.vspw == str(tmp_path / "V")
    start, options = str(tmp_path / "w.pt"), {"preset": "micro"}
    assert found.network == config.NetworkChoice("plain", start=start, options=options)
    assert found.augment.scale == (1.0, 2.0)
    assert (found.swa.cycles, found.swa.every) == (10, 2000)  # section 2.2
    assert (found.loss.threshold, found.loss.min_kept, found.loss.tau) == (0.7, 200_000, 0.03)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("trian.steps = 1", "no section has no key 'trian'; did you mean 'train'?"),
        ("train.learning_rat = 1", "[train] has no key 'learning_rat'; did you mean 'learning_ra"),
        ("data.fold_sed = 1", "[data] has no key 'fold_sed'; did you mean 'fold_seed'?"),
        ('train.steps = "many"', "train.steps is 'many'; give a value of type int"),
        ("train.steps = true", "train.steps is True; give a value of type int"),
        ("train.steps = 0", "train: steps is 0; give 1 or more"),
        ("train.batch = 1", "train: batch is 1; give 2 images or more, which batch norm needs"),
        ("train.warmup = -1", "train: warmup is -1; give 0 or more"),
        ("train.learning_rate = nan", "learning_rate is nan; give a finite number above 0"),
        ("train.learning_rate = inf", "learning_rate is inf; give a finite number above 0"),
        ("train.clip = -1", "clip is -1.0; give 0 or more"),
        ("train.clip = nan", "clip is nan; give 0 or more"),
        ("loss.scale = 0", "loss: scale is 0.0; give a finite number above 0"),
        ("loss.tau = nan", "tau is nan; give a finite number, 0 or more"),
        ("loss.threshold = 2.0", "threshold is 2.0; give a number above 0, at most 1"),
        ("loss.head = 'tail'", "loss: head is 'tail'; give one of cosine, own"),
        ("loss.begin = 'there'", "loss: begin is 'there'; give one of teacher, random"),
        ("augment.scale = [1]", "augment.scale is [1]; give a list of 2 numbers"),
        ("augment.scale = [2, 1]", "scale is (2.0, 1.0); give two numbers, 0 < scale[0] <= sca"),
        ("augment.crop = 100", "augment: crop is 100; give a crop that is a multiple of 32"),
        ("augment.colour = 1", "colour is 1.0; give a number in 0..<1"),
        ("swa.lowest = 1.0", "swa: lowest is 1.0, highest 3e-05; give 0 < lowest <= highest"),
        ("swa.refresh = 0", "swa: refresh is 0; give 1 or more"),
        ("data = {folds = 3, fold = 3}", "data: fold is 3 of 3; folds count from 0"),
        ("train = 3", "[train] is 3; give a section of keys"),
        ("network = 3", "[network] is 3; give a section of keys"),
        ("seed = ", "is no TOML"),
    ],
)
def test_bad_configs(tmp_path, keys, message):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read(tmp_path, f'out = "a"\n{keys}')
    assert "run.toml" in str(caught.value)


def test_a_run_needs_a_folder(tmp_path):
    with pytest.raises(InputError, match="no 'out'"):
        read(tmp_path, "seed = 1")


def test_the_largest_values_that_fit(tmp_path):
    keys = "train = {clip = inf, power = inf}\nloss.threshold = 1\naugment = {flip = 1, crop = 32}"
    assert read(tmp_path, f'out = "a"\n{keys}').train.clip == float("inf")


def test_config_that_is_not_there(tmp_path):
    with pytest.raises(StoreError, match="cannot be read"):
        config.read(tmp_path / "run.toml")


def test_a_model_is_a_folder_beside_the_configuration_or_a_name(tmp_path):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    for model, expected in {
        "models/mine": str(tmp_path / "models" / "mine"),
        "nvidia/segformer-b0": "nvidia/segformer-b0",
    }.items():
        table = {"name": "huggingface", "model": model}
        document = {"out": "run", "network": table}
        assert config.parse(document, tmp_path).network.options == {"model": expected}
