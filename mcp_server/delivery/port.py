"""The port of a running server for the hooks and watchers of its host.

Only programs on this machine reach it. Only the user can read the file with the port and the
secret. A request is one line of JSON, and so is the answer.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from mcp_server.delivery import servers
from mq9 import directories

_logger = logging.getLogger("mq9.mcp")

MAX_STRANGERS = 16  # connections that have not sent the secret yet
MAX_CONNECTIONS = 64
REQUEST_S = 2.0  # for the complete request
_ANSWER_S = 10.0  # for a client to take the answer

Answer = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


class Port:
    """Answers those who know a secret, one request for each connection.

    Args:
        answer: Answers a request. It is cancelled when the client goes away.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._secret, self._proof = secrets.token_hex(32), secrets.token_hex(32)
        self._strangers: dict[asyncio.StreamWriter, None] = {}  # the oldest first
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> dict[str, Any]:
        """Begin to listen; where, and what one has to know."""
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=servers.MAX_LINE
        )
        port = self._server.sockets[0].getsockname()[1]
        return {"port": port, "secret": self._secret, "proof": self._proof}

    async def close(self) -> None:
        """Stop listening, and end the requests in progress."""
        if self._server is not None:
            self._server.close()
        ending = list(self._tasks)
        for one in ending:
            one.cancel()
        if ending:
            await asyncio.wait(ending)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._strangers[writer] = None
        if len(self._strangers) > MAX_STRANGERS or len(self._tasks) > MAX_CONNECTIONS:
            next(iter(self._strangers)).transport.abort()  # perhaps this one
        try:
            await self._converse(reader, writer)
        except (OSError, ValueError, RecursionError, TimeoutError) as error:
            _logger.debug("a request of a hook came to nothing: %s", error)
        except asyncio.CancelledError:
            pass  # the server ends; asyncio would log it
        except Exception:
            _logger.exception("a hook could not be answered")
        finally:
            self._strangers.pop(writer, None)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await asyncio.wait_for(reader.readline(), REQUEST_S)
        request = json.loads(line)
        given = request.get("secret") if isinstance(request, dict) else None
        if not isinstance(given, str) or not secrets.compare_digest(
            given.encode("utf-8", "surrogatepass"), self._secret.encode()
        ):
            return
        del self._strangers[writer]
        answering = asyncio.ensure_future(self._answer(request))
        leaving = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                return
            answer = {**answering.result(), "proof": self._proof}
        finally:
            for one in (answering, leaving):
                one.cancel()
        writer.write(json.dumps(answer).encode() + b"\n")
        await asyncio.wait_for(writer.drain(), _ANSWER_S)


@asynccontextmanager
async def announced(agent: str, answer: Answer) -> AsyncIterator[None]:
    """Let the hooks of this host ask while inside.

    Where that cannot be had, the server does without: it is logged.

    Args:
        agent: The name that this server was started with.
        answer: Answers a request.
    """
    port = Port(answer)
    path = None
    try:
        path = await _announce(port, agent)
    except OSError as error:
        _logger.warning("hooks cannot ask this server, so no mail arrives by itself: %s", error)
    try:
        yield
    finally:
        if path is not None:
            path.unlink(missing_ok=True)
        await port.close()


async def _announce(port: Port, agent: str) -> Path | None:
    """Open the port, and write its file; None if there is no folder for it."""
    place = servers.folder()
    if place is None:
        return None
    folder = Path(place)
    directories.make_private(folder)
    await asyncio.to_thread(servers.remove_stale)
    directory = await asyncio.to_thread(os.path.realpath, ".")
    known = {
        **await port.open(),
        "agent": agent,
        "pid": os.getpid(),
        "parent": os.getppid(),
        "directory": directory,
    }
    path = folder / f"{os.getpid()}-{secrets.token_hex(4)}.json"
    written = path.with_suffix(".new")
    try:
        number = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(number, "w", encoding="utf-8") as file:
            json.dump(known, file)
        written.replace(path)
    except OSError:
        with suppress(OSError):
            written.unlink(missing_ok=True)
        raise
    return path
