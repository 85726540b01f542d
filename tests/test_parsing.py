"""JSON and TOML of anybody: what Python's readers give, or ValueError and nothing else."""

from __future__ import annotations

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import InputError
from fusion.parsing import DEEPEST, LARGEST, parse_json, parse_toml
from fusion.stores import LogitWriter

NUMBERS = st.integers(-LARGEST, LARGEST) | st.floats(allow_nan=False)
PLAIN = st.none() | st.booleans() | NUMBERS | st.text()
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(VALUES)
def test_what_python_reads_is_read(value):
    text = json.dumps(value)
    assert parse_json(text) == json.loads(text)
    assert parse_json(text.encode()) == json.loads(text)


@pytest.mark.parametrize("levels", [DEEPEST, DEEPEST + 1, 900, 100_000])
def test_levels(levels):
    text, table = "[" * levels + "]" * levels, f"a = {'[' * (levels - 1)}{']' * (levels - 1)}"
    if levels == DEEPEST:
        assert parse_json(text) == json.loads(text)
        assert parse_toml(table) == tomllib.loads(table)
        return
    for read, given_text in ((parse_json, text), (parse_toml, table)):
        with pytest.raises(ValueError, match=f"nested deeper than {DEEPEST}"):
            read(given_text)


@pytest.mark.parametrize("number", ["9" * 20, "9" * 300, "9" * 5000, "18446744073709551616"])
def test_numbers_that_fit_nowhere(number):
    for read, text in ((parse_json, f'{{"a": [{number}]}}'), (parse_toml, f"a = {number}")):
        with pytest.raises(ValueError, match=r"whole number|limit"):
            read(text)
    assert parse_json(str(LARGEST)) == LARGEST
    assert parse_json(f'["{number}"]') == [number]  # text is no number


@pytest.mark.parametrize("number", [f"0x{'f' * 17}", f"0b{'1' * 70}", "1_" * 20 + "1"])
def test_numbers_of_toml(number):
    with pytest.raises(ValueError, match="whole number"):
        parse_toml(f"a = {number}")


def test_objects_may_be_looked_at():
    assert parse_json('{"a": 1, "a": 2}', pairs=list) == [("a", 1), ("a", 2)]


def test_what_no_reader_takes_is_not_written(tmp_path):
    """A store's provenance and geometry, which stand inside its documents."""
    deep: object = 1
    for _ in range(DEEPEST - 1):
        deep = {"in": deep}
    with pytest.raises(InputError, match="provenance: not JSON"):
        LogitWriter(tmp_path / "s.zarr", ["a", "b"], provenance=deep)
    with (
        LogitWriter(tmp_path / "s.zarr", ["a", "b"]) as writer,
        pytest.raises(InputError, match="geometry: not JSON"),
        writer.video("v", frames=["0"], geometry=deep),
    ):
        pass
