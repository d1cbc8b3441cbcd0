"""HTTP on a port, with limits for connections and time."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from mq9.errors import InvalidRequest, Unreachable

logger = logging.getLogger("mq9.broker")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Limits of one HTTP port. Times are in seconds."""

    most: int = 1_000  # concurrent requests
    most_per_address: int = 200
    reserve: int = 50  # further connections, for requests that are always answered
    head_s: float = 10.0  # for the head of a request, from the connection or its first byte
    body_s: float = 30.0  # for the rest of a request
    write_s: float = 30.0  # that a client may read nothing
    keep_alive_s: int = 5


class HttpConnections:
    """The connections of one port."""

    def __init__(self, limits: HttpLimits) -> None:
        self.limits = limits
        self._all: dict[HttpConnection, None] = {}  # the longest idle first
        self._by_address: defaultdict[str, dict[HttpConnection, None]] = defaultdict(dict)

    def admit(self, connection: HttpConnection) -> bool:
        """Accept a connection, if necessary in place of an idle one. False if all are busy."""
        limits, same = self.limits, self._by_address[connection.address]
        for those, most in ((same, limits.most_per_address), (self._all, limits.most)):
            if len(those) >= most + limits.reserve:
                idle = next((one for one in those if one.is_idle), None)
                if idle is None:
                    logger.warning("an HTTP client was refused: %d are at work", len(those))
                    return False
                idle.cut_off()
                self.forget(idle)
        self._all[connection] = self._by_address[connection.address][connection] = None
        return True

    def touch(self, connection: HttpConnection) -> None:
        """Record a request of a connection."""
        if connection in self._all:
            for those in (self._all, self._by_address[connection.address]):
                del those[connection]
                those[connection] = None

    def forget(self, connection: HttpConnection) -> None:
        """Forget a connection. You may call this again."""
        self._all.pop(connection, None)
        same = self._by_address[connection.address]
        same.pop(connection, None)
        if not same:
            del self._by_address[connection.address]

    def is_busy(self, address: str) -> bool:
        """Return whether too many requests are in progress, in total or from an address."""
        same = self._by_address.get(address, {})
        return (
            sum(not one.is_idle for one in same) > self.limits.most_per_address
            or sum(not one.is_idle for one in self._all) > self.limits.most
        )


class HttpConnection(H11Protocol):
    """One HTTP connection with time limits. Each port has a subclass."""

    of: ClassVar[HttpConnections]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self.address = ""

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress."""
        return self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]  # None until the first request

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Start."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        if not self.of.admit(self):
            transport.abort()
            return
        self._expect(self.of.limits.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._expect(None)
        self.resume_writing()
        self.of.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Start or continue a request."""
        before, was_idle = self.cycle, self.is_idle
        super().data_received(data)
        if self.is_idle:
            if was_idle and self._timer is None:  # the first byte of another request
                self._expect(self.of.limits.head_s)
            return
        if self.cycle is not before:
            self.of.touch(self)
            self._expect(self.of.limits.body_s)
        if not self.cycle.more_body:
            self._expect(None)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._expect(None)
        super().on_response_complete()
        if not self.is_idle and self.cycle.more_body:  # a pipelined request
            self._expect(self.of.limits.body_s)

    def pause_writing(self) -> None:
        """Wait until the client reads."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.of.limits.write_s, self.cut_off)

    def resume_writing(self) -> None:
        """Continue."""
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()

    def cut_off(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    def _expect(self, seconds: float | None) -> None:
        """Set or remove the time limit of the connection, in seconds."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self.cut_off)


_GRACE_S = 1  # for requests in progress when the port closes


async def listening(name: str, host: str, port: int) -> socket.socket:
    """Return a listening socket. A name with both kinds of address uses the IPv4 address."""
    if not 0 <= port <= 65535:
        raise InvalidRequest(f"{name}: {port} is not from 0 to 65535")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        # "localhost" often has both, and people then type 127.0.0.1.
        family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        created = socket.create_server(address, family=family)
    except (OSError, UnicodeError) as error:  # UnicodeError: no valid host name
        reason = getattr(error, "strerror", None) or error
        raise Unreachable(f"{host}:{port} cannot be listened on: {reason}") from error
    # Reopened, the socket knows that it is TCP. Otherwise asyncio leaves TCP_NODELAY off, and each
    # answer in two parts waits for an acknowledgement.
    return socket.socket(fileno=created.detach())


class _EndableApp:
    """An app whose requests can be ended. An event stream would never end by itself."""

    def __init__(self, app: ASGIApp, connections: HttpConnections, always: Collection[str]) -> None:
        self._app = app
        self._connections = connections
        self._always = always
        self._in_work: set[asyncio.Task[Any]] = set()
        self._is_over = False

    def end(self) -> None:
        """End the requests in progress. Streams stop, other requests get 503."""
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
            is_body = message["type"] == "http.response.body"
            is_complete = is_body and not message.get("more_body", False)
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


class _QuietServer(uvicorn.Server):
    """Leaves signals to its program, and reports its start."""

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
    """Serve an app on the running event loop inside the context, without the app's lifespan."""
    connections = HttpConnections(limits)
    requests = _EndableApp(app, connections, always)
    server = _QuietServer(
        uvicorn.Config(
            requests,
            http=type("_OfPort", (HttpConnection,), {"of": connections}),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            workers=1,
            timeout_keep_alive=limits.keep_alive_s,
            timeout_graceful_shutdown=2 * _GRACE_S,  # for requests that do not end by themselves
        )
    )
    serving = asyncio.create_task(server.serve([listener]))
    starting = asyncio.create_task(server.up.wait())
    try:
        await asyncio.wait([serving, starting], return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():  # otherwise it has failed: raised below
            yield
    finally:
        starting.cancel()
        server.should_exit = True
        ending = asyncio.get_running_loop().call_later(_GRACE_S, requests.end)
        try:
            await serving
        finally:
            ending.cancel()
