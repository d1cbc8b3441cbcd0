"""Dataclasses whose fields are checked when they are made, wherever the values came from."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from mq9.errors import InvalidRequest
from mq9.protocol.checks import Check, is_absent, shown

T = TypeVar("T")

_checks_of: dict[type[Checked], tuple[tuple[str, Check, object], ...]] = {}


def given(default: T, check: Check, **metadata: Any) -> T:
    """Declare a field that may be left out.

    Args:
        default: Its value then.
        check: What its value may be; gets the default as well.
        metadata: What else is to be known of the field.
    """
    return dataclasses.field(default=default, metadata={"check": check, **metadata})


def needed(check: Check) -> Any:
    """Declare a field that must be given."""

    def present(name: str, value: Any) -> Any:
        if is_absent(value):
            raise InvalidRequest(f"{name}: must be given, not {shown(value)}")
        return check(name, value)

    return dataclasses.field(default=None, metadata={"check": present})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Holds only values that passed their checks. Raises InvalidRequest naming field and value."""

    def __post_init__(self) -> None:
        """Check every field that does not hold its default, and put the value to use in place."""
        for name, check, default in _checks(type(self)):
            value = getattr(self, name)
            if value is default:
                continue
            checked = check(name, value)
            if checked is not value:
                object.__setattr__(self, name, checked)


def _checks(kind: type[Checked]) -> tuple[tuple[str, Check, object], ...]:
    """Return name and check of each field, and its default where that needs no check."""
    checks = _checks_of.get(kind)
    if checks is None:
        checks = _checks_of[kind] = tuple(
            (field.name, field.metadata["check"], _valid_default(field))
            for field in dataclasses.fields(kind)
        )
    return checks


def _valid_default(field: dataclasses.Field[Any]) -> object:
    """Return a field's default if it passes the check as it is, else what no value is."""
    try:
        passes = field.metadata["check"](field.name, field.default) is field.default
    except InvalidRequest:
        passes = False
    return field.default if passes else object()
