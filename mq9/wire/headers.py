"""The block of headers in front of a payload.

The block is ``NATS/1.0``, a status where there is one, a line for each header and an empty line,
all of them ended by CR LF. Whatever follows the colon is the value, but for the one space that
clients put there.
"""

from __future__ import annotations

from collections.abc import Sequence

from mq9.wire.frames import ProtocolError

_VERSION = "NATS/1.0"
_END = "\r\n"


def encode(headers: Sequence[tuple[str, str]], status: str | None = None) -> bytes:
    """Return the block of these headers.

    Raises:
        ValueError: One would be more than one header to whoever reads it.
    """
    lines = [_VERSION if status is None else f"{_VERSION} {status}"]
    for name, value in headers:
        line = f"{name}: {value}"
        if not name or ":" in name or "\r" in line or "\n" in line:
            raise ValueError(f"{name!r}: {value!r} is not one header")
        lines.append(line)
    return (_END.join(lines) + _END + _END).encode()


def decode(block: bytes) -> tuple[tuple[str, str], ...]:
    """Return name and value of each header in a block.

    Raises:
        ProtocolError: It is not such a block.
    """
    try:
        text = block.decode()
    except UnicodeDecodeError:
        raise ProtocolError("Bad Header") from None
    if not text.startswith(_VERSION) or not text.endswith(_END + _END):
        raise ProtocolError("Bad Header")
    first, *lines = text.removesuffix(_END + _END).split(_END)
    if first[len(_VERSION) :][:1].strip():
        raise ProtocolError("Bad Header")
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or "\n" in line or "\r" in line:
            raise ProtocolError("Bad Header")
        headers.append((name, value.removeprefix(" ")))
    return tuple(headers)
