"""Shapes of MessagePack fields, and objects as maps of field names to values.

Types are compared exactly: ``1`` is neither ``True`` nor ``1.0``. So equal values have equal bytes,
and all that is written can be read.

A field that holds its default is left out. So a new field does not change the bytes of commands
that do not use it, and may be missing in older ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol

_MOST = 2**63  # SQLite stores smaller numbers only
NEEDED: Final = object()  # equal to no value, so that the field is always written


class Misfit(ValueError):
    """A value that does not fit the shape of its field; the text says where and why."""


def misfit(value: Any, belongs: str) -> Misfit:
    """Return the error for a value of another type than ``belongs``."""
    return Misfit(f"not {belongs} but of type {type(value).__name__}")


class Shape(Protocol):
    """A kind of value that can be written and read."""

    @property
    def write(self) -> Callable[[Any], Any]:
        """Returns a MessagePack value; raises Misfit."""

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


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise misfit(value, "a whole number")
    if not -_MOST <= value < _MOST:
        raise Misfit("a whole number is not of 64 bits")
    return value


TEXT: Shape = _Shape(_text, _text)
RAW: Shape = _Shape(_raw, _raw)
FLAG: Shape = _Shape(_flag, _flag)
INTEGER: Shape = _Shape(_integer, _integer)


def one_of(kind: type[StrEnum]) -> Shape:
    """Return the shape of an enumeration."""
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


TEXTS: Shape = tuple_of(TEXT)
INTEGERS: Shape = tuple_of(INTEGER)


def text_or(shape: Shape) -> Shape:
    """Return the shape of a text or of a value of another shape, which is never a text."""

    def write(value: Any) -> Any:
        return value if type(value) is str else shape.write(value)

    def read(plain: Any) -> Any:
        return plain if type(plain) is str else shape.read(plain)

    return _Shape(write, read)


class Field(NamedTuple):
    """A field of a record."""

    name: str  # in the class and in the bytes; never given to another field
    shape: Shape
    default: Any = NEEDED  # never changes, even when that of the class does


def optional(name: str, shape: Shape) -> Field:
    """Return a field with the default None."""
    return Field(name, shape, None)


class Record:
    """The shape of a class's instances.

    Reading does not check the rules of requests, because rules may change.
    """

    def __init__(self, kind: type[Any], *fields: Field) -> None:
        self.kind = kind
        self.fields = fields
        self._written = [(field.name, field.default, field.shape.write) for field in fields]
        self._read = {field.name: field.shape.read for field in fields}
        self._defaults = {field.name: field.default for field in fields}
        self._needed = [field.name for field in fields if field.default is NEEDED]

    def write(self, one: Any) -> dict[str, Any]:
        """Return the fields that do not hold their default; raises Misfit."""
        if type(one) is not self.kind:
            raise misfit(one, f"of the class {self.kind.__name__}")
        plain = {}
        for name, default, write in self._written:
            value = getattr(one, name)
            if value is not default and value != default:
                try:
                    plain[name] = write(value)
                except Misfit as error:
                    raise Misfit(f"{name}: {error}") from None
        return plain

    def read(self, plain: Any) -> Any:
        """Return the instance with these fields; raises Misfit."""
        if type(plain) is not dict:
            raise misfit(plain, "a map of fields")
        values = self._defaults.copy()
        for name, value in plain.items():
            read = self._read.get(name)
            if read is None:
                raise Misfit(f"the field {name[:40]!r} is not known")
            try:
                values[name] = read(value)
            except Misfit as error:
                raise Misfit(f"{name}: {error}") from None
        for name in self._needed:
            if name not in plain:
                raise Misfit(f"the field {name!r} is missing")
        one = object.__new__(self.kind)
        for name, value in values.items():
            object.__setattr__(one, name, value)
        return one


class Kinds:
    """The shape of an instance of one of several classes: a map of its name to its fields."""

    def __init__(self, records: Mapping[str, Record]) -> None:
        self._read = {name: record.read for name, record in records.items()}
        self._written = {record.kind: (name, record.write) for name, record in records.items()}

    def write(self, one: Any) -> dict[str, Any]:
        """Return the name and the fields; raises Misfit."""
        if type(one) not in self._written:
            raise Misfit(f"{type(one).__name__} has no name here")
        name, write = self._written[type(one)]
        try:
            return {name: write(one)}
        except Misfit as error:
            raise Misfit(f"{name}: {error}") from None

    def read(self, plain: Any) -> Any:
        """Return the instance again; raises Misfit."""
        if type(plain) is not dict or len(plain) != 1:
            raise misfit(plain, "a map of a name to fields")
        [(name, fields)] = plain.items()
        read = self._read.get(name)
        if read is None:
            raise Misfit(f"the kind {name[:40]!r} is not known")
        try:
            return read(fields)
        except Misfit as error:
            raise Misfit(f"{name}: {error}") from None
