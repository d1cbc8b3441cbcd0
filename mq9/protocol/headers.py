"""The options of a request that travel as NATS headers, most of them for SEND.

Names are case-insensitive. A repeated ``mq9-*`` header is an error, and so is an empty one. What a
SEND carries beside them, but for the headers of NATS itself, is stored with the message.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mq9 import address
from mq9.errors import InvalidRequest
from mq9.models import Priority
from mq9.protocol import checks
from mq9.protocol.checked import Checked, given
from mq9.protocol.checks import MAX_SECONDS, optional, whole

Headers = Sequence[tuple[str, str]]

ENCODING = "mq9-encoding"
UNREAD = "mq9-unread"
BASE64: tuple[str, str] = (ENCODING, "base64")


class PayloadEncoding(StrEnum):
    """How payloads stand in the JSON of a reply.

    ``base64``: always so, and marked. ``text``: as text, and as marked base64 where they are no
    UTF-8. ``auto``: as the client is known to read them, else as text.
    """

    AUTO = "auto"
    TEXT = "text"
    BASE64 = "base64"


@dataclass(frozen=True, slots=True, kw_only=True)
class SendOptions(Checked):
    """What a SEND says beside its payload. Raises InvalidRequest naming the option and value."""

    priority: Priority = given(Priority.NORMAL, checks.member(Priority), header="mq9-priority")
    key: str | None = given(None, optional(checks.header_text), header="mq9-key")
    delay: int | None = given(None, optional(whole(0, MAX_SECONDS)), header="mq9-delay")
    ttl: int | None = given(None, optional(whole(1, MAX_SECONDS)), header="mq9-ttl")
    tags: tuple[str, ...] = given((), checks.tags, header="mq9-tags")
    id: str | None = given(None, optional(checks.header_text), header="mq9-id")
    sender: str | None = given(None, optional(checks.header_text), header="mq9-from")
    reply_to: str | None = given(None, optional(checks.mail_address), header="mq9-reply-to")
    correlation_id: str | None = given(
        None, optional(checks.header_text), header="mq9-correlation-id"
    )
    path: tuple[str, ...] = given((), checks.path, header="mq9-path")
    headers: tuple[tuple[str, str], ...] = given((), checks.message_headers)

    def __post_init__(self) -> None:
        """Check every option, and that the message outlives its delay."""
        Checked.__post_init__(self)
        if self.ttl is not None and self.delay and self.ttl <= self.delay:
            raise InvalidRequest(f"ttl: {self.ttl} s is not more than the delay of {self.delay} s")

    def encode(self) -> list[tuple[str, str]]:
        """Return the headers; an option that holds its default is left out."""
        encoded = []
        for name, (header, default) in _OPTIONS.items():
            value = getattr(self, name)
            if value != default:
                text = ",".join(value) if isinstance(value, tuple) else str(value)
                encoded.append((header, text))
        return [*encoded, *self.headers]

    @classmethod
    def decode(cls, headers: Headers) -> SendOptions:
        """Read the options from a request's headers.

        Raises:
            InvalidRequest: A header is repeated or malformed.
        """
        values = read(headers)
        options: dict[str, Any] = {}
        for name, (header, default) in _OPTIONS.items():
            if header in values:
                options[name] = _parse(header, values[header], default, name)
        free = tuple((name, value) for name, value in headers if checks.is_free_header(name))
        return cls(**options, headers=free)


# Of the options that are a header of their own: its name, and the option's default.
_OPTIONS = {
    field.name: (field.metadata["header"], field.default)
    for field in dataclasses.fields(SendOptions)
    if "header" in field.metadata
}


def _parse(header: str, text: str, default: object, name: str) -> Any:
    if not text:
        raise InvalidRequest(f"{header}: the header is empty")
    if isinstance(default, tuple):
        return text.split(",")
    if name in {"delay", "ttl"}:
        if not (text.isascii() and text.isdigit() and len(text) <= 20):
            raise InvalidRequest(f"{header}: {checks.shown(text)} is not a whole number of seconds")
        return int(text)
    return text


def read(headers: Headers) -> dict[str, str]:
    """Return the ``mq9-*`` headers by lower-case name.

    Raises:
        InvalidRequest: One is there twice.
    """
    values: dict[str, str] = {}
    for name, value in headers:
        lower = name.lower()
        if name.isascii() and lower.startswith("mq9-"):
            if lower in values:
                raise InvalidRequest(f"{lower}: the header is repeated")
            values[lower] = value
    return values


def decode_encoding(values: dict[str, str]) -> PayloadEncoding | None:
    """Return the encoding of payloads that is asked for, if any.

    Raises:
        InvalidRequest: It is neither base64 nor text.
    """
    encoding = values.get(ENCODING)
    if encoding is None:
        return None
    if encoding not in {PayloadEncoding.BASE64, PayloadEncoding.TEXT}:
        raise InvalidRequest(f"{ENCODING}: {checks.shown(encoding)} is neither base64 nor text")
    return PayloadEncoding(encoding)


def encode_unread(mail_address: str, group_name: str) -> tuple[str, str]:
    """Return the header that asks how much mail waits for a group."""
    return UNREAD, f"{mail_address}/{group_name}"


def decode_unread(values: dict[str, str]) -> tuple[str, str] | None:
    """Return the mailbox and group whose unread mail is asked for, if any.

    Raises:
        InvalidRequest: The header is not ``address/group``.
    """
    value = values.get(UNREAD)
    if value is None:
        return None
    if value.startswith("mq9://"):
        value = value.removeprefix("mq9://").partition("/")[2]
    mail_address, slash, group_name = value.partition("/")
    if not slash:
        raise InvalidRequest(f"{UNREAD}: {checks.shown(value)} is not address/group")
    return address.parse(mail_address), checks.header_text(UNREAD, group_name)
