"""What a server says, as bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from mq9.wire import headers as blocks

PING = b"PING\r\n"
PONG = b"PONG\r\n"
OK = b"+OK\r\n"

_NO_RESPONDERS = blocks.encode((), "503")


def info(fields: Mapping[str, Any]) -> bytes:
    """Say what kind of server this is."""
    return b"INFO " + orjson.dumps(dict(fields)) + b"\r\n"


def error(text: str) -> bytes:
    """Say what the client did wrong.

    Args:
        text: One line without a single quote in it; what is not printable is left out.
    """
    safe = "".join(one for one in text if one.isprintable() and one != "'")
    return f"-ERR '{safe}'\r\n".encode()


def message(
    subject: str,
    sid: str,
    reply: str | None,
    headers: Sequence[tuple[str, str]],
    payload: bytes,
) -> bytes:
    """Hand a message to a subscription.

    Raises:
        ValueError: A header would be more than one to whoever reads it.
    """
    to = f"{subject} {sid} {reply}" if reply is not None else f"{subject} {sid}"
    if not headers:
        return b"MSG %b %d\r\n%b\r\n" % (to.encode(), len(payload), payload)
    return _with_block(to, blocks.encode(headers), payload)


def no_responders(subject: str, sid: str) -> bytes:
    """Say that nobody listens where the client asked."""
    return _with_block(f"{subject} {sid}", _NO_RESPONDERS, b"")


def _with_block(to: str, block: bytes, payload: bytes) -> bytes:
    whole = len(block) + len(payload)
    return b"HMSG %b %d %d\r\n%b%b\r\n" % (to.encode(), len(block), whole, block, payload)
