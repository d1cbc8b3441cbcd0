"""Bytes from a client to frames.

A frame is a control line. For PUB and HPUB a payload follows, with the length that the line
announces. As with other NATS servers, a line may end without CR, and spaces or tabs may separate
its words. A subject may be any word; the router checks it. The block of headers is not decoded
here. The parser never buffers more than the limits, however slowly the bytes come.

Subjects, queue groups and sids may be any bytes without spaces. They are decoded with
``surrogateescape``, so that they are written as they were read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson


class ProtocolError(Exception):
    """The client violates the protocol; the text is sent after ``-ERR``."""


@dataclass(frozen=True, slots=True)
class Connect:
    """The client's identity and options."""

    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ping:
    """A request for a PONG, to check the connection."""


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a PING."""


class Publish(NamedTuple):  # a NamedTuple, because it is created twice as fast as a dataclass
    """A message to the subscribers of a subject."""

    subject: str
    reply: str | None  # the subject for the answer
    block: bytes  # of headers as the client wrote it; may be empty
    payload: bytes


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A subscription to a subject, which may have wildcards."""

    subject: str
    queue: str | None  # the queue group, of which one member gets each message
    sid: str  # the client's name for this subscription


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """The end of a subscription."""

    sid: str
    max_messages: int | None  # end it only after that many messages since it began


Frame = Connect | Ping | Pong | Publish | Subscribe | Unsubscribe


# Control lines as clients usually write them: subjects in ASCII, and one space between words.
_SUBJECTS = rb"([!-~]{1,255}) (?:([!-~]{1,255}) )?"
_PUB = re.compile(rb"PUB " + _SUBJECTS + rb"()([0-9]{1,10})\r\n").match
_HPUB = re.compile(rb"HPUB " + _SUBJECTS + rb"([0-9]{1,10}) ([0-9]{1,10})\r\n").match
_MOST_DIGITS = 10
_UNKNOWN = "Unknown Protocol Operation"
_MALFORMED = "Parser Error"
_TOO_LONG = "maximum control line exceeded"
_CONNECT = b"CONNECT"
_LONGEST_LINE = 4096  # bytes without its end
_LONGEST_CONNECT = 64 * 1024
_WORDY = {b"PUB", b"HPUB", b"SUB", b"UNSUB"}  # verbs with arguments
# The types of the options of a CONNECT that a server reads.
_OPTIONS = {
    **dict.fromkeys(("verbose", "pedantic", "echo", "headers", "no_responders"), bool),
    **dict.fromkeys(("user", "pass", "auth_token", "name", "lang", "version"), str),
    "protocol": int,
}


