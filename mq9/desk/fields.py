"""The fields of forms and the parameters of URLs, checked as they are read."""

from __future__ import annotations

from collections.abc import Mapping

from mq9 import address as addresses
from mq9.cli.settling import Place
from mq9.errors import InvalidRequest
from mq9.protocol import checks

_MOST_DIGITS = 15


def word(given: Mapping[str, str], name: str) -> str | None:
    """Return a parameter without the spaces around it; None where it is absent or empty."""
    return given.get(name, "").strip() or None


def required(given: Mapping[str, str], name: str) -> str:
    """Return a parameter; raise InvalidRequest where it is missing."""
    value = word(given, name)
    if value is None:
        raise InvalidRequest(f"{name}: it is missing")
    return value


def number(given: Mapping[str, str], name: str) -> int | None:
    """Return a parameter as an integer from 0; None if it is absent or empty."""
    value = word(given, name)
    return None if value is None else whole(name, value)


def whole(name: str, value: str) -> int:
    """Return a text as an integer from 0; raise InvalidRequest for any other."""
    if not is_number(value):
        raise InvalidRequest(f"{name}: {checks.shown(value)} is not a whole number from 0 on")
    return int(value)


def is_number(value: str) -> bool:
    """Return whether a text is an integer from 0, and not too long."""
    return value.isascii() and value.isdecimal() and len(value) <= _MOST_DIGITS


def mailbox(given: Mapping[str, str], name: str = "mailbox") -> str:
    """Return a parameter as the address of a mailbox."""
    return addresses.parse(required(given, name))


def item_of(place: Place) -> str:
    """Write a message as a form names it: ``mailbox/number`` or ``mailbox/number/group``."""
    group = "" if place.group_name is None else f"/{place.group_name}"
    return f"{place.mail_address}/{place.msg_id}{group}"


def place_of(item: str) -> Place:
    """Read what ``item_of`` has written; raise InvalidRequest if it names no message."""
    address, _, rest = item.partition("/")
    digits, _, group = rest.partition("/")
    if not is_number(digits):
        raise InvalidRequest(f"item: {checks.shown(item)} is not a mailbox, a / and a number")
    return Place(
        mail_address=addresses.parse(address), msg_id=int(digits), group_name=group or None
    )
