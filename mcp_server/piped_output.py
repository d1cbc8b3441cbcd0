"""Standard output as a pipe, which takes most messages without a thread that waits for it."""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from anyio import to_thread


class PipedOutput:
    """Writes texts to a pipe, of which only ``write`` and ``flush`` are asked for.

    A pipe that is ready takes so many bytes without blocking. What is longer, or comes while the
    client does not read, is written by a thread, so that the event loop never waits.

    Args:
        pipe: Nobody else writes to it.
    """

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._readiness = select.poll()
        self._readiness.register(pipe, select.POLLOUT)

    async def write(self, text: str) -> None:
        """Write a text to the pipe, which has taken all of it when this returns."""
        data = text.encode()
        if len(data) <= select.PIPE_BUF and self._is_ready():
            self._write(data)
        else:
            await to_thread.run_sync(self._write, data)

    async def flush(self) -> None:
        """Do nothing: what was written is in the pipe."""

    def _is_ready(self) -> bool:
        return any(event == select.POLLOUT for _, event in self._readiness.poll(0))

    def _write(self, data: bytes) -> None:
        self._pipe.write(data)
        self._pipe.flush()


@contextmanager
def piped_output() -> Iterator[PipedOutput | None]:
    """Take standard output while inside; what others print goes to standard error.

    None where it is no pipe: for those the MCP SDK does so.
    """
    if not _is_pipe():
        yield None
        return
    import fcntl  # noqa: PLC0415  # which Windows has not

    wire = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)
    os.dup2(2, 1)
    try:
        # It is not closed: a thread may still be writing.
        yield PipedOutput(os.fdopen(wire, "wb", closefd=False))
    finally:
        os.dup2(wire, 1)


def _is_pipe() -> bool:
    """Tell whether standard output is a pipe that can be asked, and standard error is there."""
    if not hasattr(select, "poll") or sys.stdout is None or sys.stderr is None:
        return False
    try:
        return (
            sys.stdout.fileno() == 1
            and sys.stderr.fileno() == 2
            and stat.S_ISFIFO(os.fstat(1).st_mode)
        )
    except (OSError, ValueError):  # it is no file, or closed
        return False
