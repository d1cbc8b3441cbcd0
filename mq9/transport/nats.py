"""The transport to a server that speaks NATS: ``mq9 serve``, RobustMQ, or any with mq9 behind it.

nats-py carries the bytes; what it raises is turned into our errors here, and nowhere else. It is
told not to reconnect by itself, since it would hold requests back without knowing which of them may
still be sent: a connection that breaks ends every request on it at once, and the next request makes
a new one.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from nats import errors as foreign
from nats.aio.client import DEFAULT_INBOX_PREFIX, Client
from nats.aio.msg import Msg

from mq9.clock import Clock, SystemClock
from mq9.concurrency.single_flight import Abandoned, SingleFlight
from mq9.errors import (
    Forbidden,
    Mq9Error,
    NotConnected,
    OutcomeUnknown,
    PayloadTooLarge,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from mq9.protocol import replies, requests, subjects
from mq9.protocol.body import Body
from mq9.protocol.headers import encode_unread
from mq9.protocol.outcomes import Reply
from mq9.protocol.verbs import verb_of
from mq9.transport.servers import ServerAddress, Servers, tls_context

R = TypeVar("R")

_logger = logging.getLogger("mq9.transport")

CONNECT_TIMEOUT_S = 5.0  # for one server, TLS and login included
PING_INTERVAL_S = 10  # two unanswered pings, and the connection counts as broken
_MOST_UNSENT = 4 * 1024 * 1024  # bytes that wait for a slow server; more requests then wait too
_LOOK_AGAIN_S = 0.005
_NO_RESPONDERS = "503"
_WHOAMI = subjects.encode(requests.Whoami)
_FETCH = subjects.encode(requests.Fetch)


class NatsTransport:
    """Sends requests to one of the servers, on one connection at a time.

    It belongs to the event loop that it was made on.
    """

    any_loop = False

    def __init__(self, servers: Servers, name: str, agent: str | None = None) -> None:
        self.clock: Clock = SystemClock()
        self._servers = servers
        self._name = name
        self._agent = agent
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._link: _Link | None = None
        self._latest: ServerAddress | None = None
        self._dialing = SingleFlight(self._dial)
        self._closed = False

    async def open(self) -> None:
        """Connect, trying each server once. Cancelling it leaves nothing open."""
        try:
            await self._connected()
        except BaseException:
            await self.close()
            raise

    async def request(
        self,
        asked: Body[R],
        mail_address: str,
        payload: bytes | None,
        unread_of: tuple[str, str] | None,
        timeout: float,
    ) -> Reply[R]:
        """Write a request, send it and read its reply; connect first where that is needed."""
        subject = subjects.encode(type(asked), mail_address, asked.subject_msg_id)
        if payload is None:
            payload = asked.encode()
        headers = dict(asked.encode_headers())
        if unread_of is not None:
            headers.update([encode_unread(*unread_of)])
        link = await self._connected()
        reply = replies.decode(await link.request(subject, payload, headers, timeout))
        outcome: R = verb_of(type(asked)).outcome(reply)
        return Reply(outcome, None if unread_of is None else replies.decode_unread(reply))

    async def abandon(self, asked: Body[Any], mail_address: str) -> None:
        """Send what takes back a request whose caller was cancelled."""
        if self._link is not None and self._link.is_open:
            subject = subjects.encode(type(asked), mail_address)
            await self._link.publish(subject, asked.encode())

    async def close(self) -> None:
        """Let go of the server; whoever still waits for a reply gets none."""
        self._closed = True
        if os.getpid() != self._process or self._loop.is_closed():
            return  # what is open belongs to the parent, or cannot be closed any more
        self._refuse_another_loop()
        dialing = self._dialing.abandon()
        if dialing is not None:
            await asyncio.wait([dialing])
        link, self._link = self._link, None
        if link is not None:
            await link.close("before the client was closed")

    async def _connected(self) -> _Link:
        if self._closed:
            raise NotConnected("the client is closed")
        if os.getpid() != self._process:
            raise NotConnected("the process was forked; connect a new client in the child")
        self._refuse_another_loop()
        if self._link is None or not self._link.is_open:
            try:
                await self._dialing()
            except Abandoned:
                raise NotConnected("the client is closed") from None
        if self._link is None:
            raise NotConnected("the client is closed")
        return self._link

    def _refuse_another_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise NotConnected(
                "the client was connected on another event loop; connect one on each loop"
            )

    async def _dial(self) -> None:
        """Connect to the first server that answers, beginning with the one that did last."""
        broken, self._link = self._link, None
        if broken is not None:
            await broken.close(_BROKEN)
        context = None
        if self._servers.must_encrypt:
            context = await asyncio.to_thread(tls_context, self._servers)
        refusals: list[tuple[ServerAddress, Mq9Error]] = []
        for server in sorted(self._servers.members, key=lambda one: one != self._latest):
            link = _Link(server, self._servers.inbox_prefix)
            try:
                await link.open(self._name, context)
                if self._agent is not None:
                    await link.check_agent(self._agent)
            except (Unreachable, Unauthorized) as refusal:
                refusals.append((server, refusal))
                continue
            if self._closed:
                await link.close("before the client was closed")
                raise Abandoned
            self._link, self._latest = link, server
            return
        raise _none_of(refusals)


_BROKEN = "before the connection broke"


@dataclass(slots=True)
class _Waiting:
    """A request that waits for its reply."""

    subject: str
    timeout: float
    deadline: float  # of the event loop
    reply: asyncio.Future[Msg | Mq9Error]  # an error stands in for one
    is_sent: bool = False

    def end(self, answer: Msg | Mq9Error) -> None:
        """End the waiting, unless it has ended."""
        if not self.reply.done():
            self.reply.set_result(answer)


class _Replies(asyncio.Future[Msg]):
    """Where nats-py puts the replies to all requests as it reads them, in place of a single one.

    A callback would be called in a task of nats-py's, which would have to wake first.
    """

    def __init__(self, take: Callable[[Msg], None]) -> None:
        super().__init__()
        self._take = take

    def set_result(self, reply: Msg, /) -> None:
        """Take a reply; there may be more."""
        self._take(reply)


class _Link:
    """One connection to one server, from its making to its end.

    A FETCH subscribes to an inbox of its own and gives it up when nobody waits any more: that is
    how a broker learns that it has nobody left to give messages to. The replies to other requests
    come to one subscription, with a server of ours; RobustMQ answers none that has wildcards.
    """

    def __init__(self, server: ServerAddress, inbox_prefix: str | None) -> None:
        self._server = server
        self._inbox_prefix = inbox_prefix or DEFAULT_INBOX_PREFIX
        self._client = _Client(must_encrypt=server.scheme == "tls", on_end=self._end)
        self._end_reason = _BROKEN
        self._inboxes: str | None = None  # what those begin with that are heard together
        self._numbers = itertools.count()
        self._waiting: dict[str, _Waiting] = {}  # by inbox
        self._timer: asyncio.TimerHandle | None = None  # for the first deadline, or an earlier one
        self._errors: list[Exception] = []

    @property
    def is_open(self) -> bool:
        """Whether requests can be sent."""
        return self._client.is_connected

    async def open(self, name: str, context: ssl.SSLContext | None) -> None:
        """Connect and log in."""
        server = self._server
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._client.connect(
                    [server.url],
                    name=name,
                    user=server.user,
                    password=server.password,
                    token=server.token,
                    tls=context,
                    error_cb=self._on_error,
                    allow_reconnect=False,
                    connect_timeout=CONNECT_TIMEOUT_S,  # type: ignore[arg-type]  # takes fractions
                    reconnect_time_wait=0,
                    max_reconnect_attempts=1,  # 0 would mean for ever
                    ping_interval=PING_INTERVAL_S,
                    # With neither limit nothing in it waits, and so nothing swallows a
                    # cancellation; what may be unsent is bounded below.
                    pending_size=0,
                    flusher_queue_size=0,
                    skip_subject_validation=True,  # of what was made of checked addresses
                    inbox_prefix=self._inbox_prefix,
                )
                if not self._client.is_connected:
                    raise foreign.ConnectionClosedError  # noqa: TRY301  # told as any other
                self._client.refuse_if_unchecked()
                if self._client.is_of_mq9:
                    await self._hear_together()
        except Exception as error:  # noqa: BLE001  # a stranger may make nats-py raise anything
            await self.close(_BROKEN)
            raise _not_connected(server, self._errors[-1] if self._errors else error) from None
        except BaseException:
            await self.close(_BROKEN)
            raise
        self._errors.clear()

    async def _hear_together(self) -> None:
        self._inboxes = self._client.new_inbox()
        await self._client.subscribe(f"{self._inboxes}.*", future=_Replies(self._take))

    def _take(self, answer: Msg) -> None:
        """Give a reply to whoever waits for it."""
        waiting = self._waiting.get(answer.subject)
        if waiting is not None:
            waiting.end(answer)

    async def check_agent(self, agent: str) -> None:
        """See whether the server takes this connection for an agent; close it otherwise."""
        taken_for = None
        try:
            reply = await self.request(_WHOAMI, b"", {}, CONNECT_TIMEOUT_S)
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
                await self.close(_BROKEN)
        if taken_for != agent:
            whom = "no agent" if taken_for is None else f"the agent {taken_for!r}"
            raise Unauthorized(
                f"{self._server.url} takes these credentials for {whom}, not for {agent!r}"
            )

    async def request(
        self, subject: str, payload: bytes, headers: dict[str, str], timeout: float
    ) -> bytes:
        """Send a request and return its reply."""
        self._refuse_oversize(payload, headers)
        loop = asyncio.get_running_loop()
        waiting = _Waiting(subject, timeout, loop.time() + timeout, loop.create_future())
        shared = None if subject.startswith(_FETCH) else self._inboxes
        inbox = f"{shared}.{next(self._numbers)}" if shared else self._client.new_inbox()
        self._waiting[inbox] = waiting
        if self._timer is None or waiting.deadline < self._timer.when():
            self._wake_at(waiting.deadline)
        subscription = None
        try:
            if self._client.pending_data_size > _MOST_UNSENT:
                await self._until_there_is_room(waiting)
            if not waiting.reply.done():
                # Nothing here waits, so that the three leave together.
                if not shared:
                    heard: asyncio.Future[Msg] = loop.create_future()
                    heard.add_done_callback(lambda one: waiting.end(one.result()))
                    subscription = await self._client.subscribe(inbox, future=heard, max_msgs=1)
                    await subscription.unsubscribe(limit=1)
                await self._client.publish(subject, payload, inbox, headers or None)
                waiting.is_sent = True
            answer = await waiting.reply
        except foreign.Error as error:
            # Raised by what comes before the publishing, or instead of it.
            raise _not_connected(self._server, error) from None
        finally:
            del self._waiting[inbox]
            if subscription is not None and self.is_open and not _is_answered(waiting.reply):
                await subscription.unsubscribe()
        if isinstance(answer, Mq9Error):
            raise answer
        if _says_nobody(answer):
            raise Unreachable(
                f"a NATS server answers at {self._server.url}, but no mq9 broker does: nobody "
                f"listens to {subject}"
            )
        return answer.data

    async def publish(self, subject: str, payload: bytes) -> None:
        """Send what nobody answers, without waiting for anything."""
        try:
            await self._client.publish(subject, payload)
        except foreign.Error as error:
            _logger.debug("nothing was sent to %s: %s", self._server.url, error)

    def _refuse_oversize(self, payload: bytes, headers: dict[str, str]) -> None:
        most = self._client.max_payload
        if len(payload) > most:
            raise PayloadTooLarge(
                f"max_payload: {len(payload)} bytes are more than the {most} that the server at "
                f"{self._server.url} takes"
            )
        size = len(payload)
        if headers:
            texts = "".join((*headers, *headers.values())).encode()
            size += len("NATS/1.0\r\n\r\n") + len(texts) + len(": \r\n") * len(headers)
        most = self._client.max_message
        if size > most:
            raise PayloadTooLarge(
                f"payload: {len(payload)} bytes, {size} with the headers, are more than the "
                f"{most} that the server at {self._server.url} takes"
            )

    async def _until_there_is_room(self, waiting: _Waiting) -> None:
        while (  # noqa: ASYNC110  # no event tells
            self._client.pending_data_size > _MOST_UNSENT and not waiting.reply.done()
        ):
            await asyncio.sleep(_LOOK_AGAIN_S)

    def _wake_at(self, deadline: float) -> None:
        """Look for requests whose time is over at a deadline, and then at the next one."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
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
            self._wake_at(min(deadlines))

    async def _on_error(self, error: Exception) -> None:
        """Take note of what nats-py met; a refusal on the server's side ends whom it concerns."""
        _logger.debug("the connection to %s: %r", self._server.url, error)
        if not self._client.is_connected:
            self._errors = [*self._errors[-9:], error]
        text = str(error)
        together = f"{self._inboxes}.*"
        for inbox, waiting in self._waiting.items():
            if any(f'"{one.lower()}"' in text for one in (waiting.subject, inbox, together)):
                waiting.end(
                    Forbidden(f"the server at {self._server.url} does not let this user: {text}")
                )

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for waiting in self._waiting.values():
            told = f"no reply to {waiting.subject} {self._end_reason}; the outcome is unknown"
            waiting.end(OutcomeUnknown(told))

    async def close(self, reason: str) -> None:
        """Close the connection."""
        self._end_reason = reason
        await self._client.close()


