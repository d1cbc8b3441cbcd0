"""The priorities of older generations of the protocol, and how they are stored.

The engine has three lanes. ``high`` is its ``critical``. ``low``, called ``notify`` in the first
generation, is a ``normal`` message with the header ``priority: low``. A reader that knows the
header sorts it after the other normal messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mq9.errors import InvalidRequest
from mq9.models import PRIORITIES, Priority
from mq9.protocol.checks import shown

_HEADER, _LOW = "priority", "low"

Stored = tuple[Priority, tuple[tuple[str, str], ...]]

_STORED_AS_LOW: Stored = (Priority.NORMAL, ((_HEADER, _LOW),))
# In the order of delivery; those of the current protocol are among them.
STORED_AS: Mapping[str, Stored] = {
    "critical": (Priority.CRITICAL, ()),
    "high": (Priority.CRITICAL, ()),
    "urgent": (Priority.URGENT, ()),
    "normal": (Priority.NORMAL, ()),
    "low": _STORED_AS_LOW,
    "notify": _STORED_AS_LOW,
}


def stored_as(name: Any) -> Stored:
    """Return the priority that a message is stored with, and the headers to add."""
    stored = STORED_AS.get(name) if isinstance(name, str) else None
    if stored is None:
        raise InvalidRequest(f"priority: {shown(name)} is not one of {', '.join(STORED_AS)}")
    return stored


def rank(priority: Priority, headers: Mapping[str, str]) -> int:
    """Return the rank of a stored message in the order of delivery, 0 for the most urgent.

    Messages of one rank are ordered by their ids. ``headers`` has names in lower case, or ignores
    case. The header only makes a normal message a low one.
    """
    if priority is Priority.NORMAL and headers.get(_HEADER) == _LOW:
        return len(PRIORITIES)
    return PRIORITIES.index(priority)
