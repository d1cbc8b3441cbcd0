"""Checks of values, whose errors name the field and the value.

A check takes a field's name and its value. It returns the value to use or raises InvalidRequest.
Null and the empty text mean "absent" in optional fields, because clients in other languages send
them for absent values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from enum import Enum
from math import ceil
from typing import Any, TypeVar

from mq9 import address
from mq9.errors import InvalidRequest
from mq9.models import Promise

MAX_MSG_ID = 2**53 - 1
MAX_SECONDS = 10 * 365 * 86_400  # ten years
MAX_UNIX_SECONDS = 253_402_300_799  # the end of the year 9999
HEADER_VALUE_LENGTH = 256
MAX_TAGS = 64
MAX_READERS = 64  # of one mailbox
WAKERS = EVERYONE, KNOWN = "everyone", "known"  # senders that may begin automatic turns
MAX_CORRELATION_IDS = 100  # of one SENT
MAX_LOOKED_UP = 100  # names, or mailboxes, of agents
MAX_REASON = 1_024  # characters of a reason, or of ``done`` in a promise
MAX_HEADERS = 64  # of one message, without those of the protocol
MAX_HEADER_BYTES = 8 * 1024  # names and values of these together
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")  # a token, as in HTTP
RESERVED_NAMES = ("mq9-", "nats-")  # prefixes of the headers of mq9 and of NATS

Check = Callable[[str, Any], Any]
E = TypeVar("E", bound=Enum)
T = TypeVar("T")

shown = address.shown  # formats a value for an error message


def whole(low: int, high: int) -> Check:
    """Check for a whole number between ``low`` and ``high``, both included."""

    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidRequest(f"{name}: {shown(value)} is not a whole number")
        if not low <= value <= high:
            raise InvalidRequest(f"{name}: {shown(value)} is not between {low} and {high}")
        return value

    return check


def number(low: float, high: float) -> Check:
    """Check for a number between ``low`` and ``high``, both included."""

    def check(name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InvalidRequest(f"{name}: {shown(value)} is not a number")
        if not low <= value <= high:
            raise InvalidRequest(f"{name}: {shown(value)} is not between {low:g} and {high:g}")
        return float(value)

    return check


def seconds(most: int = MAX_SECONDS, *, above_zero: bool = False) -> Callable[[str, Any], float]:
    """Check for a number of seconds, not negative and at most ``most``."""

    def check(name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InvalidRequest(f"{name}: {shown(value)} is not a number of seconds")
        if not 0 <= value <= most or (above_zero and value == 0):
            least = "more than 0" if above_zero else "at least 0"
            raise InvalidRequest(f"{name}: {shown(value)} s is not {least} and at most {most} s")
        return float(value)

    return check


def unix_seconds(name: str, value: Any) -> int:
    """Check for an instant in Unix seconds, and round it up to a whole second."""
    instant: float = number(0, MAX_UNIX_SECONDS)(name, value)
    return ceil(instant)


def promise(name: str, value: Any) -> Promise:
    """Check for a promise: a deadline for the answer, and the work done so far."""
    given = asdict(value) if isinstance(value, Promise) else json_object(name, value)
    if is_absent(given.get("until")):
        raise InvalidRequest(f"{name}: {shown(value)} has no until")
    done = optional(prose(MAX_REASON))(f"{name}.done", given.get("done"))
    return Promise(until=unix_seconds(f"{name}.until", given.get("until")), done=done)


def is_absent(value: Any) -> bool:
    """Tell whether a field's value is null or the empty text."""
    return value is None or (isinstance(value, str) and not value)


def optional(check: Check) -> Check:
    """Return None for null and the empty text, and ``check`` any other value."""

    def maybe(name: str, value: Any) -> Any:
        return None if is_absent(value) else check(name, value)

    return maybe


def otherwise(default: T, check: Check) -> Callable[[str, Any], T]:
    """Return ``default`` for null and the empty text, and ``check`` any other value."""

    def given(name: str, value: Any) -> T:
        checked: T = default if is_absent(value) else check(name, value)
        return checked

    return given


def flag(name: str, value: Any) -> bool:
    """Check for true or false; null is false."""
    if value is None:
        return False
    if not isinstance(value, bool):
        raise InvalidRequest(f"{name}: {shown(value)} is neither true nor false")
    return value


def printable(longest: int) -> Check:
    """Check for 1 to ``longest`` printable characters without spaces around them."""

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise InvalidRequest(f"{name}: {shown(value)} is not a text")
        if not 1 <= len(value) <= longest:
            raise InvalidRequest(
                f"{name}: {shown(value)} has {len(value)} characters, not 1 to {longest}"
            )
        if not value.isprintable():
            raise InvalidRequest(f"{name}: {shown(value)} has characters that are not printable")
        if value != value.strip():
            raise InvalidRequest(f"{name}: {shown(value)} has spaces around it")
        return value

    return check


header_text = printable(HEADER_VALUE_LENGTH)
agent_name = printable(128)


def prose(longest: int) -> Check:
    """Check for a text of at most ``longest`` characters that UTF-8 can carry."""

    def check(name: str, value: Any) -> str:
        if value is None:
            return ""
        if not isinstance(value, str):
            raise InvalidRequest(f"{name}: {shown(value)} is not a text")
        if len(value) > longest:
            raise InvalidRequest(f"{name}: {len(value)} characters are more than {longest}")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise InvalidRequest(f"{name}: {shown(value)} cannot be written as UTF-8")
        return value

    return check


