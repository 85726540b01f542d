"""What a public function takes, checked at its door by its own annotations.

    @checked
    def fuse(predictions: Predictions, weights: Sequence[float] | None = None) -> ...:

A value of another kind is one KindError (an InputError) that names the argument, what was given and
what to give, before anything is read or written. Kinds are meant as callers mean them: a Sequence
may be a NumPy array, an int a NumPy integer, a float an int; but text is no sequence of names, True
is no number, and an array no mapping. What a value must be beyond its kind (a known name, above 0,
of a shape) its function says itself. What an annotation does not tell (Any, protocols) passes.

What a name in an annotation means is looked up at the first call, when all is imported.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import inspect
import numbers
import os
import pathlib
import sys
import threading
import types
import typing
from collections import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from fusion.errors import KindError

Target = TypeVar("Target")
Test = Callable[[Any], bool]

MOST_HOLDERS, LONGEST_WORDS = 2, 100  # of a union; of more its function has a better sentence
MOST_ITEMS = 10_000  # of a sequence that are looked at, one by one
LONGEST_NAME = 255  # bytes, of a file: NAME_MAX
OWN = ("fusion", "torch")  # whose classes are meant strictly
TEXT = (str, bytes, bytearray)
PATH = (pathlib.Path, pathlib.PurePath, os.PathLike)


@dataclass(frozen=True)
class Kind:
    """What passes, and what it is called in an error."""

    test: Test
    words: str
    scalar: bool = False  # a name or number, of which an array may hold many
    holds: bool = False  # others


ANYTHING = Kind(lambda value: True, "anything")


def checked(target: Target) -> Target:
    """The same function, or a class with the same methods, which refuse what they cannot take.

    Of a class: what makes it, and every public method that it defines itself.

    Raises:
        KindError: when called, with a value of another kind than the annotation says.
    """
    if inspect.isclass(target):
        for name, member in list(vars(target).items()):
            if name != "__init__" and name.startswith("_"):
                continue
            if isinstance(member, (classmethod, staticmethod)):
                setattr(target, name, type(member)(_wrapped(member.__func__)))
            elif inspect.isfunction(member):
                setattr(target, name, _wrapped(member))
        return target
    return typing.cast("Target", _wrapped(typing.cast("Callable[..., Any]", target)))


def _wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    resolved: list[tuple[list[str], list[Kind], dict[str, Kind]]] = []  # when all is imported

    @functools.wraps(function)
    def door(*given: Any, **named: Any) -> Any:
        if not resolved:
            resolved.append(_resolved(function))
        names, kinds, by_name = resolved[0]
        for name, kind, value in zip(names, kinds, given, strict=False):
            if kind is not ANYTHING and not kind.test(value):
                raise _refusal(name, value, kind)
        for name, value in named.items():
            kind = by_name.get(name, ANYTHING)
            if kind is not ANYTHING and not kind.test(value):
                raise _refusal(name, value, kind)
        return function(*given, **named)

    return door


def _refusal(name: str, value: Any, kind: Kind) -> KindError:
    try:
        shown = " ".join(repr(value).split())
    except Exception:  # of somebody else's object
        shown = "an object without a repr"
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return KindError(f"{name}: got {shown} ({type(value).__name__}); give {kind.words}")


def _resolved(function: Callable[..., Any]) -> tuple[list[str], list[Kind], dict[str, Kind]]:
    """Names and kinds of what may be given by place, and all kinds by name."""
    by_place, kinds = [], {}
    names = _Names(sys.modules[function.__module__])
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        annotation = parameter.annotation
        if isinstance(annotation, str):
            try:
                annotation = eval(annotation, {}, names)  # of our own source, no data
            except TypeError:  # Any[...], of a name that is not loaded
                annotation = Any
        kinds[name] = kind_of(annotation)
        if parameter.kind != parameter.KEYWORD_ONLY:
            by_place.append(name)
    return by_place, [kinds[name] for name in by_place], kinds


class _Names(dict[str, Any]):
    """What an annotation's names stand for: also those that its module imports for types alone,
    where they are this library's; those of others are Any, as they need not be installed."""

    def __init__(self, module: types.ModuleType) -> None:
        super().__init__(vars(builtins) | vars(module))
        self._module = module

    def __missing__(self, name: str) -> Any:
        home = _homes(self._module).get(name)
        return Any if home is None else getattr(importlib.import_module(home), name, Any)


