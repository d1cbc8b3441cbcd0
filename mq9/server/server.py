"""The NATS server in front of a broker: listens, keeps watch over its clients, drains."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
import random
import secrets
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from mq9.broker.embedded import EmbeddedBroker
from mq9.broker.service import SWEEP_INTERVAL_MS
from mq9.clock import Clock, SystemClock, sleep
from mq9.errors import Mq9Error, Unreachable
from mq9.protocol.headers import PayloadEncoding
from mq9.server.connection import ClientConnection, Slices
from mq9.server.hub import Hub
from mq9.server.limits import MAX_HEADER_BYTES, ServerLimits
from mq9.server.outgoing import Quota
from mq9.server.session import ClientSession
from mq9.server.users import Guard, OpenGuard
from mq9.version import VERSION
from mq9.wire import encoder
from mq9.wire.parser import Parser

if TYPE_CHECKING:
    from mq9.server.metrics import Metrics

logger = logging.getLogger("mq9.broker")

_LEAST_PAYLOAD = 64 * 1024  # announced where messages have to be smaller; requests must fit
_READ_BYTES = 16 * 1024  # bytes, of tiny frames perhaps, that others wait for
_ADMISSION_S = 30.0  # in which a client must be admitted, its place in the queue included
_BACKLOG = 1_024  # connections that the system holds until they are accepted


class Server:
    """Lets NATS clients talk to a broker, and to each other."""

    def __init__(
        self,
        broker: EmbeddedBroker,
        *,
        max_payload: int,
        guard: Guard | None = None,
        limits: ServerLimits = ServerLimits(),
        tls: ssl.SSLContext | None = None,
        timers: Clock | None = None,
        observer: Metrics | None = None,
        encoding: PayloadEncoding = PayloadEncoding.AUTO,
    ) -> None:
        self._broker = broker
        self._max_payload = max(max_payload, _LEAST_PAYLOAD)
        # Clients compare a payload with the limit that the server announces. Headers come on top,
        # so that the largest message may have some.
        self._max_message = self._max_payload + MAX_HEADER_BYTES
        self.limits = limits
        self.tls = tls
        self._timers = timers or SystemClock()
        self._observer = observer
        self._id = secrets.token_hex(12)
        pick = random.Random()  # noqa: S311  # who gets a message is no secret
        unheard = observer.publish_unheard if observer is not None else lambda: None
        self.hub = Hub(broker, guard or OpenGuard(), limits, pick, encoding, unheard)
        self.clients: set[ClientConnection] = set()
        self.quota = Quota(limits.max_total_pending)
        self.quotas: dict[str, Quota] = {}  # of the agents that are connected
        self._listener: asyncio.Server | None = None
        self.address = ("", 0)  # host and port that it listens on, or did last
        self._chores: list[asyncio.Task[None]] = []
        self.is_leaving = False

    @property
    def url(self) -> str:
        """The URL for clients on this machine."""
        host, port = self.address
        shown = f"[{host}]" if ":" in host else host
        return f"{'tls' if self.tls else 'nats'}://{shown}:{port}"

    @property
    def connections(self) -> int:
        """Number of connected clients."""
        return len(self.clients)

    async def start(self, host: str = "127.0.0.1", port: int = 4222) -> None:
        """Listen."""
        incoming = memoryview(bytearray(_READ_BYTES))
        numbers = itertools.count(1)
        slices = Slices(asyncio.get_running_loop().call_later)

        def make() -> ClientConnection:
            must_connect = not self.hub.guard.is_open
            parser = Parser(self._max_payload, self._max_message, must_connect=must_connect)
            number = next(numbers)
            return ClientConnection(self, number, parser, incoming=incoming, slices=slices)

        try:
            self._listener = await asyncio.get_running_loop().create_server(
                make, host, port, backlog=_BACKLOG
            )
        except OSError as error:
            reason = error.strerror or str(error)
            if error.errno == errno.EADDRINUSE:  # the message of asyncio is long
                reason = "another program has it, or another mq9; --port chooses another port"
            raise Unreachable(f"{host}:{port} cannot be listened on: {reason}") from error
        self.address = self._listener.sockets[0].getsockname()[:2]
        self._chores = [
            asyncio.create_task(self._every(self.limits.ping_s, self._ping)),
            asyncio.create_task(self._every(self.limits.stalled_s, self._cut_stalled)),
            asyncio.create_task(self._every(SWEEP_INTERVAL_MS / 1000, self._sweep)),
        ]

    async def check_users(self) -> None:
        """End the connections of users that were removed or changed."""
        for client in list(self.clients):
            if client.session is not None:
                client.session.check_user()

    async def send_away(self) -> None:
        """Accept no more clients, and have the connected ones go to other servers.

        Clients that read the INFO of the lame duck mode leave by themselves, and are served until
        then. It returns when all have left.
        """
        self.is_leaving = True
        if self._listener is not None:
            self._listener.close()
        self._announce()
        while self.clients:
            await asyncio.wait([client.closed for client in self.clients])

    def _announce(self) -> None:
        """Send the INFO that the server is about to end."""
        for client in self.clients:
            if client.session is not None and client.session.takes_info:
                client.write(self.info(client))

    async def drain(self, seconds: float = 10.0) -> None:
        """Stop: answer the requests in progress, refuse new ones, then close all connections."""
        self.hub.draining = True
        if self._listener is not None:
            self._listener.close()
        self._announce()
        self._broker.stop_waiting()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.hub.rest()
        await self.close()

    async def close(self) -> None:
        """Stop at once: written output is sent, requests in progress get no reply."""
        if self._listener is not None:
            self._listener.close()
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        self._chores.clear()
        while self.clients:
            for client in list(self.clients):
                client.finish("shutdown")
            await asyncio.wait([client.closed for client in self.clients])
        await self.hub.rest()  # commands that were begun end by themselves

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await sleep(self._timers, seconds)
            await work()

    async def _ping(self) -> None:
        for client in list(self.clients):
            if client.session is not None:
                client.session.ping()

    async def _cut_stalled(self) -> None:
        for client in list(self.clients):
            client.cut_if_stalled()

    async def _sweep(self) -> None:
        try:
            await self._broker.sweep()
        except Mq9Error as error:
            logger.warning("could not sweep: %s", error)

    def add(self, connection: ClientConnection) -> str | None:
        """Note a new connection; return the error for a client that is refused."""
        full = len(self.clients) >= self.limits.max_connections
        self.clients.add(connection)
        if self._observer is not None:
            self._observer.connection_opened()
        if full:
            logger.warning("a client was refused: %d are connected", len(self.clients) - 1)
            return "maximum connections exceeded"
        if self.hub.draining:
            return "Server Shutdown"
        return None

    def info(self, connection: ClientConnection) -> bytes:
        """Return the INFO that a client is sent first."""
        host, port = self.address
        fields = {
            "server_id": self._id,
            "server_name": "mq9",
            "version": VERSION,
            "go": "",  # nats-core refuses an INFO without it
            "proto": 1,
            "host": host,
            "port": port,
            "headers": True,
            "max_payload": self._max_payload,
            "max_message": self._max_message,  # with headers; a client of ours reads it
            "client_id": connection.number,
            "client_ip": connection.host,
            "auth_required": not self.hub.guard.is_open,
            "tls_required": self.tls is not None,
        }
        if self.hub.draining or self.is_leaving:
            fields["ldm"] = True
        return encoder.info(fields)

    def make_session(self, connection: ClientConnection) -> ClientSession:
        """Return the session of a client that may now send frames."""
        consumer = f"connection.{secrets.token_hex(12)}"
        session = ClientSession(self.hub, connection, consumer)

        def expire() -> None:
            if not session.has_connected:
                connection.close("auth", "Authentication Timeout")

        def expire_if_silent() -> None:
            if not session.is_being_admitted:  # else its password waits behind those of others
                expire()

        if not session.has_connected:
            timers = [
                self._timers.call_later(round(self.limits.connect_s * 1000), expire_if_silent),
                self._timers.call_later(round(_ADMISSION_S * 1000), expire),
            ]

            def cancel(_closed: asyncio.Future[None]) -> None:
                for timer in timers:
                    timer.cancel()

            connection.closed.add_done_callback(cancel)
        return session

    def remove(self, connection: ClientConnection, reason: str) -> None:
        """Forget a connection that has ended for a reason."""
        self.clients.discard(connection)
        agent = connection.session.agent if connection.session is not None else None
        if agent in self.quotas and not self.quotas[agent].members:
            del self.quotas[agent]
        if self._observer is not None:
            self._observer.connection_closed(reason)
