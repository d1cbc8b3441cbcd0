"""A connection to one NATS server: the socket, TLS, the login, and whether the server still lives.

It knows nothing of requests: those are `mq9.transport.nats_link`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

from mq9.transport.servers import ServerAddress
from mq9.version import VERSION
from mq9.wire import encoder, to_server
from mq9.wire.from_server import Frame, Info, Message, Refusal, ServerParser
from mq9.wire.parser import Ping, Pong, ProtocolError

_logger = logging.getLogger("mq9.transport")

CONNECT_TIMEOUT_S = 5.0  # for one server, TLS and login included
PING_INTERVAL_S = 10.0
_MOST_PINGS = 2  # that are unanswered, and the connection counts as broken
MOST_UNSENT = 4 * 1024 * 1024  # bytes that wait for a slow server; more requests then wait, too


class Refused(Exception):
    """The server refused the client with ``-ERR``; its text in lower case."""


class ConnectionClosed(Exception):
    """The server closed the connection before it let anybody in."""


class TlsNotOffered(Exception):
    """The server does not offer TLS, and nothing may be sent without."""


class Listener(Protocol):
    """Receives the messages and the events of a connection."""

    def take(self, message: Message) -> None:
        """Take a message for one of the subscriptions."""

    def refused(self, text: str) -> None:
        """Learn that the server did not do something."""

    def has_room(self) -> None:
        """Learn that more can be written."""

    def ended(self) -> None:
        """The connection has ended."""


class NatsConnection(asyncio.Protocol):
    """One connection, from its making to its end."""

    def __init__(self, server: ServerAddress, listener: Listener) -> None:
        self._server = server
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._parser = ServerParser()
        self._transport: asyncio.Transport | None = None
        self._greeted: asyncio.Future[None] = self._loop.create_future()
        self._welcomed: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._failure: Exception | None = None
        self._ended = False
        self._is_encrypted = False
        self._out: list[bytes] = []  # is written at the end of this turn of the event loop
        self._queued = 0  # bytes in it
        self._paused = False
        self._pings = 0  # unanswered
        self._beat: asyncio.TimerHandle | None = None
        self.info: dict[str, Any] = {}  # the last INFO of the server
        self.is_open = False

    # Making it

    async def open(
        self,
        options: Mapping[str, Any],
        sign: Callable[[str], Mapping[str, Any]],
        context: ssl.SSLContext | None,
        *,
        tls_first: bool,
    ) -> None:
        """Connect and log in.

        Args:
            options: The fields of CONNECT, with the login.
            sign: Returns further fields if the login answers the server's nonce.
            context: The TLS context. None: TLS only if the server requires it, with the system's
                certificates.
            tls_first: Whether TLS begins before the greeting of the server.

        Raises:
            Refused, ConnectionClosed, TlsNotOffered, ProtocolError, OSError: It failed. Close the
                connection also then.
        """
        server = self._server
        name = server.tls_name or server.host
        await self._loop.create_connection(
            lambda: self,
            server.host,
            server.port,
            ssl=context if tls_first else None,
            server_hostname=name if tls_first else None,
        )
        self._is_encrypted = tls_first
        await self._until(self._greeted)
        if not tls_first:
            await self._encrypt(name, context)
        login = {"tls_required": self._is_encrypted, **options, **sign(self.info.get("nonce", ""))}
        self.write(to_server.connect(_CONNECT | login) + encoder.PING)
        await self._until(self._welcomed)
        self.is_open = True
        self._beat = self._loop.call_later(PING_INTERVAL_S, self._ping)

    async def _until(self, step: asyncio.Future[None]) -> None:
        await step
        if self._failure is not None:
            raise self._failure
        if self._ended:
            raise ConnectionClosed

    async def _encrypt(self, name: str, context: ssl.SSLContext | None) -> None:
        """Begin TLS where it is offered and wished for, or insisted on by either side."""
        wanted = context is not None
        if not self.info.get("tls_required") and not (wanted and self.info.get("tls_available")):
            if wanted:
                raise TlsNotOffered
            return
        if context is None:
            context = await asyncio.to_thread(ssl.create_default_context)
        if self._parser.buffered:
            raise ProtocolError("bytes in clear in front of TLS")
        assert self._transport is not None  # noqa: S101  # it has greeted
        transport = self._transport
        try:
            encrypted = await self._loop.start_tls(transport, self, context, server_hostname=name)
        except BaseException:
            transport.abort()
            self.connection_lost(None)  # asyncio does not report connections that end here
            raise
        if encrypted is None:  # the connection was lost meanwhile
            raise ConnectionClosed
        self._is_encrypted = True
        self._attach(encrypted)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        if self._transport is None:  # else TLS has begun on a connection that was made before
            self._attach(cast("asyncio.Transport", transport))  # of a stream socket

    def _attach(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(high=MOST_UNSENT)

    # Input

    def data_received(self, data: bytes) -> None:
        """Take the bytes of the server."""
        self._pings = 0
        take = self._listener.take
        for frame in self._parser.feed(data):
            if type(frame) is Message:
                take(frame)
            else:
                self._control(frame)
        if self._parser.error is not None:
            self._fail(self._parser.error)

    def _control(self, frame: Frame) -> None:
        match frame:
            case Info(fields):
                self.info = fields
                _done(self._greeted)
            case _ if not self._greeted.done():
                self._fail(ProtocolError("a greeting that is no INFO"))
            case Ping():
                self.write(encoder.PONG)
            case Pong():
                _done(self._welcomed)
            case Refusal(text):
                self._refused(text.lower())

    def _refused(self, text: str) -> None:
        _logger.debug("%s: %s", self._server.url, text)
        if text.startswith("permissions violation"):
            self._listener.refused(text)
        else:
            self._fail(Refused(text))

    # Output

    @property
    def is_full(self) -> bool:
        """Whether so much is unsent that more has to wait until `Listener.has_room`."""
        return self._paused or self._queued > MOST_UNSENT

    def write(self, data: bytes) -> None:
        """Send something, together with whatever else is sent in this turn of the event loop."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)
        self._queued += len(data)

    def _flush(self) -> None:
        if not self._ended:
            self._write_out()
            if not self._paused:
                self._listener.has_room()

    def _write_out(self) -> None:
        if self._out and self._transport is not None:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            self._queued = 0
            self._transport.write(data)

    def pause_writing(self) -> None:
        """Let more wait: the server is slow."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on."""
        self._paused = False
        if not self._ended:
            self._listener.has_room()

    def _ping(self) -> None:
        if self._pings >= _MOST_PINGS:
            self._fail(TimeoutError(f"{_MOST_PINGS} pings are unanswered"))
            return
        self._pings += 1
        self.write(encoder.PING)
        self._beat = self._loop.call_later(PING_INTERVAL_S, self._ping)

    # Its end

    def _fail(self, error: Exception) -> None:
        """End the connection after an error."""
        if not self._ended:
            _logger.debug("the connection to %s: %r", self._server.url, error)
            self._failure = error
            self.end()

    def end(self) -> None:
        """Close the connection. Output is sent if the system takes it at once."""
        if self._ended:
            return
        self._write_out()
        self._end()
        if self._transport is not None:
            # The peer may take nothing more, so it does not wait.
            if self._is_encrypted or self._transport.get_write_buffer_size():
                self._transport.abort()
            else:
                self._transport.close()

    def _end(self) -> None:
        self._ended = True
        self.is_open = False
        self._out.clear()
        if self._beat is not None:
            self._beat.cancel()
        _done(self._greeted)
        _done(self._welcomed)
        self._listener.ended()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell that the connection has ended; harmless when repeated."""
        if error is not None and self._failure is None:
            self._failure = error
        if not self._ended:
            self._end()
        _done(self._closed)

    async def close(self) -> None:
        """Close the connection, and return when it is closed."""
        self.end()
        if self._transport is not None:
            await self._closed


_CONNECT = {
    **dict.fromkeys(("verbose", "pedantic"), False),
    **dict.fromkeys(("echo", "headers", "no_responders"), True),
    "lang": "python3",  # as nats-py calls itself
    "version": VERSION,
    "protocol": 1,  # the server may send another INFO later
}


def _done(step: asyncio.Future[None]) -> None:
    if not step.done():
        step.set_result(None)
