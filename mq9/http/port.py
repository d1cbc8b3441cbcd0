"""HTTP on a port, served by the event loop that is running."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mq9.errors import InvalidRequest, Unreachable
from mq9.http.connections import Connection, Connections, HttpLimits

_GRACE_S = 1  # for requests in work when the port is closed


async def listening(name: str, host: str, port: int) -> socket.socket:
    """Return a socket that listens, on the IPv4 address where a name has both kinds.

    Args:
        name: What the port is called in an error.
        host: The address.
        port: The port, 0 to 65535; 0 lets the system choose.

    Raises:
        InvalidRequest: There is no such port.
        Unreachable: Nobody can listen there.
    """
    if not 0 <= port <= 65535:
        raise InvalidRequest(f"{name}: {port} is not from 0 to 65535")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        # "localhost" is often both, and people then type 127.0.0.1.
        family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        created = socket.create_server(address, family=family)
    except (OSError, UnicodeError) as error:  # the latter for what cannot be a host's name
        reason = getattr(error, "strerror", None) or error
        raise Unreachable(f"{host}:{port} cannot be listened on: {reason}") from error
    # Taken up anew, it knows that it is TCP; else asyncio would leave TCP_NODELAY off, and every
    # answer in two parts would wait for an acknowledgement.
    return socket.socket(fileno=created.detach())


class _Requests:
    """An app whose requests can be ended: a stream of events would never end by itself.

    Args:
        app: Answers them.
        connections: Tell whether there are too many.
        always: Paths that are answered even then.
    """

    def __init__(self, app: ASGIApp, connections: Connections, always: Collection[str]) -> None:
        self._app = app
        self._connections = connections
        self._always = always
        self._in_work: set[asyncio.Task[Any]] = set()
        self._is_over = False

    def end(self) -> None:
        """End those in work; a stream ends where it is, and other answers say 503."""
        self._is_over = True
        for task in self._in_work:
            task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        address = scope["client"][0] if scope.get("client") else ""
        if scope["path"] not in self._always and self._connections.is_busy(address):
            busy = PlainTextResponse("too many requests are in work\n", 503, {"retry-after": "1"})
            await busy(scope, receive, send)
            return
        is_begun = is_complete = False

        async def watched(message: Message) -> None:
            nonlocal is_begun, is_complete
            is_begun = True
            is_complete = message["type"] == "http.response.body" and not message.get(
                "more_body", False
            )
            await send(message)

        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._in_work.add(task)
        try:
            await self._app(scope, receive, watched)
        except asyncio.CancelledError:
            if not self._is_over:
                raise
            if not is_begun:
                await send({"type": "http.response.start", "status": 503})
            if not is_complete:
                await send({"type": "http.response.body"})
        finally:
            self._in_work.discard(task)


class _Server(uvicorn.Server):
    """Leaves signals to the program that it runs in, and says when it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        try:
            await super().main_loop()
        finally:  # also when it is cancelled
            for one in self.servers:
                one.close()


@asynccontextmanager
async def serving(
    app: ASGIApp,
    listener: socket.socket,
    *,
    limits: HttpLimits = HttpLimits(),
    always: Collection[str] = (),
) -> AsyncIterator[None]:
    """Serve an app on the running event loop, while inside.

    The app's own lifespan is not run, and signals are left to the program.

    Args:
        app: Answers the requests.
        listener: A bound stream socket.
        limits: How many connections it takes, and how long they may keep silent.
        always: Paths that are answered however many requests are in work.
    """
    connections = Connections(limits)
    requests = _Requests(app, connections, always)
    server = _Server(
        uvicorn.Config(
            requests,
            http=type("_Connection", (Connection,), {"of": connections}),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            workers=1,
            timeout_keep_alive=limits.keep_alive_s,
            timeout_graceful_shutdown=2 * _GRACE_S,  # if they do not end when told to
        )
    )
    serving = asyncio.create_task(server.serve([listener]))
    starting = asyncio.create_task(server.up.wait())
    try:
        await asyncio.wait([serving, starting], return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():  # else it has failed, which is raised below
            yield
    finally:
        starting.cancel()
        server.should_exit = True
        ending = asyncio.get_running_loop().call_later(_GRACE_S, requests.end)
        try:
            await serving
        finally:
            ending.cancel()
