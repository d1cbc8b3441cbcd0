"""Objects as maps from the names of their fields to what these hold.

A field that holds its default is left out. So a field that is added later changes no bytes of what
does not use it, and is absent from what was written before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from mq9.engine.codec.shapes import Misfit, Shape, misfit

NEEDED: Final = object()  # equal to no value, so that the field is always written


class Field(NamedTuple):
    """A field of a record.

    Attributes:
        name: Its name in the class and in the bytes, which is never given to another field.
        shape: What it holds.
        default: What it holds where it is left out, which never changes, even when the class gets
            another default. None can be held only where it is that.
    """

    name: str
    shape: Shape
    default: Any = NEEDED


def optional(name: str, shape: Shape) -> Field:
    """Return a field that holds None where it is left out."""
    return Field(name, shape, None)


class Record:
    """How the instances of a class are written and read; it is a shape.

    What is read is not checked as a request is: it was when it was made, perhaps by rules that have
    changed since.
    """

    def __init__(self, kind: type[Any], *fields: Field) -> None:
        self.kind = kind
        self.fields = fields
        self._written = [(field.name, field.default, field.shape.write) for field in fields]
        self._read = {field.name: field.shape.read for field in fields}
        self._defaults = {field.name: field.default for field in fields}
        self._needed = [field.name for field in fields if field.default is NEEDED]
        self._is_tuple = issubclass(kind, tuple)

    def write(self, one: Any) -> dict[str, Any]:
        """Return the fields that do not hold their default.

        Raises:
            Misfit: It is not an instance, or what a field holds is not of its shape.
        """
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
        """Return the instance with these fields.

        Raises:
            Misfit: There is a field that is not known, one that is needed is missing, or what one
                holds is not of its shape.
        """
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
        if self._is_tuple:
            return self.kind(**values)
        one = object.__new__(self.kind)
        for name, value in values.items():
            object.__setattr__(one, name, value)
        return one


class Kinds:
    """The shape of what is of one of several classes: a map of its name to its fields.

    Args:
        records: Of each class its name, which is never given to another one.
    """

    def __init__(self, records: Mapping[str, Record]) -> None:
        self._read = {name: record.read for name, record in records.items()}
        self._written = {record.kind: (name, record.write) for name, record in records.items()}

    def write(self, one: Any) -> dict[str, Any]:
        """Return the name and the fields.

        Raises:
            Misfit: It is of none of the classes, or what a field holds is not of its shape.
        """
        if type(one) not in self._written:
            raise Misfit(f"{type(one).__name__} has no name here")
        name, write = self._written[type(one)]
        try:
            return {name: write(one)}
        except Misfit as error:
            raise Misfit(f"{name}: {error}") from None

    def read(self, plain: Any) -> Any:
        """Return the instance again.

        Raises:
            Misfit: The name is not known, or the fields are not those of that class.
        """
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
