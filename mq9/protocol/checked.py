"""Dataclasses whose fields are checked when they are made, wherever the values came from."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from mq9.errors import InvalidRequest
from mq9.protocol.checks import Check, is_absent, shown

T = TypeVar("T")


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
        """Check every field, and put the value to use in its place."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            checked = field.metadata["check"](field.name, value)
            if checked is not value:
                object.__setattr__(self, field.name, checked)
