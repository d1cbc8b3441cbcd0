"""The NATS headers of all requests.

Names are case-insensitive. A repeated ``mq9-*`` header is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from mq9 import address
from mq9.errors import InvalidRequest
from mq9.protocol import checks

Headers = Sequence[tuple[str, str]]

ENCODING = "mq9-encoding"
UNREAD = "mq9-unread"
BASE64: tuple[str, str] = (ENCODING, "base64")


class PayloadEncoding(StrEnum):
    """The encoding of payloads in the JSON of a reply.

    ``base64``: always base64, with a mark. ``text``: text, but marked base64 for payloads that are
    not UTF-8. ``auto``: the encoding that the client is known to read, else text.
    """

    AUTO = "auto"
    TEXT = "text"
    BASE64 = "base64"


class RequestHeaders(NamedTuple):
    """The headers of a request, sorted."""

    protocol: dict[str, str]  # ``mq9-*``, by lower-case name
    free: tuple[tuple[str, str], ...] = ()  # all except those of mq9 and of NATS


def read(headers: Headers) -> RequestHeaders:
    """Sort the headers of a request."""
    protocol: dict[str, str] = {}
    free: list[tuple[str, str]] = []
    for name, value in headers:
        lower = name.lower()
        if not name.isascii() or not lower.startswith(checks.RESERVED_NAMES):
            free.append((name, value))
        elif lower.startswith("mq9-"):
            if lower in protocol:
                raise InvalidRequest(f"{lower}: the header is repeated")
            protocol[lower] = value
    return RequestHeaders(protocol, tuple(free))


def decode_encoding(values: dict[str, str]) -> PayloadEncoding | None:
    """Return the requested encoding of payloads, if any."""
    encoding = values.get(ENCODING)
    if encoding is None:
        return None
    if encoding not in {PayloadEncoding.BASE64, PayloadEncoding.TEXT}:
        raise InvalidRequest(f"{ENCODING}: {checks.shown(encoding)} is neither base64 nor text")
    return PayloadEncoding(encoding)


def encode_unread(mail_address: str, group_name: str) -> tuple[str, str]:
    """Return the header that requests the number of unread messages of a group."""
    return UNREAD, f"{mail_address}/{group_name}"


def decode_unread(values: dict[str, str]) -> tuple[str, str] | None:
    """Return the mailbox and group whose unread messages are requested, if any."""
    value = values.get(UNREAD)
    if value is None:
        return None
    if value.startswith("mq9://"):
        value = value.removeprefix("mq9://").partition("/")[2]
    mail_address, slash, group_name = value.partition("/")
    if not slash:
        raise InvalidRequest(f"{UNREAD}: {checks.shown(value)} is not address/group")
    return address.parse(mail_address), checks.header_text(UNREAD, group_name)
