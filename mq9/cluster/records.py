"""What one append to the log holds: calls of one gateway, as bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mq9.engine.codec import DamagedEntry, decode_call, frame, unframe
from mq9.engine.commands import Call
from mq9.engine.shapes import RAW, TEXT, WHOLE, Field, Record, optional, tuple_of
from mq9.protocol.body import Request

ENTRY_BITS = 12
MOST_CALLS = 256  # in one record; at most 1 << ENTRY_BITS, so that each has an index of its own


class NoRecord(Exception):
    """What is in the log is no record of any release; whoever reads it finds that."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """Calls that one gateway appended together, applied in one transaction.

    Attributes:
        gateway: Who appended them; no two processes have the same name.
        number: Of the records that the gateway has appended, which one this is.
        at_ms: Until when time had come, at least, when it was appended, in milliseconds since the
            Unix epoch.
        calls: The encoded calls.
        verify: Where every gateway is to send the digest of the state that it has then; None where
            nobody asked for it.
    """

    gateway: str
    number: int
    at_ms: int
    calls: tuple[bytes, ...] = ()
    verify: str | None = None

    def read(self) -> list[Call[Request[Any]]]:
        """Return the calls.

        Raises:
            UnreadableEntry: One is damaged, or has in it what this release does not know.
        """
        return [decode_call(call) for call in self.calls]


_RECORD = Record(
    LogRecord,
    Field("gateway", TEXT),
    Field("number", WHOLE),
    Field("at_ms", WHOLE),
    Field("calls", tuple_of(RAW), ()),
    optional("verify", TEXT),
)


def encode(record: LogRecord) -> bytes:
    """Return the bytes of a record."""
    return frame(_RECORD.write(record))


def decode(data: bytes) -> LogRecord:
    """Return the record that was encoded, by this release or an older one.

    Raises:
        NoRecord: It was none, or is damaged.
        UnknownEntry: It has in it what this release does not know.
    """
    try:
        record: LogRecord = unframe(data, _RECORD)
    except DamagedEntry as error:
        raise NoRecord(str(error)) from error
    return record


def first_index(sequence: int) -> int:
    """Return the index of the first entry of a record, which is number ``sequence`` of the log."""
    return sequence << ENTRY_BITS


def sequence_of(index: int) -> int:
    """Return which record of the log an entry was in; 0 for what was there before the log."""
    return index >> ENTRY_BITS
