"""Bytes from a server to frames.

The half of the protocol that `mq9.wire.parser` leaves out. Nearly all frames to a client are
messages without headers, so these are read in one step. The parser never buffers more than the
limits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from mq9.wire.parser import Ping, Pong, ProtocolError


class Message(NamedTuple):  # a NamedTuple, because it is created twice as fast as a dataclass
    """A message for one of the client's subscriptions."""

    subject: bytes
    block: bytes  # of headers; may be empty
    payload: bytes


@dataclass(frozen=True, slots=True)
class Info:
    """The server's description: the first frame, repeated after a change."""

    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ok:
    """The confirmation of a frame, for clients with the option ``verbose``."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error of the client. The server usually closes the connection after it."""

    text: str


Frame = Message | Info | Ping | Pong | Ok | Refusal

MAX_PAYLOAD = 64 * 1024 * 1024  # bytes, the highest limit that a NATS server can have
_MAX_HEADERS = 64 * 1024  # bytes, which an mq9 server does not count as payload
_LONGEST_LINE = 4096  # bytes without its end
_LONGEST_INFO = 64 * 1024
_PLAIN = re.compile(rb"MSG (\S+) \S+ (?:\S+ )?(\d{1,10})\r\n").match
_NUMBER = re.compile(rb"\d{1,10}").fullmatch
_MALFORMED = "a line that is not a NATS frame"


class ServerParser:
    """A parser of the bytes of a server, which come in pieces of any size."""

    def __init__(self, max_message: int = MAX_PAYLOAD + _MAX_HEADERS) -> None:
        self._max_message = max_message
        self._surely_taken = min(max_message, _LONGEST_LINE)  # bytes of a frame within all limits
        self._kept = bytearray()  # the beginning of a frame
        self._wanted = 0  # bytes of that frame with its payload; 0 while its line has no end
        self.error: ProtocolError | None = None  # why nothing more can be read

    @property
    def buffered(self) -> int:
        """Number of buffered bytes."""
        return len(self._kept)

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that are complete with these bytes.

        After an error, ``error`` is set and all further bytes are ignored. Frames before the error
        are still returned.
        """
        frames: list[Frame] = []
        if self.error is not None:
            return frames
        if self._kept:
            self._kept += data
            if len(self._kept) < self._wanted:
                return frames
            data = bytes(self._kept)
            self._kept.clear()
        try:
            start = self._read(frames, data)
        except ProtocolError as error:
            self.error = error
        else:
            if start < len(data):
                self._kept += data[start:]
        return frames

    def _read(self, frames: list[Frame], data: bytes) -> int:
        """Read all complete frames; return where the incomplete one begins."""
        self._wanted = 0
        start, size = 0, len(data)
        while start < size:
            plain = _PLAIN(data, start)
            if plain is not None:
                begin = plain.end()
                end = begin + int(plain[2])
                if data[end : end + 2] == b"\r\n" and end - start <= self._surely_taken:
                    frames.append(Message(plain[1], b"", data[begin:end]))
                    start = end + 2
                    continue
            taken = self._frame(frames, data, start)
            if taken is None:
                break
            start = taken
        return start

    def _frame(self, frames: list[Frame], data: bytes, start: int) -> int | None:
        """Read a frame of any kind; return where the next begins, or None if bytes are missing."""
        end = data.find(b"\n", start)
        length = (len(data) if end < 0 else end) - start
        most = _LONGEST_INFO if data[start : start + 4].upper() == b"INFO" else _LONGEST_LINE
        if length > most + 1:
            raise ProtocolError("a line that is too long")
        if end < 0:
            return None
        line = data[start:end].removesuffix(b"\r")
        verb, *rest = line.split(None, 1)[:2] or [b""]
        verb = verb.upper()
        if verb not in {b"MSG", b"HMSG"}:
            frames.append(_short(verb, b"".join(rest)))
            return end + 1
        *words, total = _words(verb, b"".join(rest).split())
        head = _number(words.pop()) if verb == b"HMSG" else 0
        begin, middle, last = end + 1, end + 1 + head, end + 1 + _number(total)
        if middle > last:
            raise ProtocolError(_MALFORMED)
        if last - begin > self._max_message:
            raise ProtocolError(f"a message of more than {self._max_message} bytes")
        if len(data) < last + 2:
            self._wanted = last + 2 - start
            return None
        if data[last : last + 2] != b"\r\n":
            raise ProtocolError("a message that is longer than announced")
        frames.append(Message(words[0], data[begin:middle], data[middle:last]))
        return last + 2


def _words(verb: bytes, words: list[bytes]) -> list[bytes]:
    """Return the words after MSG or HMSG; raise ProtocolError if their number is wrong."""
    least = 3 if verb == b"MSG" else 4
    if not least <= len(words) <= least + 1:
        raise ProtocolError(_MALFORMED)
    return words


def _short(verb: bytes, rest: bytes) -> Frame:
    """Return a frame that has only a control line."""
    match verb:
        case b"PING":
            return Ping()
        case b"PONG":
            return Pong()
        case b"+OK":
            return Ok()
        case b"-ERR":
            return Refusal(
                rest.decode(errors="replace").strip().removeprefix("'").removesuffix("'")
            )
        case b"INFO":
            return _info(rest)
    raise ProtocolError(_MALFORMED)


def _number(text: bytes) -> int:
    if _NUMBER(text) is None:
        raise ProtocolError(_MALFORMED)
    return int(text)


# The types of the fields of an INFO that a client reads.
_FIELDS: dict[str, type] = {
    **dict.fromkeys(("tls_required", "tls_available", "auth_required", "headers", "ldm"), bool),
    **dict.fromkeys(("max_payload", "max_message"), int),
    "nonce": str,
    "connect_urls": list,
}


def _info(data: bytes) -> Info:
    try:
        fields: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict):
        raise ProtocolError("an INFO that is no JSON object")
    for name, kind in _FIELDS.items():
        value = fields.get(name)
        if value is not None and type(value) is not kind:  # exactly, because True is an int
            raise ProtocolError(f"an INFO whose {name} is not of the type that it has")
    return Info({name: value for name, value in fields.items() if value is not None})