class Parser:
    """A parser of the bytes of a client, which come in pieces of any size."""

    def __init__(
        self,
        max_payload: int,
        max_message: int | None = None,
        *,
        must_connect: bool = False,
    ) -> None:
        self._max_payload = max_payload
        self._max_message = max_payload if max_message is None else max_message
        self._must_connect = must_connect
        self._buffer = bytearray()
        self._searched = 0  # bytes without an end of a line
        self._pending: tuple[str, str | None, int, int] | None = None  # a PUB without its payload
        self.error: ProtocolError | None = None  # why nothing more can be read

    @property
    def buffered(self) -> int:
        """Number of buffered bytes."""
        return len(self._buffer)

    def feed(self, data: bytes | memoryview) -> list[Frame]:
        """Return the frames that are complete with these bytes, which are copied.

        After an error, ``error`` is set and all further bytes are ignored. Frames before the error
        are still returned.
        """
        frames: list[Frame] = []
        if self.error is not None:
            return frames
        self._buffer += data
        start = 0
        try:
            with memoryview(self._buffer) as view:
                if self._pending is not None:
                    start = self._next(frames, view, 0) or 0
                if self._pending is None and not self._must_connect:
                    start = self._complete(frames, start)
                while (taken := self._next(frames, view, start)) is not None:
                    start = taken
        except ProtocolError as error:
            self.error = error
            self._buffer.clear()
            return frames
        if start:
            del self._buffer[:start]
        return frames

    def _complete(self, frames: list[Frame], start: int) -> int:
        """Read complete messages in the usual form; return where the next begins.

        All other frames, including malformed messages, are left to `_next`.
        """
        data = bytes(self._buffer)
        size = len(data)
        while start < size and (line := _HPUB(data, start) or _PUB(data, start)) is not None:
            subject, reply, head, total = line.groups()
            begin = line.end()
            middle, end = begin + int(head or 0), begin + int(total)
            if (
                end + 2 > size
                or middle > end
                or end - begin > self._max_message
                or end - middle > self._max_payload
                or not data.startswith(b"\r\n", end)
            ):
                break
            to = None if reply is None else reply.decode()
            frames.append(Publish(subject.decode(), to, data[begin:middle], data[middle:end]))
            start = end + 2
            self._searched = 0
        return start

    def _next(self, frames: list[Frame], view: memoryview, start: int) -> int | None:
        """Read a line or a payload; return where the next begins, or None if bytes are missing."""
        if self._pending is not None:
            return self._payload(frames, view, start, self._pending)
        end = self._buffer.find(b"\n", start + self._searched)
        if end < 0:
            self._searched = len(self._buffer) - start
            self._check_length(start, self._searched)
            return None
        self._searched = 0
        self._check_length(start, end - start)
        self._line(frames, bytes(view[start:end]))
        return end + 1

    def _check_length(self, start: int, length: int) -> None:
        """Refuse a line that is too long, complete or not."""
        if length <= _LONGEST_LINE:
            return
        verb = self._buffer[start : start + len(_CONNECT)].upper()
        if verb != _CONNECT or length > _LONGEST_CONNECT:
            raise ProtocolError(_TOO_LONG)

    def _line(self, frames: list[Frame], raw: bytes) -> None:
        line = raw.removesuffix(b"\r").replace(b"\t", b" ").replace(b"\r", b" ")
        verb, space, rest = line.partition(b" ")
        verb = verb.upper()
        if verb == _CONNECT:
            frames.append(_connect(rest))
            self._must_connect = False
            return
        if self._must_connect:
            raise ProtocolError("Authorization Violation")
        if not space and verb in _WORDY:
            raise ProtocolError(_UNKNOWN)
        words = str(rest, "utf-8", "surrogateescape").split(" ")
        if "" in words:
            words = [word for word in words if word]
        if verb == b"PUB" and 2 <= len(words) <= 3:
            self._announce(words[:-1], 0, _number(words[-1]))
        elif verb == b"HPUB" and 3 <= len(words) <= 4:
            self._announce(words[:-2], _number(words[-2]), _number(words[-1]))
        else:
            frames.append(_short(verb, words))

    def _announce(self, subjects_given: list[str], head: int, total: int) -> None:
        """Note a message whose payload follows."""
        if head > total:
            raise ProtocolError(_MALFORMED)
        if total > self._max_message or total - head > self._max_payload:
            raise ProtocolError("Maximum Payload Violation")
        subject, *reply = subjects_given
        self._pending = (subject, reply[0] if reply else None, head, total)

    def _payload(
        self,
        frames: list[Frame],
        view: memoryview,
        start: int,
        pending: tuple[str, str | None, int, int],
    ) -> int | None:
        subject, reply, head, total = pending
        middle, end = start + head, start + total
        if len(view) < end + 2:
            return None
        if not self._buffer.startswith(b"\r\n", end):
            raise ProtocolError(_UNKNOWN)
        block = bytes(view[start:middle]) if head else b""
        frames.append(Publish(subject, reply, block, bytes(view[middle:end])))
        self._pending = None
        return end + 2


def _short(verb: bytes, words: list[str]) -> Frame:
    """Return a frame that has only a control line."""
    match verb, words:
        case b"SUB", [subject, *queue, sid] if len(queue) <= 1:
            return Subscribe(subject, queue[0] if queue else None, sid)
        case b"UNSUB", [sid, *most] if len(most) <= 1:
            return Unsubscribe(sid, _number(most[0]) if most else None)
        case b"PING", _:
            return Ping()
        case b"PONG", _:
            return Pong()
        case ((b"PUB" | b"HPUB" | b"SUB" | b"UNSUB"), _):
            raise ProtocolError(_MALFORMED)
        case _:
            raise ProtocolError(_UNKNOWN)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise ProtocolError(_MALFORMED)
    return int(text)


def _connect(data: bytes) -> Connect:
    try:
        options: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise ProtocolError(_MALFORMED) from None
    if not isinstance(options, dict):
        raise ProtocolError(_MALFORMED)
    for name, kind in _OPTIONS.items():
        value = options.get(name)
        if value is not None and type(value) is not kind:  # exactly, because True is an int
            raise ProtocolError(_MALFORMED)
    if options.get("protocol") not in {None, 0, 1}:
        raise ProtocolError("invalid client protocol")
    return Connect({name: value for name, value in options.items() if value is not None})
