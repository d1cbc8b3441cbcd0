"""Encoders of the messages of a client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson


def connect(options: Mapping[str, Any]) -> bytes:
    """Return a CONNECT, with the client's identity and options."""
    return b"CONNECT " + orjson.dumps(dict(options)) + b"\r\n"


def publish(subject: bytes, reply: bytes, block: bytes, payload: bytes) -> bytes:
    """Return a PUB or HPUB; ``reply`` and the block of headers may be empty."""
    to = b"%b %b" % (subject, reply) if reply else subject
    if not block:
        return b"PUB %b %d\r\n%b\r\n" % (to, len(payload), payload)
    head = len(block)
    return b"HPUB %b %d %d\r\n%b%b\r\n" % (to, head, head + len(payload), block, payload)


def subscribe(subject: bytes, sid: int) -> bytes:
    """Return a SUB for a subject, which may have wildcards."""
    return b"SUB %b %d\r\n" % (subject, sid)


def unsubscribe(sid: int, max_messages: int = 0) -> bytes:
    """Return an UNSUB, which takes effect after ``max_messages`` if that is not 0."""
    if max_messages:
        return b"UNSUB %d %d\r\n" % (sid, max_messages)
    return b"UNSUB %d\r\n" % sid
