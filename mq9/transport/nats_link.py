"""Requests on one connection to one server, from its making to its end."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from mq9.concurrency.deadlines import Alarm
from mq9.errors import (
    Forbidden,
    Mq9Error,
    OutcomeUnknown,
    PayloadTooLarge,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from mq9.protocol import replies, requests, subjects
from mq9.transport import nats_connection
from mq9.transport.nats_connection import NatsConnection
from mq9.transport.nats_login import Login
from mq9.transport.nats_refusals import not_connected
from mq9.transport.servers import ServerAddress
from mq9.wire import headers as wire_headers
from mq9.wire import to_server
from mq9.wire.from_server import Message

_WHOAMI = subjects.encode(requests.Whoami)
_FETCH = subjects.encode(requests.Fetch)
_NO_RESPONDERS = b"NATS/1.0 503"
_SHARED = 1  # the sid of the subscription for all replies that have no inbox of their own
_DEFAULT_PREFIX = "_INBOX"
BROKEN = "before the connection broke"


@dataclass(slots=True)
class Waiting:
    """A request that waits for its reply, or before that for room to be sent."""

    subject: str
    timeout: float
    deadline: float  # of the event loop
    reply: asyncio.Future[Message | Mq9Error]  # an error stands in for one
    inbox: bytes
    sid: int  # of the inbox; that of the shared subscription where it has none of its own
    is_sent: bool = False

    def end(self, answer: Message | Mq9Error) -> None:
        """End the waiting, unless it has ended."""
        if not self.reply.done():
            self.reply.set_result(answer)

    @property
    def is_answered(self) -> bool:
        """Whether a server has counted a reply as the one message of its inbox."""
        if not self.reply.done() or self.reply.cancelled():
            return False
        answer = self.reply.result()  # a reply of the server for no responders is not counted
        return isinstance(answer, Message) and not _says_nobody(answer)


_Held = tuple[Waiting, bytes, bytes]  # with its block of headers and its payload


class Link:
    """One connection to one server, and the requests on it.

    A FETCH subscribes to an inbox of its own, and unsubscribes when its caller no longer waits. So
    the broker learns that the messages would reach no client. All other replies arrive at one
    subscription of an mq9 server. RobustMQ does not answer to inboxes of a wildcard subscription.
    """

    def __init__(
        self, server: ServerAddress, inbox_prefix: str | None, caller: str | None = None
    ) -> None:
        self._server = server
        self._root = subjects.root_of(caller)
        self._connection = NatsConnection(server, self)
        self._loop = asyncio.get_running_loop()
        # All begin with this. Gateways tell connections apart by what is before the last dot.
        self._inboxes = f"{inbox_prefix or _DEFAULT_PREFIX}.{secrets.token_hex(11)}".encode()
        self._is_shared = False  # whether replies are heard together
        self._numbers = itertools.count(_SHARED + 1)
        self._waiting: dict[bytes, Waiting] = {}  # by inbox
        self._held: dict[bytes, _Held] = {}  # those of them that wait for room, in order
        self._alarm = Alarm(self._expire)
        self._is_retired = False
        self._end_reason = BROKEN
        self._deaf: Forbidden | None = None  # why no reply can come to the shared subscription
        self.has_answered = False  # anything

    @property
    def url(self) -> str:
        """The URL of the server, without credentials."""
        return self._server.url

    @property
    def is_open(self) -> bool:
        """Whether requests can be sent."""
        return self._connection.is_open

    @property
    def is_leaving(self) -> bool:
        """Whether the server is about to shut down, and wants its clients elsewhere."""
        return self._connection.info.get("ldm") is True

    @property
    def other_servers(self) -> list[str]:
        """The servers of its cluster, as the server names them: ``host:port`` each."""
        named: list[object] = self._connection.info.get("connect_urls", [])
        return [one for one in named if isinstance(one, str)]

    async def open(self, name: str, login: Login) -> None:
        """Connect and log in."""
        server = self._server
        try:
            async with asyncio.timeout(nats_connection.CONNECT_TIMEOUT_S):
                await self._connection.open(
                    {"name": name, **login.fields(server)},
                    login.sign,
                    login.context,
                    tls_first=login.tls_first,
                )
        except BaseException as error:
            await self.close(BROKEN)
            if isinstance(error, Exception):
                raise not_connected(server, login, error) from None
            raise
        if "max_message" in self._connection.info:  # only mq9 servers have this field
            self._is_shared = True
            self._connection.write(to_server.subscribe(b"%b.*" % self._inboxes, _SHARED))

    async def check_agent(self, agent: str) -> None:
        """See whether the server takes this connection for an agent; close it otherwise."""
        taken_for = None
        try:
            reply = await self.request(_WHOAMI, b"", (), nats_connection.CONNECT_TIMEOUT_S)
            taken_for = replies.decode_whoami(replies.decode(reply)).agent
        except Unreachable:
            raise
        except Unavailable as error:
            raise Unreachable(str(error)) from None
        except Mq9Error as error:
            raise Unauthorized(
                f"{self._server.url} does not say which agent it takes a connection for: {error}"
            ) from None
        finally:
            if taken_for != agent:
                await self.close(BROKEN)
        if taken_for != agent:
            whom = "no agent" if taken_for is None else f"the agent {taken_for!r}"
            raise Unauthorized(
                f"{self._server.url} takes these credentials for {whom}, not for {agent!r}"
            )

    async def request(
        self, subject: str, payload: bytes, headers: Iterable[tuple[str, str]], timeout: float
    ) -> bytes:
        """Send a request and return its reply."""
        waiting = self._begin(subject, payload, headers, timeout)
        try:
            answer = await waiting.reply
        finally:
            self._forget(waiting)
        if isinstance(answer, Mq9Error):
            raise answer
        if answer.block and _says_nobody(answer):
            raise Unreachable(
                f"a NATS server answers at {self._server.url}, but no mq9 broker does: nobody "
                f"listens to {self._addressed(subject)}"
            )
        return answer.payload

    def _begin(
        self, subject: str, payload: bytes, headers: Iterable[tuple[str, str]], timeout: float
    ) -> Waiting:
        if not self.is_open:  # since it was chosen for the request
            raise Unreachable(f"the server at {self._server.url} closed the connection")
        block = wire_headers.encode(headers) if headers else b""
        self._refuse_oversize(len(payload), len(block))
        number = next(self._numbers)
        is_fetch = subject.startswith(_FETCH)
        subject = self._addressed(subject)
        if self._is_shared and not is_fetch:
            if self._deaf is not None:
                raise self._deaf
            inbox, sid = b"%b.%d" % (self._inboxes, number), _SHARED
        else:  # the shared subscription, if there is one, must not hear it
            form = b"%b%d" if self._is_shared else b"%b.%d"
            inbox, sid = form % (self._inboxes, number), number
        deadline = self._loop.time() + timeout
        waiting = Waiting(subject, timeout, deadline, self._loop.create_future(), inbox, sid)
        self._waiting[inbox] = waiting
        self._alarm.set_for(deadline)
        if self._held or self._connection.is_full:
            self._held[inbox] = waiting, block, payload
        else:
            self._send(waiting, block, payload)
        return waiting

    def _send(self, waiting: Waiting, block: bytes, payload: bytes) -> None:
        waiting.is_sent = True
        frame = to_server.publish(waiting.subject.encode(), waiting.inbox, block, payload)
        if waiting.sid != _SHARED:
            listen = to_server.subscribe(waiting.inbox, waiting.sid)
            frame = listen + to_server.unsubscribe(waiting.sid, 1) + frame
        self._connection.write(frame)

    def _forget(self, waiting: Waiting) -> None:
        """Keep nothing of a request that has ended, here or at the server."""
        del self._waiting[waiting.inbox]
        if not waiting.is_sent:
            self._held.pop(waiting.inbox, None)
        elif waiting.sid != _SHARED and self.is_open and not waiting.is_answered:
            self._connection.write(to_server.unsubscribe(waiting.sid))
        if self._is_retired and not self._waiting:
            self._connection.end()

    def publish(self, subject: str, payload: bytes) -> None:
        """Send a request without a reply, and without waiting."""
        if self.is_open:
            published = self._addressed(subject).encode()
            self._connection.write(to_server.publish(published, b"", b"", payload))

    def _addressed(self, subject: str) -> str:
        """Return the subject of a request of this caller."""
        return self._root + subject.removeprefix(subjects.ROOT)

    def _refuse_oversize(self, size: int, head: int) -> None:
        info = self._connection.info
        most: int = info.get("max_payload", size)
        if size > most:
            raise PayloadTooLarge(
                f"max_payload: {size} bytes are more than the {most} that the server at "
                f"{self._server.url} takes"
            )
        most = info.get("max_message", most)  # other servers count headers as payload
        if size + head > most:
            raise PayloadTooLarge(
                f"payload: {size} bytes, {size + head} with the headers, are more than the "
                f"{most} that the server at {self._server.url} takes"
            )

    # Deadlines

    def _expire(self) -> None:
        """End the requests whose time is over, and look again at the next deadline."""
        now = self._loop.time()
        for waiting in self._waiting.values():
            if waiting.deadline > now:
                continue
            if waiting.is_sent:
                told = f"no reply to {waiting.subject} within {waiting.timeout:g} s"
                waiting.end(OutcomeUnknown(f"{told}; the outcome is unknown"))
            else:
                told = f"the server at {self._server.url} took nothing for {waiting.timeout:g} s"
                waiting.end(Unreachable(told))
        deadlines = [one.deadline for one in self._waiting.values() if not one.reply.done()]
        if deadlines:
            self._alarm.set_for(min(deadlines))

    # Events of the connection

    def take(self, message: Message) -> None:
        """Pass a reply to the request that waits for it."""
        self.has_answered = True
        waiting = self._waiting.get(message.subject)
        if waiting is not None:
            waiting.end(message)

    def refused(self, text: str) -> None:
        """End those whom it concerns that the server did not let this user do something."""
        error = Forbidden(f"the server at {self._server.url} does not let this user: {text}")
        concerned = {name.lower() for name in text.split('"')[1::2]}
        if f"{self._inboxes.decode()}.*".lower() in concerned:
            self._deaf = error
        for waiting in self._waiting.values():
            is_deaf = self._deaf is not None and waiting.sid == _SHARED
            if is_deaf or not concerned.isdisjoint(
                (waiting.subject.lower(), waiting.inbox.decode().lower())
            ):
                waiting.end(error)

    def has_room(self) -> None:
        """Send what waits for room."""
        while self._held and not self._connection.is_full:
            waiting, block, payload = self._held.pop(next(iter(self._held)))
            if not waiting.reply.done():
                self._send(waiting, block, payload)

    def ended(self) -> None:
        """End all requests: the connection has ended."""
        self._alarm.stop()
        for waiting in self._waiting.values():
            if waiting.is_sent:
                told = f"no reply to {waiting.subject} {self._end_reason}; the outcome is unknown"
                waiting.end(OutcomeUnknown(told))
            else:
                told = f"the server at {self._server.url} took nothing {self._end_reason}"
                waiting.end(Unreachable(told))

    # Its end

    def retire(self) -> None:
        """Take no further requests, and close the connection when those under way have ended."""
        self._is_retired = True
        if not self._waiting:
            self._connection.end()

    async def close(self, reason: str) -> None:
        """Close the connection."""
        self._end_reason = reason
        await self._connection.close()


def _says_nobody(answer: Message) -> bool:
    """Return whether a server has answered that there are no responders."""
    return answer.block.startswith(_NO_RESPONDERS)
