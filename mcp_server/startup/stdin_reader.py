"""Standard input, read from the start, so that the first requests do not wait for the MCP SDK."""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from collections.abc import Callable
from io import StringIO, TextIOWrapper
from threading import Lock, Semaphore, Thread
from typing import BinaryIO, TextIO

from mcp_server.startup.early_responder import EarlyResponder

_logger = logging.getLogger("mq9.mcp")

_MAX_KEPT_LINES = 20  # that were read and not taken yet


class StdinReader:
    """Reads lines in a thread of its own, answers the first requests and keeps the other lines.

    Args:
        responder: Answers; None to answer nothing.
        reading: What the client writes.
        writing: Where the answers go, until the SDK takes over.
    """

    def __init__(
        self, responder: EarlyResponder | None, reading: TextIO, writing: BinaryIO
    ) -> None:
        self._responder = responder
        self._reading = reading
        self._writing = writing
        self._lines = deque[str]()
        self._room = Semaphore(_MAX_KEPT_LINES)
        self._lock = Lock()  # held while a line is answered or kept
        self._wake: Callable[[], None] | None = None  # once the SDK has taken over
        self._has_ended = False

    def start(self) -> None:
        """Begin to read."""
        # It may wait for a line when the program ends.
        Thread(target=self._read, name="mq9-mcp standard input", daemon=True).start()

    def take_over(self, wake: Callable[[], None]) -> None:
        """Answer nothing from now on: the SDK does.

        Args:
            wake: Called, in any thread, when there may be something to take.
        """
        with self._lock:
            self._wake = wake

    @property
    def listening(self) -> set[int | str]:
        """The ids of the requests to listen that were acknowledged here."""
        return set() if self._responder is None else self._responder.listening

    def take(self) -> str | None:
        """Return the next line that was not answered; empty at the end, and None while none is."""
        if self._has_ended:
            return ""
        if not self._lines:
            return None
        self._room.release()
        return self._lines.popleft()

    def end(self) -> None:
        """Read no more: the input has ended."""
        self._has_ended = True
        if self._wake is not None:
            self._wake()

    def _read(self) -> None:
        try:
            while line := self._reading.readline():
                kept = self._answer(line)
                if kept is not None:
                    self._keep(kept)
        except OSError as error:  # the client has closed its end
            _logger.warning("%s", error)
        self._keep("")

    def _keep(self, line: str) -> None:
        self._room.acquire()
        with self._lock:
            self._lines.append(line)
            if self._wake is not None:
                self._wake()

    def _answer(self, line: str) -> str | None:
        """Answer a line, if that is possible; return what the SDK is to read of it, if anything."""
        with self._lock:
            if self._wake is not None or self._responder is None:
                return line
            answer, kept = self._responder.respond(line)
            if answer is not None:
                self._writing.write(answer)
                self._writing.flush()
            return kept


def read_standard_input(responder: EarlyResponder | None) -> StdinReader:
    """Return a reader of standard input, which nothing else in this process reads from then on.

    Args:
        responder: Answers the first requests on standard output; None to answer none.
    """
    if sys.stdin is None:
        return StdinReader(responder, StringIO(), sys.stdout.buffer)
    wire = os.dup(0)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    # It is not closed: a thread may be reading it to the end.
    reading = os.fdopen(wire, "rb", closefd=False)
    return StdinReader(
        responder, TextIOWrapper(reading, encoding="utf-8", errors="replace"), sys.stdout.buffer
    )
