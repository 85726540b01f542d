"""Every public function with a wrong kind, shape, size and value of every argument."""

from __future__ import annotations

import gc
import inspect
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

import fusion
from fusion import arguments
from fusion.arguments import checked
from fusion.errors import FusionError, InputError, KindError
from tests.faults.doors import NEVER, call, methods, numbers, rooms, wrong


def outcome(door, name="", value=None):
    """ "held", "taken", or what is wrong with the answer."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks about values that are odd and allowed
            call(door, **({name: value} if name else {}))
    except FusionError as error:
        text = str(error)
        return "held" if text.strip() else "an error without a word"
    except Exception as error:
        return "held" if name in door.free else f"{type(error).__name__}: {error}"
    return "taken"


@pytest.mark.parametrize("room", [rooms, numbers, methods])
def test_one_error_of_ours_whatever_is_wrong(world, room):
    problems, tried = [], 0
    for title, door in room(world).items():
        assert outcome(door) == ("held" if door.refuses else "taken"), title
        for name, what, value in wrong(door):
            tried += 1
            found = outcome(door, name, value)
            if found == "taken" and (what not in NEVER or name in door.free):
                continue
            if found != "held":
                problems.append(f"{title}({name}={what}): {found}")
    assert not problems, "\n".join(problems[:40])
    assert tried > 1000


def test_every_public_name_is_tried(world):
    known = rooms(world) | numbers(world) | methods(world)
    for name in fusion.__all__:
        made = getattr(fusion, name)
        error = inspect.isclass(made) and issubclass(made, BaseException)
        if callable(made) and not error and name not in ("SearchResult", "Labels"):
            assert name in known, f"{name}: give it a row in doors.py"
    assert {"Labels.folder", "Labels.open", "SearchResult.interval"} <= set(known)


@checked
def something(
    name: str,
    many: Sequence[str] | None = None,
    *,
    number: int = 1,
    share: float = 0.5,
    size: tuple[int, int] = (1, 2),
    weights: Mapping[str, float] | None = None,
    path: str | Path = "x",
) -> str:
    return name


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": 1}, "name: got 1 (int); give a str"),
        ({"many": "abc"}, "many: got 'abc' (str); give a list of str or None"),
        ({"many": ["a", 1]}, "many: got ['a', 1] (list); give a list of str or None"),
        ({"number": True}, "number: got True (bool); give an int"),
        ({"number": 1.0}, "number: got 1.0 (float); give an int"),
        ({"share": "0.5"}, "share: got '0.5' (str); give a number"),
        ({"size": (1, 2, 3)}, "size: got (1, 2, 3) (tuple); give (int, int)"),
        ({"weights": {1: 2}}, "weights: got {1: 2} (dict); give a dict of str to numbers"),
        ({"path": 5}, "path: got 5 (int); give a path"),
        ({"path": "a\0b"}, "path: got 'a\\x00b' (str); give a path"),
    ],
)
def test_the_error_names_argument_value_and_kind(given, words):
    with pytest.raises(KindError) as caught:
        something(**{"name": "right", **given})
    assert str(caught.value).startswith(words)
    assert isinstance(caught.value, InputError)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    "given",
    [
        {"many": ("a", "b")},
        {"many": np.array(["a", "b"])},
        {"number": np.int64(3)},
        {"share": 1},
        {"share": np.float32(0.1)},
        {"size": [1, 2]},
        {"size": np.array([1, 2])},
        {"weights": {"a": 1, "b": np.float64(2.5)}},
        {"path": Path("x")},
        {"path": "s3://bucket/" + "x" * 300},
    ],
)
def test_what_callers_mean_passes(given):
    assert something("right", **given) == "right"


def test_a_class_keeps_its_signature_and_its_documentation():
    assert str(inspect.signature(fusion.LogitStore)) == "(path: 'Address') -> 'None'"
    assert fusion.fuse.__doc__.startswith("The weighted mean")


def test_annotations_are_read_in_many_threads_at_once():
    """Garbage collected while one thread reads lets the others go on: CPython 3.11 mixes them."""
    module, failed = sys.modules["fusion.device"], []

    class Bin:
        def __del__(self):
            for _ in range(300):
                pass

    def litter(phase, _):
        if phase == "stop":
            made = Bin()
            made.itself = made

    def read():
        try:
            for _ in range(4):
                arguments._homes.__wrapped__(module)
        except SystemError as error:
            failed.append(error)

    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    gc.callbacks.append(litter)
    try:
        sys.setswitchinterval(1e-6)
        gc.set_threshold(50)
        threads = [threading.Thread(target=read) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    finally:
        gc.callbacks.remove(litter)
        gc.set_threshold(*threshold)
        sys.setswitchinterval(interval)
    assert not failed