def _new_lock() -> None:
    """For a forked child: another thread, which the child does not have, may hold the old one."""
    global _parsing
    _parsing = threading.Lock()


# CPython 3.11 counts how deep the trees of all threads are in one number, and is in the middle of
# one when it collects garbage and lets another thread go on (python/cpython issue 106905)
_parsing = threading.Lock()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_new_lock)


@functools.cache
def _homes(module: types.ModuleType) -> dict[str, str]:
    """Modules of this library by what a module imports from them, for types alone too."""
    with _parsing:
        nodes = ast.walk(ast.parse(inspect.getsource(module)))
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    ours = [node for node in imports if str(node.module).partition(".")[0] == "fusion"]
    return {alias.name: str(node.module) for node in ours for alias in node.names}


def kind_of(annotation: Any) -> Kind:
    """What an annotation lets pass."""
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, str):  # a name inside an alias, which was never evaluated
        return ANYTHING
    if annotation is ArrayLike or origin is np.ndarray or annotation is np.ndarray:
        return Kind(_is_array, "an array of numbers")
    if annotation is None or annotation is type(None):
        return Kind(lambda value: value is None, "None")
    if origin in (typing.Union, types.UnionType):
        paths = any(each in PATH or typing.get_origin(each) in PATH for each in inside)
        arrays = set(typing.get_args(ArrayLike))
        left = set(inside) - arrays if arrays <= set(inside) else set(inside)
        kinds = [kind_of(each) for each in inside if each in left and not (paths and each is str)]
        if left != set(inside):  # a union forgets which of its members were one
            kinds += [Kind(lambda value: isinstance(value, str), "a str"), kind_of(ArrayLike)]
        return _any_of(kinds)
    if origin is typing.Literal:
        return _plain(str)  # which of them there are its function says
    if origin is not None:
        return _container(origin, inside)
    return _plain(annotation)


def _any_of(kinds: Sequence[Kind]) -> Kind:
    many = sum(kind.holds for kind in kinds) > MOST_HOLDERS
    if many or any(kind is ANYTHING for kind in kinds):
        return ANYTHING
    words = " or ".join(dict.fromkeys(kind.words for kind in kinds))
    if len(words) > LONGEST_WORDS:
        return ANYTHING
    scalar = all(kind.scalar for kind in kinds)
    return Kind(lambda value: any(kind.test(value) for kind in kinds), words, scalar)


def _plain(annotation: Any) -> Kind:
    """Kinds without anything inside."""
    if annotation is str:
        return Kind(lambda value: isinstance(value, str), "a str", scalar=True)
    if annotation is bool:
        return Kind(lambda value: isinstance(value, (bool, np.bool_)), "True or False", scalar=True)
    if annotation is int:
        return Kind(lambda value: _number(value, numbers.Integral), "an int", scalar=True)
    if annotation is float:
        return Kind(lambda value: _number(value, numbers.Real), "a number", scalar=True)
    if annotation in PATH:  # text is one too
        return Kind(_is_path, "a path")
    if annotation in (abc.Sequence, list, tuple, abc.Mapping, dict, abc.Iterable, abc.Callable):
        return _container(annotation, ())
    own = inspect.isclass(annotation) and annotation.__module__.partition(".")[0] in OWN
    if not own or getattr(annotation, "_is_protocol", False):
        return ANYTHING
    article = "an" if annotation.__name__[0] in "AEIO" else "a"
    words = f"{article} {annotation.__name__}"
    return Kind(lambda value: isinstance(value, annotation), words)


def _is_path(value: Any) -> bool:
    """Whether a file system could have it; what a URL may be its server says."""
    if not isinstance(value, (str, os.PathLike)):
        return False
    try:
        text = os.fsencode(value)
    except (UnicodeEncodeError, TypeError):
        return False
    short = all(len(part) <= LONGEST_NAME for part in text.split(b"/")) or b"://" in text
    return text != b"" and b"\0" not in text and short


