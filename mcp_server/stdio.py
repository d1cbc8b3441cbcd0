"""MCP on standard input and output, which also answers lines that are not messages."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import select
import stat
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, cast

from anyio import AsyncFile, to_thread
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp_types import INVALID_REQUEST, PARSE_ERROR, ErrorData, JSONRPCError, RequestId
from pydantic import ValidationError

from mcp_server.callers import Callers, WorkingDirectory, connect_to
from mcp_server.delivery.permissions import REQUESTS as PERMISSION_REQUESTS
from mcp_server.delivery.permissions import Permissions
from mcp_server.delivery.port import announced
from mcp_server.delivery.sessions import Sessions
from mcp_server.server import make_server
from mcp_server.settings import AUTO, Settings
from mcp_server.startup.answers import ANSWERED_ID, acknowledged
from mcp_server.startup.begin import StdinReader, read_standard_input
from mq9.signals import ended_by_signals

_logger = logging.getLogger("mq9.mcp")

Item = SessionMessage | Exception
_MAX_DIGITS = 20  # of a number in a line of which only the id is needed


async def serve_stdio(
    settings: Settings,
    agent: str,
    mail_address: str | None,
    url: str | None,
    reader: StdinReader | None,
) -> None:
    """Serve MCP until standard input ends or a signal comes; a second signal ends it at once."""
    callers = Callers(
        connect_to(url),
        settings,
        agent=None if agent == AUTO else agent,
        mail_address=mail_address,
        working_directory=WorkingDirectory.here() if agent == AUTO else None,
    )
    sessions = Sessions(callers, settings)
    server = make_server(callers, settings)
    if reader is None:  # it has a thread of its own, which nothing waits for at the end
        reader = read_standard_input(None)
        reader.start()
    with ended_by_signals(reader.end):
        async with (
            Permissions(callers) as permissions,
            announced(agent, partial(_answer_hook, permissions, sessions)),
            stdio_streams(reader) as (reading, writing),
        ):
            await server.run(reading, writing, server.create_initialization_options())


async def _answer_hook(
    permissions: Permissions, sessions: Sessions, request: Mapping[str, Any]
) -> dict[str, Any]:
    """Answer a hook or a watcher of the host."""
    if request.get("do") in PERMISSION_REQUESTS:
        return await permissions.answer(request)
    return await sessions.answer(request)


@asynccontextmanager
async def stdio_streams(
    reader: StdinReader,
) -> AsyncIterator[tuple[ObjectReceiveStream[Item], ObjectSendStream[SessionMessage]]]:
    """Open the streams to the client; unlike the SDK, also answer a line that is not a message."""
    lines = cast("AsyncFile[str]", _lines(reader))  # of which only these are asked for
    with piped_output() as pipe:
        output = cast("AsyncFile[str] | None", pipe)
        async with stdio_server(stdin=lines, stdout=output) as (reading, answering):
            writing = _WithoutAnswered(answering, reader.listening)
            yield _WithoutRefused(reading, writing), writing


def _lines(reader: StdinReader) -> AsyncIterator[str]:
    """Take over from a reader; the lines that it has not answered."""
    loop = asyncio.get_running_loop()
    kept = asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(kept.set)

    async def lines() -> AsyncIterator[str]:
        while (line := reader.take()) != "":
            if line is None:
                await kept.wait()
                kept.clear()
            else:
                yield line

    reader.take_over(wake)
    return lines()


@dataclass(frozen=True, slots=True)
class _WithoutAnswered(ObjectSendStream[SessionMessage]):
    """Sends all messages except those that the reader has already answered."""

    stream: ObjectSendStream[SessionMessage]
    listening: set[int | str]

    async def send(self, item: SessionMessage) -> None:
        number = acknowledged(item.message)
        if number in self.listening:
            self.listening.discard(number)
        elif getattr(item.message, "id", None) != ANSWERED_ID:
            await self.stream.send(item)

    async def aclose(self) -> None:
        await self.stream.aclose()


@dataclass(frozen=True, slots=True)
class _WithoutRefused(ObjectReceiveStream[Item]):
    """Receives all but the lines that are no messages, which it answers."""

    stream: ObjectReceiveStream[Item]
    writing: ObjectSendStream[SessionMessage]

    async def receive(self) -> Item:
        while True:
            item = await self.stream.receive()
            if not isinstance(item, ValidationError):
                return item
            refusal = refused(item)
            if refusal is not None:
                _logger.warning("refused a line: %s", refusal.error.message)
                await self.writing.send(SessionMessage(refusal))

    async def aclose(self) -> None:
        await self.stream.aclose()


def refused(error: ValidationError) -> JSONRPCError | None:
    """Return the answer, with its id if any, to a malformed line; None for no answer."""
    first, *others = error.errors(include_url=False, include_context=False)
    if first["type"] == "json_invalid":
        line = first["input"]
        if not line.strip():
            return None
        message = _loaded(line)
        data = ErrorData(code=PARSE_ERROR, message=first["msg"])
    else:
        whole = [one for one in (first, *others) if one["type"] == "missing"]
        # Where the message itself misses some member.
        message = next((one["input"] for one in whole if len(one["loc"]) == 2), None)
        where = ".".join(str(part)[:80] for part in first["loc"][1:])
        text = f"Not a JSON-RPC 2.0 message: {where and f'{where}: '}{first['msg']}"
        data = ErrorData(code=INVALID_REQUEST, message=text)
    if message is None:
        return JSONRPCError(jsonrpc="2.0", id=None, error=data)
    if "method" not in message and message.keys() & {"result", "error"}:
        return None  # an answer itself
    return JSONRPCError(jsonrpc="2.0", id=_id(message.get("id")), error=data)


def _loaded(line: str) -> dict[str, Any] | None:
    """Return the object in a line that the SDK's parser refuses; None if it is none."""
    try:
        value = json.loads(line, parse_int=_whole)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MAX_DIGITS else None


def _id(value: object) -> RequestId | None:
    if isinstance(value, str) and value.isprintable():
        return value
    return value if type(value) is int else None


class PipedOutput:
    """Writes texts to a pipe, of which only ``write`` and ``flush`` are asked for.

    A pipe that is ready takes some bytes without blocking. A thread writes longer texts, and those
    for a client that does not read, so that the event loop never waits.
    """

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._readiness = select.poll()
        self._readiness.register(pipe, select.POLLOUT)

    async def write(self, text: str) -> None:
        """Write a text to the pipe, which has taken all of it when this returns."""
        data = text.encode()
        events = self._readiness.poll(0)
        if len(data) <= select.PIPE_BUF and select.POLLOUT in {one for _, one in events}:
            self._write(data)
        else:
            await to_thread.run_sync(self._write, data)

    async def flush(self) -> None:
        """Do nothing: the output is in the pipe."""

    def _write(self, data: bytes) -> None:
        self._pipe.write(data)
        self._pipe.flush()


@contextmanager
def piped_output() -> Iterator[PipedOutput | None]:
    """Take a piped standard output while inside; prints of others go to standard error."""
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
    """Return whether standard output is a pipe that can be polled, and standard error exists."""
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
