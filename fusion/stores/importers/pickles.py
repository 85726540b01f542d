"""Plain data out of a pickle, and nothing else: no name is looked up that is not listed here.

A pickle is a program. This one may make numbers, strings, lists, dicts, tuples, and NumPy's arrays
and scalars of numbers; what else it names is refused with that name before anything runs.
"""

from __future__ import annotations

import builtins
import collections
import io
import pickle
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fusion.errors import InputError
from fusion.parsing import DEEPEST

MAX_BYTES = 256 << 20  # nnU-Net keeps sampled voxels of each class among its properties
PLAIN = ("bool", "int", "float", "complex", "str", "list", "dict", "tuple", "set", "slice")


class _Refused(Exception):
    """What plain data does not need."""


class _Dtype:
    """What a pickle says of a dtype; NumPy's own would take more states than it checks."""

    def __init__(self, name: str, *_: object) -> None:
        self.name, self.order = name, ""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1] if state[1] in ("<", ">") else ""

    def real(self) -> np.dtype:
        if not isinstance(self.name, str) or not re.fullmatch("[biufcSU][0-9]{1,4}", self.name):
            raise _Refused(f"an array of {self.name!r:.20}")
        return np.dtype(self.order + self.name)


class _Array(np.ndarray):
    """An array whose state has such a dtype; NumPy compares shape and bytes."""

    def __setstate__(self, state: Any) -> None:
        version, shape, dtype, turned, content = state
        if not isinstance(dtype, _Dtype) or not isinstance(content, (bytes, str)):
            raise _Refused("an array that is none")
        super().__setstate__((version, shape, dtype.real(), turned, _bytes(content)))


class _Named:
    """Stands where a pickle names numpy.ndarray, which `_array` alone makes."""


def _array(*_: object) -> np.ndarray:
    return np.ndarray.__new__(_Array, (0,), np.int8)


def _scalar(dtype: _Dtype, content: Any) -> Any:
    return np.frombuffer(_bytes(content), dtype.real())[0]


def _from_buffer(content: Any, dtype: _Dtype, shape: Any, order: str) -> np.ndarray:
    array = np.frombuffer(content, dtype.real())
    return array.reshape(shape, order="F" if order == "F" else "C")


def _bytes(content: bytes | str, *_: object) -> bytes:
    """Protocol 2 and Python 2 keep bytes as text."""
    if not isinstance(content, (bytes, str)):  # bytes(n) makes as many as n says
        raise _Refused("bytes that are none")
    return content.encode("latin-1") if isinstance(content, str) else bytes(content)


NAMES: dict[tuple[str, str], Any] = {
    **{(home, n): getattr(builtins, n) for home in ("builtins", "__builtin__") for n in PLAIN},
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _bytes,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Named,
    **{
        (f"numpy.{core}.{module}", name): made
        for core in ("core", "_core")
        for module, name, made in (
            ("multiarray", "_reconstruct", _array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}


class _Unpickler(
    pickle._Unpickler
):  # Python's own: the one in C allocates what a memo's index says
    def load_bytearray(self) -> None:
        """As its parent, which makes it as long as it says before it reads."""
        content = self.read(int.from_bytes(self.read(8), "little"))  # type: ignore[attr-defined]
        self.append(bytearray(content))  # type: ignore[attr-defined]

    # without the numbers of any length that plain data has no use for
    dispatch: ClassVar[dict[int, Any]] = {
        code: load for code, load in pickle._Unpickler.dispatch.items() if code != pickle.LONG4[0]
    } | {pickle.BYTEARRAY8[0]: load_bytearray}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in NAMES:
            raise _Refused(f"{module}.{name}"[:80])
        return NAMES[module, name]


def read_plain(path: Path, advice: str) -> Any:
    """What a pickle of plain data holds.

    Args:
        path: the file.
        advice: what to do where it is something else.

    Raises:
        InputError: it names anything that plain data does not need, or is damaged or too long.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _Refused(f"{size} bytes")
        found = _Unpickler(io.BytesIO(path.read_bytes())).load()
        _check_depth(found)
        return found
    except _Refused as error:
        problem = f"a pickle that holds {error}, and is not run for it"
        raise InputError(f"{path}: {problem}; {advice}") from None
    except Exception as error:  # a damaged one may call anything with anything
        reason = (str(error) or type(error).__name__).splitlines()[0][:100]
        raise InputError(f"{path}: not a readable pickle ({reason}); {advice}") from error


def _check_depth(found: Any) -> None:
    """That nobody who prints it runs out of stack: not nested too deep, nor inside itself."""
    level = [found]
    for _ in range(DEEPEST):
        level = [inner for each in level for inner in _inside(each)]
        if not level:
            return
    raise _Refused(f"what is nested deeper than {DEEPEST} levels")


def _inside(value: Any) -> Any:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, (list, tuple, set)) else ()
