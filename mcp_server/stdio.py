"""MCP on standard input and output, where a line that is no message is answered, too."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TextIO, cast

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from anyio.streams.memory import MemoryObjectReceiveStream
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp_types import INVALID_REQUEST, PARSE_ERROR, ErrorData, JSONRPCError, RequestId
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mcp_server.callers import Callers, connect_to
from mcp_server.naming import Surroundings
from mcp_server.server import make_server
from mcp_server.settings import AUTO, Settings
from mcp_server.startup.front import Front, standard_front
from mcp_server.startup.opening import ANSWERED, acknowledged
from mq9.cli.signals import ended_by_signals

_logger = logging.getLogger("mq9.mcp")

Item = SessionMessage | Exception
_LONGEST_WHOLE = 20  # digits, in a line of which only the id is wanted


async def serve_stdio(
    settings: Settings, agent: str, mail_address: str | None, url: str | None, front: Front | None
) -> None:
    """Serve MCP on standard input and output, until that ends.

    SIGINT, SIGTERM and SIGHUP are taken for its end; a second one ends the process at once.

    Args:
        settings: What is offered.
        agent: The agent that is served; ``auto`` for one that its first request names.
        mail_address: Its mailbox; the slug of its name when not given.
        url: The broker; None for the default one.
        front: What has begun to read and answer, if anything has.
    """
    callers = Callers(
        connect_to(url),
        settings,
        agent=None if agent == AUTO else agent,
        mail_address=mail_address,
        surroundings=Surroundings.here() if agent == AUTO else None,
    )
    server = make_server(callers, settings)
    if front is None:  # a thread of its own reads, for which nothing has to wait at the end
        front = standard_front(None)
        front.start()
    with ended_by_signals(front.end):
        async with stdio_streams(front) as (reading, writing):
            await server.run(reading, writing, server.create_initialization_options())


@asynccontextmanager
async def stdio_streams(
    front: Front,
) -> AsyncIterator[tuple[MemoryObjectReceiveStream[Item], ObjectSendStream[SessionMessage]]]:
    """Give the streams of messages that come and go, while inside.

    The SDK drops what it cannot parse, so that a host would wait for its answer in vain.

    Args:
        front: What has begun to read, and may have answered.
    """
    front.take_over()
    lines = anyio.wrap_file(cast("TextIO", front))
    async with stdio_server(stdin=lines) as (reading, answering):
        writing = _Unanswered(answering, front.listening)
        sending, receiving = anyio.create_memory_object_stream[Item]()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_relay, reading, sending, writing)
            yield receiving, writing
            tasks.cancel_scope.cancel()


@dataclass(frozen=True, slots=True)
class _Unanswered(ObjectSendStream[SessionMessage]):
    """Sends all but what the client has had from the front."""

    stream: ObjectSendStream[SessionMessage]
    listening: set[int | str]

    async def send(self, item: SessionMessage) -> None:
        number = acknowledged(item.message)
        if number in self.listening:
            self.listening.discard(number)
        elif getattr(item.message, "id", None) != ANSWERED:
            await self.stream.send(item)

    async def aclose(self) -> None:
        await self.stream.aclose()


async def _relay(
    reading: ObjectReceiveStream[Item],
    sending: ObjectSendStream[Item],
    writing: ObjectSendStream[SessionMessage],
) -> None:
    async with sending:
        async for item in reading:
            if not isinstance(item, ValidationError):
                await sending.send(item)
                continue
            refusal = refused(item)
            if refusal is not None:
                _logger.warning("refused a line: %s", refusal.error.message)
                await writing.send(SessionMessage(refusal))


def refused(error: ValidationError) -> JSONRPCError | None:
    """Return the answer to a line that is no message; None for one that wants none.

    It bears the line's id wherever that can be told, so that the host knows which call failed.
    """
    first, *others = error.errors(include_url=False, include_context=False)
    if first["type"] == "json_invalid":
        line = first["input"]
        if not line.strip():
            return None
        message = _loaded(line)
        said = ErrorData(code=PARSE_ERROR, message=first["msg"])
    else:
        message = next((one["input"] for one in (first, *others) if _is_of_the_whole(one)), None)
        where = ".".join(str(part)[:80] for part in first["loc"][1:])
        text = f"Not a JSON-RPC 2.0 message: {where and f'{where}: '}{first['msg']}"
        said = ErrorData(code=INVALID_REQUEST, message=text)
    if message is None:
        return JSONRPCError(jsonrpc="2.0", id=None, error=said)
    if "method" not in message and message.keys() & {"result", "error"}:
        return None  # an answer itself
    return JSONRPCError(jsonrpc="2.0", id=_id(message.get("id")), error=said)


def _is_of_the_whole(detail: ErrorDetails) -> bool:
    """Tell whether what an error was found in is the message itself: it misses some member."""
    return detail["type"] == "missing" and len(detail["loc"]) == 2


def _loaded(line: str) -> dict[str, Any] | None:
    """Return the object in a line, by a parser that takes more than the SDK's; None if it fails."""
    try:
        value = json.loads(line, parse_int=_whole)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits) <= _LONGEST_WHOLE else None


def _id(value: object) -> RequestId | None:
    if isinstance(value, str) and value.isprintable():
        return value
    return value if type(value) is int else None
