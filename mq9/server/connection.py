"""One client's connection: bytes to frames, replies to bytes, and bounds on both.

The server stops reading from a socket when too many of its requests wait. It closes the connection
of a client that leaves too many bytes unread: see `mq9.server.outgoing`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from mq9.server.outgoing import Outgoing, Quota, SharedBody
from mq9.wire import encoder
from mq9.wire.parser import Frame, Parser

if TYPE_CHECKING:
    from mq9.server.server import Server
    from mq9.server.session import ClientSession

logger = logging.getLogger("mq9.broker")

HANDSHAKE_S = 5.0
_CLOSING_S = 2.0  # how long a client that is being cut off may take to read why
_REASONS = {"Authorization Violation": "auth", "Maximum Payload Violation": "max_payload"}
SLICE_S = 0.002  # how long one client is attended to while others wait
_BETWEEN_S = 0.002  # for others, who need several turns of the loop for one request


class Slices:
    """Lets clients that have used up their slice continue, one at a time."""

    def __init__(self, call_later: Callable[[float, Callable[[], None]], object]) -> None:
        self._call_later = call_later
        self._waiting: deque[Callable[[], None]] = deque()

    def ask(self, go_on: Callable[[], None]) -> None:
        """Call a function when its turn comes."""
        self._waiting.append(go_on)
        if len(self._waiting) == 1:
            self._call_later(_BETWEEN_S, self._give)

    def _give(self) -> None:
        go_on = self._waiting.popleft()
        if self._waiting:
            self._call_later(_BETWEEN_S, self._give)
        go_on()


class ClientConnection(asyncio.BufferedProtocol):
    """Connects one socket to one session."""

    def __init__(
        self,
        server: Server,
        number: int,
        parser: Parser,
        *,
        incoming: memoryview,  # shared, since each connection takes its bytes before others read
        slices: Slices,
    ) -> None:
        self._server = server
        self.number = number
        self._parser = parser
        self._incoming = incoming
        self._slices = slices
        self._waits_for_slice = False
        self._pumping = False
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self.session: ClientSession | None = None  # once the client may send frames
        self._backlog: deque[Frame] = deque()  # read, and not yet begun
        self._paused = False
        self._greeted = False
        self.out = Outgoing(server.quota, self._cut_slow)
        self._will_flush = False
        self._reason = "client"
        self._closing = False
        self._ended = False
        self._upgrade: asyncio.Task[None] | None = None
        self.host = self.peer = ""  # the client's address, and with its port, as the socket knows
        self.closed: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the client."""
        if self._transport is not None:
            return  # TLS has begun on a connection that was made before
        transport = cast("asyncio.Transport", transport)  # of a stream socket
        self._transport = transport
        if peername := transport.get_extra_info("peername"):
            self.host, self.peer = peername[0], f"{peername[0]}:{peername[1]}"
        refusal = self._server.add(self)
        if refusal is None and self._server.tls is not None:
            transport.pause_reading()
            self._upgrade = asyncio.create_task(self._encrypt(transport, self._server.tls))
            return
        self._greet(transport)
        self.out.attach(transport)
        if refusal is not None:
            self.close("limit", refusal)
        else:
            self.session = self._server.make_session(self)

    def _greet(self, transport: asyncio.Transport) -> None:
        transport.write(self._server.info(self))
        self._greeted = True

    async def _encrypt(self, transport: asyncio.Transport, tls: ssl.SSLContext) -> None:
        try:
            await self._start_tls(transport, tls)
        finally:
            if self.session is None:  # asyncio does not report connections that end before that
                self.connection_lost(None)

    async def _start_tls(self, transport: asyncio.Transport, tls: ssl.SSLContext) -> None:
        transport.pause_reading()  # uvloop has begun to read when the connection was made
        self._greet(transport)
        try:
            encrypted = await self._loop.start_tls(
                transport, self, tls, server_side=True, ssl_handshake_timeout=HANDSHAKE_S
            )
        except OSError as error:  # an SSLError is one
            logger.info(
                "a client was refused: no TLS handshake: %s",
                str(error) or type(error).__name__,
                extra={"peer": self.peer},
            )
            self._reason = "tls"
            transport.abort()
            return
        if encrypted is None or self._closing:  # the connection was lost meanwhile
            transport.abort()
            return
        self._transport = encrypted
        self.out.attach(encrypted)
        self.session = self._server.make_session(self)
        self._pump()

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Return the buffer for the client's bytes."""
        return self._incoming

    def buffer_updated(self, nbytes: int) -> None:
        """Take the client's bytes, except those from before the greeting."""
        if self._closing or not self._greeted:
            return
        self._backlog.extend(self._parser.feed(self._incoming[:nbytes]))
        self._pump()

    def resume(self) -> None:
        """Begin deferred frames, as far as the session takes more."""
        if (self._backlog or self._paused) and not self._pumping:
            self._pump()

    def _take_slice(self) -> None:
        self._waits_for_slice = False
        self.resume()

    def _pump(self) -> None:
        session = self.session
        if session is None or self._waits_for_slice:
            return
        self._pumping = True  # requests that are answered at once make room
        try:
            enough = self._loop.time() + SLICE_S
            while self._backlog and not self._closing and not session.is_busy:
                if self._loop.time() > enough:
                    self._waits_for_slice = True
                    self._slices.ask(self._take_slice)
                    break
                session.take_some(self._backlog)
        finally:
            self._pumping = False
        if self._closing or self._transport is None:
            return
        if self._backlog and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        elif not self._backlog:
            if self._parser.error is not None:
                text = str(self._parser.error)
                self.close(_REASONS.get(text, "protocol"), text)
            elif self._paused:
                self._paused = False
                self._transport.resume_reading()

    def write(self, data: bytes, body: SharedBody | None = None) -> None:
        """Send something, together with whatever else is sent in this turn of the event loop."""
        if self._closing or self._transport is None:
            return
        if self.out.pending > self._server.limits.max_pending:
            self._cut_slow()
            return
        if not self._will_flush:
            self._will_flush = True
            self._loop.call_soon(self._flush)
        self.out.write(data, body)

    def count_for(self, agent: str) -> None:
        """Count the unread bytes for an agent, too."""
        quotas, most = self._server.quotas, self._server.limits.max_agent_pending
        self.out.join(quotas.setdefault(agent, Quota(most)))

    def _flush(self) -> None:
        self._will_flush = False
        self.out.flush()

    def pause_writing(self) -> None:
        """Send nothing while the client does not read."""
        self.out.pause()

    def resume_writing(self) -> None:
        """Send what waits for the client."""
        self.out.resume()

    def cut_if_stalled(self) -> None:
        """Cut the client off if it has read nothing since this was called before."""
        if self.out.has_stalled():
            self._cut_slow()

    def _cut_slow(self) -> None:
        logger.warning(
            "a client was cut off: it leaves %d bytes unread",
            self.out.pending,
            extra={"client": self.session.name if self.session else None},
        )
        self._reason = "slow_consumer"
        self._closing = True
        self.out.clear()
        if self.session is not None:
            self.session.stop()
        if self._transport is not None:
            self._transport.abort()

    def close(self, reason: str, text: str) -> None:
        """End the connection with a protocol error."""
        if not self._closing:
            self.write(encoder.error(text))
            who = self.session.name if self.session else "a client"
            logger.info("%s: %s", who, text, extra={"peer": self.peer})
            self.finish(reason)

    def finish(self, reason: str) -> None:
        """End the connection when its output was sent, or soon in any case."""
        if self._closing:
            return
        self._reason = reason
        self._closing = True
        self._backlog.clear()
        if self.session is not None:
            self.session.stop()
        if self._transport is not None:
            self.out.finish(self._transport.close)
            self._loop.call_later(_CLOSING_S, self._abort)

    def _abort(self) -> None:
        if not self._ended and self._transport is not None:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """Carry out the received frames, and end the session; idempotent."""
        if self._ended:
            return
        self._ended = True
        self.out.clear()
        if self._upgrade is not None and self._upgrade is not asyncio.current_task(self._loop):
            self._upgrade.cancel()
        if self.session is not None:
            self.session.end()
        if error is not None:
            logger.debug("a connection broke: %s", error)
        self._server.remove(self, self._reason)
        if not self.closed.done():
            self.closed.set_result(None)
