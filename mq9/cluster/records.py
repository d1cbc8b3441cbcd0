"""Records of the log: calls of one gateway, as bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mq9.engine.codec import DamagedEntry, decode_call, frame, unframe
from mq9.engine.commands import Call
from mq9.engine.shapes import INTEGER, RAW, TEXT, Field, Record, optional, pair_of, tuple_of
from mq9.protocol.body import Request

ENTRY_BITS = 12
DEADLINE_MS = 4_000  # of a client's command; a client waits longer, 5 s, unless it chose otherwise
MOST_CALLS = 256  # in one record; at most 1 << ENTRY_BITS, so that each has an index of its own


class NoRecord(Exception):
    """The entry is not a record of any release, for every reader."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """Calls that one gateway appended together, applied in one transaction."""

    gateway: str  # no two processes share a name
    number: int  # counts the gateway's records
    at_ms: int  # lower bound of the instant at which it is applied, Unix milliseconds
    calls: tuple[bytes, ...] = ()
    verify: str | None = None  # inbox to which every gateway sends its digest
    # The last instants at which it is applied: of the log, and of the state. They differ after the
    # clock of the log was set back. A record of an older release has none.
    deadlines_ms: tuple[int, int] | None = None

    def read(self) -> list[Call[Request[Any]]]:
        """Return the calls."""
        return [decode_call(call) for call in self.calls]

    def is_late(self, log_ms: int, state_ms: int) -> bool:
        """Return whether it came to the log after its deadline.

        Args:
            log_ms: The instant at which it came to the log.
            state_ms: The time of the state before it, which never goes back.
        """
        if self.deadlines_ms is None:
            return False
        of_log_ms, of_state_ms = self.deadlines_ms
        return of_log_ms < log_ms or of_state_ms < state_ms


_RECORD = Record(
    LogRecord,
    Field("gateway", TEXT),
    Field("number", INTEGER),
    Field("at_ms", INTEGER),
    Field("calls", tuple_of(RAW), ()),
    optional("verify", TEXT),
    optional("deadlines_ms", pair_of(INTEGER, INTEGER)),
)


def encode(record: LogRecord) -> bytes:
    """Return the bytes of a record."""
    return frame(_RECORD.write(record))


def decode(data: bytes) -> LogRecord:
    """Return a record of this release or an older one."""
    try:
        record: LogRecord = unframe(data, _RECORD)
    except DamagedEntry as error:
        raise NoRecord(str(error)) from error
    return record


def first_index(sequence: int) -> int:
    """Return the index of the first entry of record ``sequence`` of the log."""
    return sequence << ENTRY_BITS


def sequence_of(index: int) -> int:
    """Return the record of the log that has an entry; 0 for entries from before the log."""
    return index >> ENTRY_BITS
