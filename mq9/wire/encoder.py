"""Encoders of the messages of a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

PING = b"PING\r\n"
PONG = b"PONG\r\n"
OK = b"+OK\r\n"


def info(fields: Mapping[str, Any]) -> bytes:
    """Return an INFO, which describes the server."""
    return b"INFO " + orjson.dumps(dict(fields)) + b"\r\n"


def error(text: str) -> bytes:
    """Return a -ERR, which reports a client's error."""
    safe = "".join(one for one in text if one.isprintable() and one != "'")
    return f"-ERR '{safe}'\r\n".encode()


def message(subject: str, sid: str, reply: str | None, head: int, size: int) -> bytes:
    """Return the control line of a message for a subscription.

    The block of headers, the payload and CR LF follow it; see `body`.
    """
    to = f"{subject} {sid}" if reply is None else f"{subject} {sid} {reply}"
    line = f"HMSG {to} {head} {head + size}\r\n" if head else f"MSG {to} {size}\r\n"
    return line.encode(errors="surrogateescape")


def text_message(subject: str, sid: str, payload: str) -> str:
    """Return a message without headers for a subscription as text; the payload is ASCII."""
    return f"MSG {subject} {sid} {len(payload)}\r\n{payload}\r\n"


def body(block: bytes, payload: bytes) -> bytes:
    """Return the bytes after the control line of a message, the same for all subscribers."""
    return b"%b%b\r\n" % (block, payload)


def no_responders(inbox: str, sid: str, subject: str) -> bytes:
    """Return the message to an inbox that nobody listens to the subject of its request."""
    asked = subject.encode(errors="surrogateescape")
    block = b"NATS/1.0 503\r\nNats-Subject: %b\r\n\r\n" % asked
    return message(inbox, sid, None, len(block), 0) + body(block, b"")