def _number(value: Any, kind: type) -> bool:
    if type(value) is int or (type(value) is float and kind is numbers.Real):
        return True  # without the detour of abstract classes, for long lists of weights
    return isinstance(value, kind) and not isinstance(value, (bool, np.bool_))


def _container(origin: Any, inside: tuple[Any, ...]) -> Kind:
    if origin in PATH:
        return Kind(_is_path, "a path")
    if origin is abc.Callable:
        return Kind(callable, "a function")
    if origin in (abc.Mapping, dict):
        return _mapping(*(kind_of(each) for each in inside or (Any, Any)))
    fixed = origin is tuple and inside and inside[-1] is not Ellipsis
    if fixed:
        return _fixed([kind_of(each) for each in inside])
    item = kind_of(inside[0]) if inside else ANYTHING
    if origin in (abc.Sequence, list, tuple):
        return _many(item, _is_sequence, "a list")
    if origin in (abc.Iterable, abc.Iterator, abc.Collection, set, frozenset):
        return _many(item, _is_iterable, "an iterable")
    return ANYTHING


def _is_sequence(value: Any) -> bool:
    alike = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    return alike and not isinstance(value, (*TEXT, abc.Mapping)) and getattr(value, "ndim", 1) > 0


def _is_iterable(value: Any) -> bool:
    alike = hasattr(value, "__iter__") and not isinstance(value, TEXT)
    return alike and getattr(value, "ndim", 1) > 0


def _is_array(value: Any) -> bool:
    """Whether there are real numbers in it, and they can be had."""
    if hasattr(value, "is_sparse"):  # a tensor, which may be on a GPU
        return not value.is_sparse and not value.is_complex()
    if not isinstance(value, (list, tuple, numbers.Real)) and not hasattr(value, "__array__"):
        return False
    try:
        return np.asarray(value).dtype.kind in "biuf"
    except (TypeError, ValueError, RuntimeError):  # ragged lists, somebody's __array__
        return False


def _many(item: Kind, test: Test, words: str) -> Kind:
    """Items are looked at where that neither uses them up nor takes long."""
    words = words if item is ANYTHING else f"{words} of {_plural(item.words)}"
    if item is ANYTHING:
        return Kind(test, words, holds=True)

    def whole(value: Any) -> bool:
        if not test(value):
            return False
        if hasattr(value, "ndim") and item.scalar and value.ndim != 1:
            return False
        kept = isinstance(value, (list, tuple, set, frozenset, dict)) or hasattr(value, "ndim")
        if not kept or len(value) > MOST_ITEMS:
            return True
        return all(map(item.test, _list(value) if item.scalar else value))

    return Kind(whole, words, holds=True)


def _list(value: Any) -> Sequence[Any]:
    """An array's numbers; None for each that cannot be had."""
    try:
        return value.tolist() if hasattr(value, "tolist") else value
    except (RuntimeError, TypeError):  # a sparse tensor's
        return [None] * len(value)


def _fixed(items: Sequence[Kind]) -> Kind:
    def whole(value: Any) -> bool:
        if not _is_sequence(value) or len(value) != len(items):
            return False
        return all(kind.test(one) for kind, one in zip(items, _list(value), strict=True))

    words = [kind.words.removeprefix("an ").removeprefix("a ") for kind in items]
    return Kind(whole, f"({', '.join(words)})")


def _mapping(key: Kind, item: Kind) -> Kind:
    """Of a name or number its function says whose it is: of those the keys alone are looked at."""

    def whole(value: Any) -> bool:
        if not isinstance(value, abc.Mapping):
            return False
        if len(value) > MOST_ITEMS:
            return True
        return all(map(key.test, value)) and (item.scalar or all(map(item.test, value.values())))

    words = f"a dict of {_plural(key.words)} to {_plural(item.words)}"
    return Kind(whole, "a dict" if item is ANYTHING else words, holds=True)


def _plural(words: str) -> str:
    many = {"a str": "str", "an int": "ints", "a number": "numbers", "a path": "paths"}
    many["an array of numbers"] = "arrays of numbers"
    return " or ".join(many.get(each, each) for each in words.split(" or "))
