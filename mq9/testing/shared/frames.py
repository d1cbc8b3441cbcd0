"""What the processes that share a fake broker send each other: JSON, with a payload behind it."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import orjson

_LENGTHS = struct.Struct("!II")
MOST_BYTES = 256 * 1024 * 1024  # of one part

Frame = dict[str, Any]


def encode(frame: Frame, payload: bytes = b"") -> bytes:
    """Write a frame."""
    text = orjson.dumps(frame)
    return _LENGTHS.pack(len(text), len(payload)) + text + payload


async def read(reader: asyncio.StreamReader) -> tuple[Frame, bytes] | None:
    """Read a frame; None at the end of the connection, or for what is none."""
    try:
        text_length, length = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
        if max(text_length, length) > MOST_BYTES:
            return None
        frame = orjson.loads(await reader.readexactly(text_length))
        payload = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, OSError, orjson.JSONDecodeError):
        return None
    return (frame, payload) if isinstance(frame, dict) else None