def mail_address(_name: str, value: Any) -> str:
    """Check for a mail_address or its ``mq9://`` form, and return the address."""
    return address.parse(value)


def tag(name: str, value: Any) -> str:
    """Check for one tag: a header value without commas."""
    text: str = header_text(name, value)
    if "," in text:
        raise InvalidRequest(f"{name}: {shown(value)} has a comma")
    return text


def _each(name: str, value: Any, things: str, check: Check, most: int) -> tuple[str, ...]:
    """Check for a list of up to ``most`` items, and check each of them."""
    if not isinstance(value, (list, tuple)):
        raise InvalidRequest(f"{name}: {shown(value)} is not a list of {things}")
    if len(value) > most:
        raise InvalidRequest(f"{name}: {len(value)} {things} are more than {most}")
    return tuple(check(name, one) for one in value)


def tags(name: str, value: Any) -> tuple[str, ...]:
    """Check for up to 64 tags; each is kept once, in the order given."""
    return () if value is None else tuple(dict.fromkeys(_each(name, value, "tags", tag, MAX_TAGS)))


def path(name: str, value: Any) -> tuple[str, ...]:
    """Check for up to 64 names of agents that a conversation passed through, in order."""
    return _each(name, value, "agents", tag, MAX_TAGS)


def message_headers(name: str, value: Any) -> tuple[tuple[str, str], ...]:
    """Check for the headers of a message, and return them in order with names in lower case.

    They are a mapping, or a tuple of pairs.
    """
    if value is None:
        return ()
    pairs = tuple(value.items()) if isinstance(value, Mapping) else value
    if not isinstance(pairs, tuple) or not all(
        isinstance(pair, tuple) and len(pair) == 2 for pair in pairs
    ):
        raise InvalidRequest(f"{name}: {shown(value)} is not a mapping of names to values")
    if len(pairs) > MAX_HEADERS:
        raise InvalidRequest(f"{name}: {len(pairs)} headers are more than {MAX_HEADERS}")
    checked: dict[str, str] = {}
    for header, text in pairs:
        lower = _header_name(name, header)
        if lower in checked:
            raise InvalidRequest(f"{name}: {lower} is repeated")
        checked[lower] = header_text(f"{name}: {lower}", text)
    size = sum(len(header) + len(text.encode()) for header, text in checked.items())
    if size > MAX_HEADER_BYTES:
        raise InvalidRequest(f"{name}: {size} bytes are more than {MAX_HEADER_BYTES}")
    return tuple(checked.items())


def _header_name(name: str, value: Any) -> str:
    if not isinstance(value, str) or not _HEADER_NAME.fullmatch(value):
        raise InvalidRequest(
            f"{name}: {shown(value)} is not a name of 1 to 128 letters, digits or !#$%&'*+-.^_`|~"
        )
    lower = value.lower()
    if lower.startswith(RESERVED_NAMES):
        raise InvalidRequest(
            f"{name}: {lower} is not free: mq9- and nats- have meanings of their own"
        )
    return lower


def agents(name: str, value: Any) -> tuple[str, ...]:
    """Check for up to 64 names of agents; each is kept once, in the order given."""
    return tuple(dict.fromkeys(_each(name, value, "agents", agent_name, MAX_READERS)))


def wakers(name: str, value: Any) -> str | tuple[str, ...]:
    """Check for senders that may begin automatic turns: a word, or up to 64 names of agents."""
    if isinstance(value, str):
        return word(*WAKERS)(name, value)
    return agents(name, value)


def senders(name: str, value: Any) -> tuple[str, ...]:
    """Check for up to 100 names of senders; each is kept once, in order."""
    return tuple(dict.fromkeys(_each(name, value, "names", header_text, MAX_LOOKED_UP)))


def mail_addresses(name: str, value: Any) -> tuple[str, ...]:
    """Check for up to 100 addresses of mailboxes; each is kept once, in order."""
    return tuple(dict.fromkeys(_each(name, value, "addresses", mail_address, MAX_LOOKED_UP)))


def msg_ids(name: str, value: Any) -> tuple[int, ...]:
    """Check for 1 to 1 000 message ids; each is kept once, in the order given."""
    if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= 1000:
        raise InvalidRequest(f"{name}: {shown(value)} is not a list of 1 to 1000 message ids")
    one = whole(0, MAX_MSG_ID)
    return tuple(dict.fromkeys(one(name, number) for number in value))


def correlation_ids(name: str, value: Any) -> tuple[str, ...]:
    """Check for 1 to 100 correlation ids; each is kept once, in the order given."""
    if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= MAX_CORRELATION_IDS:
        raise InvalidRequest(
            f"{name}: {shown(value)} is not a list of 1 to {MAX_CORRELATION_IDS} correlation ids"
        )
    return tuple(dict.fromkeys(header_text(name, one) for one in value))


def member(kind: type[E]) -> Callable[[str, Any], E]:
    """Check for a value of an enumeration."""

    def check(name: str, value: Any) -> E:
        try:
            return kind(value)
        except ValueError:
            words = ", ".join(str(word.value) for word in kind)
            raise InvalidRequest(f"{name}: {shown(value)} is not one of {words}") from None

    return check


def word(*words: str) -> Callable[[str, Any], str]:
    """Check for one of the given words."""

    def check(name: str, value: Any) -> str:
        if value not in words:
            raise InvalidRequest(f"{name}: {shown(value)} is not one of {', '.join(words)}")
        return str(value)

    return check


def json_object(name: str, value: Any) -> Mapping[str, Any]:
    """Check for a JSON object; null is the empty one."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{name}: {shown(value)} is not a JSON object")
    return value
