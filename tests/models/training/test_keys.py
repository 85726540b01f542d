"""The keys of a configuration as people read them: all of them, and what is printed parses."""

from __future__ import annotations

import dataclasses

import pytest

from fusion import cli
from fusion.models import train
from fusion.models.section import Section, meanings, summary
from fusion.models.training import config, keys
from fusion.parsing import parse_toml


def test_the_example_parses(capsys, tmp_path):
    assert cli.run(train.main, ["--example"]) == 0
    path = tmp_path / "run.toml"
    path.write_text(capsys.readouterr().out)
    found = config.read(path)
    assert found.network == config.NetworkChoice("plain", options={"preset": "tiny"})
    assert (found.train.steps, found.val.every, found.data.folds) == (20_000, 1000, 5)
    assert found.out == str(tmp_path / "runs/first")


def test_so_does_every_comment_that_is_a_key():
    """Uncommented, the example says every default."""
    lines = keys.example().splitlines()
    names = {name for kind in KINDS for name in (key.name for key in dataclasses.fields(kind))}
    plain = [line[2:] if line[2:].partition(" = ")[0] in names else line for line in lines]
    document = parse_toml("\n".join(plain))
    document["network"].pop("preset")
    found = config.parse(document)
    assert (found.augment.scale, found.train.log) == ((0.5, 2.0), ("csv",))
    assert found.swa == config.Swa()


KINDS = (config.Config, config.Train, config.Swa, config.Val)


def test_help_has_every_key_with_its_default():
    text = keys.reference()
    document = parse_toml(text)
    for name, section in document.items():
        if isinstance(section, dict):
            kind = type(getattr(config.Config(out=""), name))
            named = {key.name for key in dataclasses.fields(kind)} - {"options"}
            assert set(section) == named
    assert document["train"]["learning_rate"] == 6e-5
    assert document["swa"]["rate"] == "cyclical"
    assert "(one of poly, cosine)" in text


@pytest.mark.parametrize("kind", [config.Train, config.Swa])
def test_every_key_says_what_it_means(kind):
    assert [key for key, meaning in meanings(kind).items() if not meaning] == []
    assert summary(kind)


def test_meanings_of_a_docstring():
    @dataclasses.dataclass(frozen=True)
    class Base(Section):
        """What is below. apart: no key.

        height, width: of it, in
        pixels. scale: e.g. 2: twice.
        """

        height: int = 1
        width: int = 1
        scale: int = 1
        other: int = 1

    @dataclasses.dataclass(frozen=True)
    class Child(Base):
        """width: another."""

    size = "of it, in pixels"
    expected = {"height": size, "width": size, "scale": "e.g. 2: twice", "other": ""}
    assert meanings(Base) == expected
    assert meanings(Child) == {**expected, "width": "another"}
    assert (summary(Base), summary(Child)) == ("What is below. apart: no key.", "")


def test_a_configuration_is_needed(capsys):
    assert cli.run(train.main, []) == 2
    assert "give --config FILE; --example prints one" in capsys.readouterr().err
