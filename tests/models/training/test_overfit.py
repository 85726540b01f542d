"""--overfit: the sane run passes, and a network that cannot learn does not."""

from __future__ import annotations

import json

import pytest

from fusion import cli
from fusion.errors import InputError
from fusion.models import train
from fusion.models.data.augment import Augment
from fusion.models.training.distributed import World
from fusion.models.training.overfit import overfit
from tests.models.tools import CPU


@pytest.fixture
def sane(configure):
    # masks are of a few large regions, so a network of nothing but blobs can learn two of them
    return configure(augment={"crop": 64}, train={"learning_rate": 2e-2})


def test_a_few_images_are_learned(sane, tmp_path):
    found = overfit(sane, 2, CPU)
    assert found.learned
    assert found.losses[1] < 0.2 * found.losses[0]
    assert found.text().endswith("the network can learn them")
    assert not (tmp_path / "run").exists()


def test_a_rate_that_is_too_low(sane, configure):
    slow = configure(train={"learning_rate": 1e-9})
    found = overfit(slow, 3, CPU, most=11)
    assert (found.images, found.steps, found.learned) == (3, 11, False)
    assert "does not learn them; try another learning rate" in found.text()
    with pytest.raises(InputError, match=r"got 1 images in 1 processes; give train\.batch \(2\)"):
        overfit(sane, 1, CPU)
    with pytest.raises(InputError, match="in 2 processes"):
        overfit(sane, 8, World(0, 2, CPU.device))


@pytest.mark.parametrize("rate", ["2e-2", "1e-9"])
def test_the_command_says_so(vspw, tmp_path, capsys, monkeypatch, rate):
    monkeypatch.setattr("fusion.models.training.overfit.MOST_STEPS", 11)
    path = tmp_path / "run.toml"
    path.write_text(
        f'out = "run"\ndata.vspw = "{vspw}"\nnetwork = {{name = "plain", preset = "micro"}}\n'
        f"augment.crop = 32\ntrain = {{learning_rate = {rate}, warmup = 0}}\n"
    )
    code = cli.run(train.main, ["--config", str(path), "--overfit", "2", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert code == (0 if document["learned"] else 1)
    assert document["images"] == 2


def test_views_are_the_images_whatever_the_configuration_draws(configure, monkeypatch):
    """Nothing is drawn but where a crop lies: no colours, operations, mirrors or sizes."""
    given = configure(augment={"crop": 32, "photometric": True, "cat_max_ratio": 0.5})
    seen = []

    def stop(config, place, *, resume):
        seen.append(config.augment)
        raise InputError("seen")

    monkeypatch.setattr("fusion.models.training.overfit.Run", stop)
    with pytest.raises(InputError, match="seen"):
        overfit(given, 4, CPU)
    assert seen == [Augment(crop=32, scale=(1.0, 1.0), flip=0.0, colour=0.0)]
