"""Starting the server as a host would, to see whether it starts; nothing is made by that."""

from __future__ import annotations

import asyncio
import os
import shlex
import tempfile
from typing import IO, TYPE_CHECKING

from mcp_server.hosts.broker_url import without_credentials
from mcp_server.hosts.launch import Launch
from mcp_server.hosts.machine import Machine
from mcp_server.hosts.project_launch import own_launch
from mcp_server.hosts.uses import Use
from mq9.errors import InvalidRequest
from mq9.transport.open import VARIABLE, default_file, file_of

if TYPE_CHECKING:  # it takes a second to load, and most commands start no server
    from mcp import StdioServerParameters

_START_TIMEOUT_S = 20.0
_IN_MEMORY = "memory://doctor"
_TAIL_LINES = 3
_TAIL_BYTES = 2_000


class NotStarted(Exception):
    """The server did not start; the text says why, without passwords."""


class NotTried(Exception):
    """The server was not started, as a project names what could be another program."""


async def count_tools(use: Use, machine: Machine) -> int:
    """Start the server as a host would, and return how many tools it offers.

    A broker's file that is not there is not made: the server gets a broker in memory instead.

    Raises:
        NotTried: A project names the program, and it may be another one.
        NotStarted: It does not start, or not within 20 seconds.
    """
    line = without_credentials(shlex.join([use.launch.command, *use.launch.arguments]))
    try:
        launch = own_launch(use.launch, machine) if use.scope == "project" else use.launch
    except InvalidRequest as error:
        raise NotTried(f"`{line}` was not started: {error}") from error
    from mcp import Client  # noqa: PLC0415  # as above
    from mcp.client.stdio import stdio_client  # noqa: PLC0415

    parameters = _parameters(use, launch, machine)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        try:
            async with (
                asyncio.timeout(_START_TIMEOUT_S),
                Client(stdio_client(parameters, log)) as client,
            ):
                return len((await client.list_tools()).tools)
        except Exception as error:  # whatever keeps it from starting
            reason = _last_lines(log) or _innermost(error)
            said = f"cannot start the server by `{line}` ({reason})"
            raise NotStarted(without_credentials(said)) from error


def file_exists(url: str | None) -> bool:
    """Tell whether nobody has to make the broker's file; True for a URL that is none, too.

    Args:
        url: The broker's URL; None for the file of this user.
    """
    try:
        path = default_file() if url is None else file_of(url)
    except InvalidRequest:
        return True  # the server says what is wrong with it
    return path is None or path.exists()


def _parameters(use: Use, launch: Launch, machine: Machine) -> StdioServerParameters:
    """Return how to start the server, with the broker that it would have, or one in memory."""
    from mcp import StdioServerParameters  # noqa: PLC0415  # as above

    url = use.url(machine)
    environment = {key: one for key, one in machine.environment.items() if key != VARIABLE}
    environment |= launch.environment
    arguments = list(launch.arguments)
    if VARIABLE in launch.environment and url is not None:
        environment[VARIABLE] = url
    if not file_exists(url):  # the server would make it
        url = environment[VARIABLE] = _IN_MEMORY
    if launch.option("--server") is not None and url is not None:
        arguments += ["--server", url]  # the last one counts
    return StdioServerParameters(
        command=launch.command,
        args=arguments,
        env=environment,
        cwd=machine.project if use.scope == "project" else None,
    )


def _last_lines(log: IO[str]) -> str:
    """Return the last lines that a program has written; nothing where it was silent."""
    file = log.fileno()
    begin = max(0, os.lseek(file, 0, os.SEEK_END) - _TAIL_BYTES)
    os.lseek(file, begin, os.SEEK_SET)
    lines = os.read(file, _TAIL_BYTES).decode("utf-8", "replace").splitlines()
    if begin:
        del lines[:1]  # half a line could be half a URL, whose password is not known for one
    return "; ".join([one.strip() for one in lines if one.strip()][-_TAIL_LINES:])


def _innermost(error: BaseException) -> str:
    """Return what an error says, not that it was one of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
