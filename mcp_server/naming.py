"""The names of agents that are named after their host and its project."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import anyio
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import ListRootsRequest, ListRootsResult
from pydantic import ValidationError

from mq9.clock import Clock, sleep

_logger = logging.getLogger("mq9.mcp")

_HOST_CHARS, _PROJECT_CHARS = 40, 60
_DIGEST_CHARS = 8
_UNKNOWN_HOST = "mcp-host"
_ROOTS_TIMEOUT_S = 2.0
_OTHER_CHARACTERS = re.compile(r"[^a-z0-9]+")


def name_of(host: str | None, project: str | None) -> str:
    """Return the name of an agent, in a-z, 0-9 and hyphens, such as ``claude-code-myproject``.

    Args:
        project: The name of the directory of its project; None for no project.
    """
    parts = [_plain(host or "", _HOST_CHARS) or _UNKNOWN_HOST]
    if project:
        parts.append(_plain(project, _PROJECT_CHARS) or _digest(project))
    return "-".join(parts)


@dataclass(frozen=True, slots=True)
class WorkingDirectory:
    """The directory that the program was started in.

    Attributes:
        directory: Its path; None if it was removed.
        no_projects: Directories in which hosts start programs outside of projects.
    """

    directory: Path | None
    no_projects: Sequence[Path]

    @classmethod
    def here(cls) -> WorkingDirectory:
        """Return that of this process."""
        try:
            directory = Path.cwd()
        except OSError:
            directory = None
        no_projects = []
        with suppress(RuntimeError):  # there may be no home
            no_projects.append(Path.home().resolve())
        windows = os.environ.get("SYSTEMROOT")
        if windows is not None:
            no_projects += [Path(windows), Path(windows, "System32")]
        return cls(directory, no_projects)

    @property
    def project(self) -> str | None:
        """The name of the directory; None where it is no project."""
        directory = self.directory
        if directory is None or directory in self.no_projects:
            return None
        return directory.name or None


async def named_after(
    context: ServerRequestContext[Any, Any], clock: Clock, working_directory: WorkingDirectory
) -> str:
    """Return the name of the agent that a host is, which is the same whenever it is started."""
    params = context.session.client_params
    host = None if params is None else params.client_info.name
    return name_of(host, await _root(context, clock) or working_directory.project)


async def _root(context: ServerRequestContext[Any, Any], clock: Clock) -> str | None:
    """Return the name of the directory of the first root; None where no roots are named."""
    capabilities = context.session.client_capabilities
    if capabilities is None or capabilities.roots is None or not context.session.can_send_request:
        return None
    asking = context.session.send_request(ListRootsRequest(), ListRootsResult)
    try:
        roots = (await in_time(clock, _ROOTS_TIMEOUT_S, asking)).roots
    except (MCPError, ValidationError, TimeoutError) as error:
        _logger.info("the client did not name its roots: %s", error)
        return None
    return directory_in(str(roots[0].uri)) if roots else None


def directory_in(uri: str) -> str | None:
    """Return the name of the directory that a ``file:`` URI leads to; None for the topmost."""
    path = unquote(urlsplit(uri).path).replace("\\", "/").rstrip("/")
    name = path.rpartition("/")[2]
    return None if not name or name.endswith(":") else name


def _plain(text: str, most: int) -> str:
    return _OTHER_CHARACTERS.sub("-", text.lower())[:most].strip("-")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARS]


T = TypeVar("T")


async def in_time(clock: Clock, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of some work."""
    working = asyncio.ensure_future(work)
    timing = asyncio.ensure_future(sleep(clock, seconds))
    try:
        await asyncio.wait([working, timing], return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        timing.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([working, timing])
    if working.cancelled():
        raise TimeoutError
    return working.result()
