"""Standard input, read from the start: the first questions do not wait for the MCP SDK."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from io import StringIO, TextIOWrapper
from queue import Full, Queue
from threading import Lock, Thread
from typing import BinaryIO, TextIO

from mcp_server.startup.opening import Opening

_logger = logging.getLogger("mq9.mcp")

_MOST_KEPT = 20  # lines that nobody has taken yet


class Front:
    """Reads lines in a thread of its own, answers the first questions and keeps the rest.

    Args:
        opening: Answers; None to answer nothing.
        reading: What the client writes.
        writing: Where the answers go, until the SDK takes over.
    """

    def __init__(self, opening: Opening | None, reading: TextIO, writing: BinaryIO) -> None:
        self._opening = opening
        self._reading = reading
        self._writing = writing
        self._lines = Queue[str](_MOST_KEPT)
        self._lock = Lock()  # held while a line is answered
        self._is_over = False
        self._has_ended = False

    def start(self) -> None:
        """Begin to read."""
        # It may wait for a line when the program ends.
        Thread(target=self._read, name="mq9-mcp standard input", daemon=True).start()

    def take_over(self) -> None:
        """Answer nothing any more: from now on another writes."""
        with self._lock:
            self._is_over = True

    @property
    def listening(self) -> set[int | str]:
        """The ids of the requests to listen that were acknowledged here."""
        return set() if self._opening is None else self._opening.listening

    def readline(self) -> str:
        """Return the next line that was not answered, as soon as there is one; empty at the end."""
        line = self._lines.get()
        return "" if self._has_ended else line

    def end(self) -> None:
        """Read no more: whoever waits for a line is told that there is none."""
        self._has_ended = True
        with suppress(Full):  # then nobody waits
            self._lines.put_nowait("")

    def _read(self) -> None:
        try:
            while line := self._reading.readline():
                left = self._left(line)
                if left is not None:
                    self._lines.put(left)
        except OSError as error:  # the client is gone
            _logger.warning("%s", error)
        self._lines.put("")

    def _left(self, line: str) -> str | None:
        """Return a line that is not answered here, or has to be known all the same."""
        with self._lock:
            if self._is_over or self._opening is None:
                return line
            answer, left = self._opening.heard(line)
            if answer is not None:
                self._writing.write(answer)
                self._writing.flush()
            return left


def standard_front(opening: Opening | None) -> Front:
    """Return a front on standard input and output; nothing else here reads the former."""
    if sys.stdin is None:
        return Front(opening, StringIO(), sys.stdout.buffer)
    wire = os.dup(0)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    # It is not closed: a thread may be reading it to the end.
    reading = os.fdopen(wire, "rb", closefd=False)
    return Front(
        opening, TextIOWrapper(reading, encoding="utf-8", errors="replace"), sys.stdout.buffer
    )
