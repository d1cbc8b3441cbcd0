"""The frame around an encoded command or outcome: a format version and a checksum.

In every version the first byte is the version and the next four are the CRC-32 of the rest, which
takes the version as its initial value. In version 1 the rest is one value of MessagePack.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

import ormsgpack

from mq9.engine.codec.shapes import Misfit, Shape

VERSION = 1
_HEAD = 5  # bytes


class UnreadableEntry(Exception):  # what follows from an entry that is left out is another state
    """An encoded command or outcome that this release cannot read; nothing may come after it."""


class DamagedEntry(UnreadableEntry):
    """The bytes are not those that were written."""


class UnknownEntry(UnreadableEntry):
    """The bytes hold a version, a kind, a field or a value that this release does not know."""


def frame(plain: Any) -> bytes:
    """Return the bytes of a command or an outcome.

    Args:
        plain: What a shape has written.

    Raises:
        ValueError: A text cannot be written as UTF-8.
    """
    try:
        body = ormsgpack.packb(plain)
    except ormsgpack.MsgpackEncodeError as error:
        raise ValueError(f"cannot be encoded: {error}") from None
    return b"%c%b%b" % (VERSION, crc32(body, VERSION).to_bytes(4), body)


def unframe(data: bytes, shape: Shape) -> Any:
    """Return the command or the outcome that ``frame`` was given.

    Args:
        data: The bytes.
        shape: What is to be in them.

    Raises:
        UnreadableEntry: It is not.
    """
    if len(data) < _HEAD:
        raise DamagedEntry(f"{len(data)} bytes are too few for an entry")
    version = data[0]
    body = memoryview(data)[_HEAD:]
    if crc32(body, version) != int.from_bytes(data[1:_HEAD]):
        raise DamagedEntry(f"the checksum of an entry of {len(data)} bytes is wrong")
    if version != VERSION:
        raise UnknownEntry(f"the format version {version} is not known, only up to {VERSION}")
    try:
        return shape.read(ormsgpack.unpackb(body))
    except (ormsgpack.MsgpackDecodeError, Misfit) as error:
        raise UnknownEntry(f"in format version {version}: {error}") from None