class _Client(Client):
    """nats-py's client, which tells its end at once and, for ``tls://``, sends nothing in clear."""

    def __init__(self, *, must_encrypt: bool, on_end: Callable[[], None]) -> None:
        super().__init__()
        self._must_encrypt = must_encrypt
        self._checked = False
        self._on_end = on_end

    def _connect_command(self) -> bytes:
        """Return what logs in. Called when the server has greeted, before anything is sent."""
        if self._must_encrypt and not self._server_info.get("tls_required"):
            raise foreign.SecureConnWantedError
        self._checked = True
        return super()._connect_command()

    @property
    def max_message(self) -> int:
        """Bytes that the server takes in one message, headers included."""
        told = self._server_info.get("max_message")  # other servers count headers as payload
        return told if isinstance(told, int) else self.max_payload

    @property
    def is_of_mq9(self) -> bool:
        """Whether the server is one of ours, which alone tells that."""
        return "max_message" in self._server_info

    def refuse_if_unchecked(self) -> None:
        """Raise, should a nats-py come that logs in without asking the method above."""
        if not self._checked:
            raise foreign.SecureConnFailedError

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        """Close at once, where nats-py would first send the rest to a peer that may have left."""
        self._on_end()
        self._pending.clear()
        self._pending_data_size = 0
        # Without a transport nats-py does not wait for its end, which never comes after a failed
        # TLS handshake or when the peer is silent.
        transport, self._transport = self._transport, None
        writer = getattr(transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
        await super()._close(status, do_cbs)


def _is_answered(reply: asyncio.Future[Msg | Mq9Error]) -> bool:
    """Tell whether a server has counted a reply as the one message of its inbox."""
    if not reply.done() or reply.cancelled():
        return False
    answer = reply.result()  # or that there will be none; that nobody listens is not counted
    return isinstance(answer, Msg) and not _says_nobody(answer)


def _says_nobody(answer: Msg | Mq9Error) -> bool:
    """Tell whether a server has answered that nobody listens."""
    return isinstance(answer, Msg) and (answer.headers or {}).get("Status") == _NO_RESPONDERS


def _none_of(refusals: list[tuple[ServerAddress, Mq9Error]]) -> Mq9Error:
    """Return the error that says what each server answered; of the class that says most."""
    if len(refusals) == 1:
        return refusals[0][1]
    told = "; ".join(str(refusal) for _, refusal in refusals)
    kinds = [type(refusal) for _, refusal in refusals]
    return Unauthorized(told) if Unauthorized in kinds else Unreachable(told)


def _not_connected(server: ServerAddress, error: Exception) -> Unreachable | Unauthorized:
    """Return our error for what nats-py, TLS or the socket raised while nothing was sent."""
    said = str(error).lower()
    if "authorization" in said or ("authentication" in said and "timeout" not in said):
        if not server.has_credentials:
            return Unauthorized(f"{server.url} wants a user or token, and the URL names none")
        return Unauthorized(f"{server.url} refused the user or token")
    if "info message" in said:  # the greeting
        return Unreachable(f"no mq9 broker answers at {server.url}: {_not_nats(error)}")
    for kind, tell in _REASONS.items():
        if isinstance(error, kind):
            return Unreachable(f"no mq9 broker answers at {server.url}: {tell(error)}")
    return Unreachable(f"no mq9 broker answers at {server.url}: {said or type(error).__name__}")


def _socket_error(error: OSError) -> str:
    # Where a host has several addresses, asyncio gives one error that names each.
    if isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return "connection refused; start one with `mq9 serve`"
    return error.strerror or str(error)


def _closed(_error: Exception) -> str:
    return "the connection was closed"


def _not_nats(_error: Exception) -> str:
    return "what answers there does not speak NATS"


# The first that fits decides.
_REASONS: dict[type[Exception], Callable[[Any], str]] = {
    ssl.SSLCertVerificationError: lambda error: (
        f"its TLS certificate is not trusted ({error.verify_message}); name the CA's certificate "
        "with tls://...?tls_ca=FILE"
    ),
    ssl.SSLError: lambda error: (
        f"TLS failed ({error.reason or error}); a server that asks for a client certificate gets "
        "it with tls://...?tls_cert=FILE&tls_key=FILE"
    ),
    foreign.SecureConnWantedError: lambda _: (
        "the server does not offer TLS, so nothing was sent to it; where that is meant, use nats://"
    ),
    foreign.SecureConnFailedError: lambda _: (
        "this version of nats-py is not known to insist on TLS"
    ),
    socket.gaierror: lambda error: f"the host is not known ({error.strerror})",
    TimeoutError: lambda _: f"no NATS server answered within {CONNECT_TIMEOUT_S:g} s",
    foreign.ConnectionClosedError: _closed,
    foreign.OutboundBufferLimitError: _closed,
    foreign.UnexpectedEOF: _closed,
    OSError: _socket_error,
    ValueError: _not_nats,
    foreign.ProtocolError: _not_nats,
}
