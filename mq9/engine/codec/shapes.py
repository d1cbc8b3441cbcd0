"""What a field may hold, and how MessagePack holds it.

Types are compared exactly, so that equal values have equal bytes, and so that whatever is written
can be read: ``1`` is neither ``True`` nor ``1.0``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

_MOST = 2**63  # what SQLite stores is less
_DEPTH = 32


class Misfit(ValueError):
    """A value is not of its field's shape; the text says where and why."""


def misfit(value: Any, belongs: str) -> Misfit:
    """Return the error for a value of another type than belongs there."""
    return Misfit(f"not {belongs} but of type {type(value).__name__}")


class Shape(Protocol):
    """A kind of values."""

    @property
    def write(self) -> Callable[[Any], Any]:
        """Returns what MessagePack can hold; raises Misfit."""

    @property
    def read(self) -> Callable[[Any], Any]:
        """Returns the value again; raises Misfit."""


class _Shape(NamedTuple):
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def _text(value: Any) -> str:
    if type(value) is not str:
        raise misfit(value, "a text")
    return value


def _raw(value: Any) -> bytes:
    if type(value) is not bytes:
        raise misfit(value, "bytes")
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise misfit(value, "true or false")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise misfit(value, "a whole number")
    if not -_MOST <= value < _MOST:
        raise Misfit("a whole number is not of 64 bits")
    return value


def _scalar(value: Any) -> int | str:
    return _whole(value) if type(value) is int else _text(value)


def _number(value: Any) -> float:
    if type(value) is not float:
        raise misfit(value, "a floating-point number")
    if not math.isfinite(value):
        raise Misfit(f"{value} is not finite")
    return value


TEXT: Shape = _Shape(_text, _text)
RAW: Shape = _Shape(_raw, _raw)
FLAG: Shape = _Shape(_flag, _flag)
WHOLE: Shape = _Shape(_whole, _whole)
SCALAR: Shape = _Shape(_scalar, _scalar)  # a whole number or a text
NUMBER: Shape = _Shape(_number, _number)


def one_of(kind: type[StrEnum]) -> Shape:
    """Return the shape of an enumeration's words."""
    words = {one.value: one for one in kind}

    def write(value: Any) -> str:
        if type(value) is not kind:
            raise misfit(value, f"of the class {kind.__name__}")
        return _text(value.value)

    def read(plain: Any) -> StrEnum:
        word = words.get(_text(plain))
        if word is None:
            raise Misfit(f"the word {plain[:40]!r} is not known")
        return word

    return _Shape(write, read)


def tuple_of(shape: Shape) -> Shape:
    """Return the shape of a tuple whose items all have one shape."""
    write_item, read_item = shape.write, shape.read

    def write(values: Any) -> list[Any]:
        if type(values) is not tuple:
            raise misfit(values, "a tuple")
        return [write_item(value) for value in values]

    def read(plain: Any) -> tuple[Any, ...]:
        return tuple([read_item(one) for one in _array(plain)])

    return _Shape(write, read)


def pair_of(first: Shape, second: Shape) -> Shape:
    """Return the shape of a tuple of two."""

    def write(values: Any) -> list[Any]:
        if type(values) is not tuple or len(values) != 2:
            raise misfit(values, "a pair")
        return [first.write(values[0]), second.write(values[1])]

    def read(plain: Any) -> tuple[Any, Any]:
        array = _array(plain)
        if len(array) != 2:
            raise Misfit(f"an array of {len(array)} is not a pair")
        return first.read(array[0]), second.read(array[1])

    return _Shape(write, read)


def _array(plain: Any) -> list[Any]:
    if type(plain) is not list:
        raise misfit(plain, "an array")
    return plain


def _json_object(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise misfit(value, "an object")
    _check_json(value, _DEPTH)
    return value


def _check_json(value: Any, depth: int) -> None:
    """Raise Misfit for what is not made of the values of JSON, or nested deeper than ``depth``."""
    kind = type(value)
    if kind in (list, dict):
        if not depth:
            raise Misfit(f"an object is nested more than {_DEPTH} levels deep")
        if kind is dict:
            for name in value:
                _text(name)
        for one in value.values() if kind is dict else value:
            _check_json(one, depth - 1)
    elif kind is int:
        _whole(value)
    elif kind is float:
        _number(value)
    elif kind not in (str, bool) and value is not None:
        raise misfit(value, "a value of JSON")


JSON_OBJECT: Shape = _Shape(_json_object, _json_object)
TEXTS: Shape = tuple_of(TEXT)
WHOLES: Shape = tuple_of(WHOLE)
