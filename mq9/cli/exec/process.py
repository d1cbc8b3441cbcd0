"""One run of a command, under its guard."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

_GUARD = Path(__file__).with_name("guard.py")
_MOST_ERRORS = 4_000  # bytes of standard error that are kept, the last ones
_LAST_OUTPUT_S = 1.0  # for output on its way, where somebody keeps the stream open
_LONGEST_CHARACTER = 4  # bytes of UTF-8


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The end of a command.

    Attributes:
        code: Its exit code; the negative number of the signal that ended it.
        is_lease_over: Whether the guard ended it because nobody renewed its lease.
        output: The beginning of its standard output.
        output_bytes: Size of the whole output in bytes.
        errors: The end of its standard error.
        seconds: Run time in seconds.
    """

    code: int
    is_lease_over: bool
    output: bytes
    output_bytes: int
    errors: bytes
    seconds: float

    @property
    def how(self) -> str:
        """The end in words."""
        if self.code >= 0:
            return f"exit code {self.code}"
        try:
            return signal.Signals(-self.code).name
        except ValueError:
            return f"signal {-self.code}"


class _Stream(asyncio.Protocol):
    """Reads a stream of the command to its end, and keeps a bounded part of it."""

    def __init__(self, most: int, *, keeps_end: bool = False) -> None:
        self.kept = bytearray()
        self.total = 0
        self.ended = asyncio.get_running_loop().create_future()
        self._most = most
        self._keeps_end = keeps_end

    def data_received(self, data: bytes) -> None:
        """Keep of some data what there is room for."""
        self.total += len(data)
        if self._keeps_end:
            self.kept += data
            del self.kept[: -self._most]
        else:
            self.kept += data[: self._most - len(self.kept)]

    def connection_lost(self, _error: Exception | None) -> None:
        """Note the end of the stream."""
        if not self.ended.done():
            self.ended.set_result(None)


def _itself(stream: _Stream) -> _Stream:
    return stream


class GuardedCommand:
    """A command that has been started; see ``guard``.

    Args:
        process: The guard.
        control: The socket to it.
        output: The command's standard output.
        errors: Its standard error.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        control: socket.socket,
        output: _Stream,
        errors: _Stream,
    ) -> None:
        self._process = process
        self._control = control
        self._output = output
        self._errors = errors
        self._began = time.monotonic()
        self._transports: list[asyncio.BaseTransport] = []

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        stdin: bytes,
        held_until: float,
        grace: float,
        max_output: int,
        directory: Path | None = None,
        kept_open: Sequence[int] = (),
    ) -> GuardedCommand:
        """Start a command.

        Args:
            command: The program and its arguments.
            environment: All of its variables.
            stdin: What it reads from standard input.
            held_until: When its lease ends, by the monotonic clock; see ``hold_until``.
            grace: Seconds between SIGTERM and SIGKILL.
            max_output: Bytes of standard output to keep, from its beginning.
            directory: A directory that the guard removes if this process dies.
            kept_open: Descriptors that the guard keeps open until the command has ended.
        """
        ours, theirs = socket.socketpair()
        passed = [theirs.fileno(), *kept_open]
        program = [sys.executable, "-I", "-S", str(_GUARD), ",".join(map(str, passed))]
        with theirs, tempfile.TemporaryFile() as body, ExitStack() as undo:
            undo.callback(ours.close)
            body.write(stdin)
            body.seek(0)
            process = subprocess.Popen(  # noqa: S603, ASYNC220  # it only forks, and no shell reads it
                [*program, f"{grace:g}", str(directory or ""), *command],
                stdin=body,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                pass_fds=passed,
                start_new_session=True,
            )
            undo.pop_all()
        ours.setblocking(False)
        output, errors = _Stream(max_output), _Stream(_MOST_ERRORS, keeps_end=True)
        running = cls(process, ours, output, errors)
        running.hold_until(held_until)
        loop = asyncio.get_running_loop()
        for stream, pipe in ((output, process.stdout), (errors, process.stderr)):
            transport, _ = await loop.connect_read_pipe(partial(_itself, stream), pipe)
            running._transports.append(transport)
        return running

    def hold_until(self, instant: float) -> None:
        """Let the command run until an instant of the monotonic clock: the end of its lease."""
        self._tell(f"{instant!r}\n")

    def end(self) -> None:
        """End the command and its group: by SIGTERM, then by SIGKILL."""
        self._tell("end\n")

    async def ended(self) -> Ended:
        """Wait for the end of the command and of its group."""
        told = b""
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):
            while data := await loop.sock_recv(self._control, 100):
                told += data
        if not told:  # the guard was killed itself
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        await asyncio.to_thread(self._process.wait)
        await asyncio.wait([self._output.ended, self._errors.ended], timeout=_LAST_OUTPUT_S)
        code, _, reason = told.decode().strip().partition(" ")
        return Ended(
            code=int(code or -signal.SIGKILL),
            is_lease_over=reason == "lease",
            output=_whole_characters(self._output),
            output_bytes=self._output.total,
            errors=bytes(self._errors.kept),
            seconds=time.monotonic() - self._began,
        )

    def close(self) -> None:
        """Leave the command to its guard, which ends it if it has not ended."""
        self._control.close()
        for transport in self._transports:
            transport.close()

    def _tell(self, line: str) -> None:
        with suppress(OSError):  # it has ended
            self._control.send(line.encode())


def _whole_characters(stream: _Stream) -> bytes:
    """Return what was kept of a stream, without the part of a character where UTF-8 was cut."""
    kept = bytes(stream.kept)
    if stream.total == len(kept):
        return kept
    for cut in range(_LONGEST_CHARACTER):
        whole = kept[: len(kept) - cut]
        with suppress(UnicodeDecodeError):
            whole.decode()
            return whole
    return kept
