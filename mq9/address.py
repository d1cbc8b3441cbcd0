"""Addresses of mailboxes: their form, and how a name becomes one.

An address is 1 to 128 characters of ``a-z``, ``0-9`` and ``.``, starts and ends with a letter or
digit, and holds no ``..``. ``mq9://<any broker>/<address>`` is accepted wherever an address is.
"""

from __future__ import annotations

import re
from base64 import b32encode
from collections.abc import Iterator

from mq9.errors import InvalidAddress, InvalidRequest

MAX_LENGTH = 128
RANDOM_BYTES = 17  # 136 bits: knowing a generated address is the credential

_ADDRESS = re.compile(r"[a-z0-9]+(?:\.[a-z0-9]+)*")
_URL = re.compile(r"mq9://[^/]*/(.*)", re.DOTALL)
_OTHER_CHARACTERS = re.compile(r"[^a-z0-9]+")
_RULE = "use 1 to 128 of a-z, 0-9 and single dots, starting and ending with a letter or digit"


def shown(value: object) -> str:
    """Return ``value`` as an error message shows it: on one line and not too long."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write out a number of thousands of digits
        text = f"<{type(value).__name__} too long to show>"
    return text if len(text) <= 80 else text[:77] + "…"


def parse(value: object) -> str:
    """Return the address that ``value`` names."""
    if not isinstance(value, str):
        raise InvalidAddress(f"invalid mail_address: {shown(value)} is not a string; {_RULE}")
    url = _URL.fullmatch(value) if value.startswith("mq9://") else None
    address = url.group(1) if url else value
    if len(address) > MAX_LENGTH or not _ADDRESS.fullmatch(address):
        begin = value if len(value) <= MAX_LENGTH + 32 else value[:MAX_LENGTH] + "…"
        own = slug_or_none(value) if len(value) <= MAX_LENGTH and url is None else None
        hint = f". The mailbox of an agent with this name is {own}" if own else ""
        raise InvalidAddress(f"invalid mail_address: {begin!r}; {_RULE}{hint}")
    return address


def upwards(address: str) -> Iterator[str]:
    """Yield an address and those that it is below, the longest first: ``a.b.c``, ``a.b``, ``a``."""
    while address:
        yield address
        address = address.rpartition(".")[0]


def slug(name: str) -> str:
    """Return the default address of an agent's mailbox.

    The name in lower case, with each run of other characters as one dot: ``Claude-Desktop`` becomes
    ``claude.desktop``.
    """
    address = _OTHER_CHARACTERS.sub(".", name.lower()).strip(".")
    if not address:
        raise InvalidRequest(
            f"name: {shown(name)} has no letter a-z and no digit to make a mail_address of; "
            "give the mailbox as well"
        )
    return parse(address[:MAX_LENGTH].rstrip("."))


def slug_or_none(name: str) -> str | None:
    """Return the slug of a name, or None if it has none."""
    try:
        return slug(name)
    except InvalidRequest:
        return None


def generate(randomness: bytes, prefix: str | None = None) -> str:
    """Return a random address, which cannot be guessed."""
    if len(randomness) != RANDOM_BYTES:
        raise ValueError(f"randomness: {len(randomness)} bytes, {RANDOM_BYTES} are needed")
    random_part = b32encode(randomness).decode("ascii").rstrip("=").lower()
    return parse(f"{parse(prefix)}.{random_part}" if prefix is not None else random_part)
