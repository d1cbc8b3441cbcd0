"""The block of headers in front of a payload.

The block is ``NATS/1.0``, an optional status, a line for each header and an empty line. Each line
ends with CR LF. A server relays the block as it is and decodes it only for its own use.
"""

from __future__ import annotations

from collections.abc import Iterable

_VERSION = "NATS/1.0"
_END = "\r\n"


def encode(headers: Iterable[tuple[str, str]]) -> bytes:
    """Return the block of some headers, whose values have no line breaks."""
    lines = "".join([f"{name}: {value}{_END}" for name, value in headers])
    return f"{_VERSION}{_END}{lines}{_END}".encode()


def decode(block: bytes) -> tuple[tuple[str, str], ...]:
    """Return name and value of each header in a block, in order.

    The value is all text after the colon, without the one space that clients put there. A status is
    left out. Headers over several lines raise ValueError.
    """
    if not block:
        return ()
    try:
        text = block.decode()
    except UnicodeDecodeError:
        raise ValueError("they are not UTF-8") from None
    first, *lines = text.removesuffix(_END + _END).split(_END)
    if not text.endswith(_END + _END) or (first != _VERSION and first[:9] != f"{_VERSION} "):
        raise ValueError(f"they are no block of {_VERSION}")
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or name[0].isspace() or "\n" in line or "\r" in line:
            raise ValueError(f"{line[:64]!r} is not one header")
        headers.append((name, value.removeprefix(" ")))
    return tuple(headers)
