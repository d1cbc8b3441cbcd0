"""One client's conversation with the server: what each frame that it sends brings about.

Requests of mq9 go to the broker; anything else is published to whoever subscribed, as any NATS
server does. A reply of the broker reaches only the connection that asked: mail is not for whoever
listens to ``>``.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from mq9.broker.payloads import PayloadForm
from mq9.broker.service import Request
from mq9.broker.service import Session as Asker
from mq9.errors import (
    InvalidRequest,
    LimitReached,
    Mq9Error,
    PayloadTooLarge,
    Unauthorized,
    Unavailable,
)
from mq9.protocol import replies, subjects
from mq9.protocol.headers import Headers, PayloadEncoding
from mq9.server.limits import ServerLimits
from mq9.server.outgoing import Body
from mq9.server.router import Router
from mq9.server.users import Guard
from mq9.wire import encoder
from mq9.wire import headers as blocks
from mq9.wire.frames import Connect, Frame, Ping, Pong, Publish, Subscribe, Unsubscribe
from mq9.wire.subjects import has_wildcards, is_pattern, is_subject, matches

logger = logging.getLogger("mq9.broker")

_RESERVED = "$mq9"
_FETCH = f"{subjects.ROOT}{subjects.Verb.FETCH}."
_READS = tuple(
    f"{subjects.ROOT}{verb}"
    for verb in (
        *(subjects.Verb.FETCH, subjects.Verb.QUERY),
        *(subjects.Verb.AGENT_DISCOVER, subjects.Verb.PUBLIC_LIST),
    )
)
_READ_BYTES = 64 * 1024  # a read asks in few words for much
_MOST_HEADERS = 64 * 1024  # bytes; taken apart, headers fill many times as much
_MOST_PINGS = 2  # that may be unanswered


class Link(Protocol):
    """The way to the client."""

    def write(self, data: bytes, body: Body | None = None) -> None:
        """Send something; a client that does not read what it is sent is cut off."""

    def belongs_to(self, agent: str) -> None:
        """Count what the client leaves unread for the agent that it is, too."""

    def close(self, reason: str, text: str) -> None:
        """End the connection with a protocol error.

        Args:
            reason: A word for the metrics.
            text: What the client is told.
        """

    def go_on(self) -> None:
        """Take further frames, where that had been put off."""


@dataclass(slots=True, eq=False)
class Subscription:
    """What a client listens to."""

    session: Session
    subject: str
    queue: str | None
    sid: str
    wild: bool
    left: int | None = None  # messages until it ends by itself
    delivered: int = 0


class Message:
    """A message on its way to subscriptions: what follows its line is made once for all of them.

    Args:
        frame: What was published.
    """

    __slots__ = ("_bare", "_whole", "frame")

    def __init__(self, frame: Publish) -> None:
        self.frame = frame
        self._whole: Body | None = None
        self._bare: Body | None = None

    @property
    def whole(self) -> Body:
        """What follows the line for clients that read headers."""
        if self._whole is None:
            self._whole = Body(encoder.body(self.frame.block, self.frame.payload))
        return self._whole

    @property
    def bare(self) -> Body:
        """What follows the line for clients that do not."""
        if self._bare is None:
            self._bare = Body(encoder.body(b"", self.frame.payload))
        return self._bare


@dataclass(slots=True)
class Hub:
    """What all sessions of a server share.

    Attributes:
        handle: Answers requests of mq9.
        guard: Decides who may connect.
        limits: What one client may have at once.
        pick: Picks among the members of a queue group.
        encoding: How payloads stand in replies to requests that do not say.
        draining: Whether the server is about to stop, and begins nothing new.
        tasks: The requests in work.
        router: All subscriptions.
    """

    handle: Callable[[Request], Awaitable[bytes]]
    guard: Guard
    limits: ServerLimits
    pick: random.Random
    encoding: PayloadEncoding = PayloadEncoding.AUTO
    draining: bool = False
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    router: Router[Subscription] = field(init=False)

    def __post_init__(self) -> None:
        """Make the router."""
        self.router = Router(self.pick.choice)


class Session:
    """Acts on what one client sends.

    Args:
        hub: What it shares with the other sessions.
        link: The way to the client.
        number: The client's number at this server.
        consumer: Stands in for the consumer that a request does not name; random.
        peer: Where it is, for the log.
    """

    def __init__(
        self, hub: Hub, link: Link, number: int, consumer: str, peer: str | None = None
    ) -> None:
        self._hub = hub
        self._link = link
        self._number = number
        self._peer = peer
        self._asker = Asker(consumer, payloads=PayloadForm(hub.encoding))
        self._connected = False
        self._admission: asyncio.Task[None] | None = None  # while it is decided who the client is
        # What holds for a client until it says otherwise.
        self._verbose = True
        self._pedantic = True
        self._echo = True
        self._headers = False
        self._wants_503 = False
        self.takes_info = False  # whether it understands an INFO that comes later
        self._subscriptions: dict[str, Subscription] = {}
        self._wildcards = 0  # how many of them have wildcards
        # What this client itself listens to: where its replies go.
        self._own: Router[Subscription] = Router(lambda members: members[0])
        self._tasks: dict[asyncio.Task[None], int] = {}  # and its share of the bytes
        self._busy_bytes = 0
        self._fetches: dict[asyncio.Task[None], str] = {}  # and where the reply goes
        self._waiting = 0
        self._unanswered_pings = 0
        self._stopped = False
        self.name = f"client {number}"

    @property
    def agent(self) -> str | None:
        """The agent that the client has authenticated as."""
        return self._asker.agent

    @property
    def has_connected(self) -> bool:
        """Whether the client has said who it is, where it must."""
        return self._connected or self._hub.guard.is_open

    @property
    def is_busy(self) -> bool:
        """Whether further frames should wait until requests are done."""
        limits = self._hub.limits
        return (
            self._admission is not None
            or len(self._tasks) - self._waiting >= limits.max_busy
            or self._busy_bytes >= limits.max_busy_bytes
        )

    def take(self, frame: Frame) -> None:
        """Act on a frame."""
        if isinstance(frame, Connect):
            if self._connected:
                self._connect(frame.options)
            else:
                self._admission = asyncio.create_task(self._admit(frame.options))
                self._admission.add_done_callback(self._admitted)
        elif not self.has_connected:
            self._link.close("auth", "Authorization Violation")
        elif isinstance(frame, Publish):
            self._publish(frame)
        elif isinstance(frame, Subscribe):
            self._subscribe(frame)
        elif isinstance(frame, Unsubscribe):
            self._ok()
            self._unsubscribe(frame)
        elif isinstance(frame, Ping):
            self._link.write(encoder.PONG)
        else:
            assert isinstance(frame, Pong)  # noqa: S101  # there is no other frame
            self._unanswered_pings = 0

    def ping(self) -> None:
        """Ask the client whether it is there; end the connection when it has not answered."""
        if self._unanswered_pings >= _MOST_PINGS:
            self._link.close("stale", "Stale Connection")
            return
        self._unanswered_pings += 1
        self._link.write(encoder.PING)

    def stop(self) -> None:
        """Give the client nothing more, since its connection is about to end."""
        self._stopped = True
        if self._admission is not None:
            self._admission.cancel()
        for task in list(self._fetches):
            task.cancel()

    def end(self) -> None:
        """Forget the client, which is gone. What it had sent is carried out; nothing is leased."""
        self.stop()
        for subscription in list(self._subscriptions.values()):
            self._remove(subscription)

    def _ok(self) -> None:
        if self._verbose:
            self._link.write(encoder.OK)

    async def _admit(self, options: dict[str, Any]) -> None:
        """Let the client in, or refuse it; what it sends meanwhile waits."""
        try:
            agent = await self._hub.guard.admit(options)
        except Unauthorized as error:
            logger.warning(
                "a client was refused: %s",
                error,
                extra={"client": self._number, "peer": self._peer},
            )
            self._link.close("auth", "Authorization Violation")
            return
        self._asker = replace(self._asker, agent=agent, reserved=self._hub.guard.reserved)
        self._connected = True
        if agent is not None:
            self._link.belongs_to(agent)
        self._connect(options)

    def _admitted(self, task: asyncio.Task[None]) -> None:
        self._admission = None
        if task.cancelled():
            return  # the client has gone
        if (error := task.exception()) is not None:
            logger.critical("%s could not be let in", self.name, exc_info=error)
            self._link.close("auth", "Authorization Violation")
        self._link.go_on()

    def _connect(self, options: dict[str, Any]) -> None:
        self._verbose = options.get("verbose", self._verbose)
        self._pedantic = options.get("pedantic", self._pedantic)
        self._echo = options.get("echo", self._echo)
        self._headers = options.get("headers", self._headers)
        self._wants_503 = options.get("no_responders", self._wants_503)
        self.takes_info = options.get("protocol", 0) > 0
        if self._wants_503 and not self._headers:
            self._link.close("protocol", "no responders requires headers support")
            return
        if name := options.get("name"):
            self.name = f"client {self._number} ({name[:64]})"
        logger.debug("%s connected", self.name, extra={"agent": self.agent})
        self._ok()

    def _subscribe(self, frame: Subscribe) -> None:
        if self._stopped:
            return
        if frame.sid in self._subscriptions:
            self._ok()
            return
        if not is_pattern(frame.subject):
            self._link.write(encoder.error("Invalid Subject"))
            return
        if frame.subject.partition(".")[0] == _RESERVED:
            # Nothing is ever published there, and listening would look as if something might be.
            text = f'Permissions Violation for Subscription to "{frame.subject}"'
            self._link.write(encoder.error(text))
            return
        if (excess := self._excess(frame.subject)) is not None:
            text = f'Permissions Violation for Subscription to "{frame.subject}", {excess}'
            self._link.write(encoder.error(text))
            return
        wild = has_wildcards(frame.subject)
        if self._has_enough(wild):
            self._link.write(encoder.error("maximum subscriptions exceeded"))
            return
        subscription = Subscription(self, frame.subject, frame.queue, frame.sid, wild)
        self._subscriptions[frame.sid] = subscription
        self._wildcards += wild
        self._own.add(subscription)
        self._hub.router.add(subscription)
        self._ok()

    def _excess(self, subject: str) -> str | None:
        """Return what a subject has too much of to be listened to."""
        limits = self._hub.limits
        if subject.count(".") >= limits.max_tokens:
            return "too many tokens"
        if len(subject.encode(errors="surrogateescape")) > limits.max_subject:
            return "too long"
        return None

    def _has_enough(self, wild: bool) -> bool:
        """Tell whether the client, or the server, has as many subscriptions as it may."""
        limits = self._hub.limits
        return (
            len(self._subscriptions) >= limits.max_subscriptions
            or len(self._hub.router) >= limits.max_total_subscriptions
            or (wild and self._wildcards >= limits.max_wildcards)
        )

    def _unsubscribe(self, frame: Unsubscribe) -> None:
        subscription = self._subscriptions.get(frame.sid)
        if subscription is None:
            return
        if frame.max_messages is not None and frame.max_messages > subscription.delivered:
            subscription.left = frame.max_messages - subscription.delivered
            return
        self._remove(subscription)
        self._let_go(subscription)

    def _let_go(self, subscription: Subscription) -> None:
        """End the FETCHes whose reply nobody listens to, now that a subscription has ended."""
        for task, reply in list(self._fetches.items()):
            if matches(subscription.subject, reply) and not self._own.has_interest(reply):
                task.cancel()

    def _remove(self, subscription: Subscription) -> None:
        del self._subscriptions[subscription.sid]
        self._wildcards -= subscription.wild
        self._own.remove(subscription)
        self._hub.router.remove(subscription)

    def deliver(self, subscription: Subscription, message: Message) -> None:
        """Send a message to one of this client's subscriptions."""
        if self._stopped:
            return
        frame = message.frame
        head = len(frame.block) if self._headers else 0
        line = encoder.message(
            frame.subject, subscription.sid, frame.reply, head, len(frame.payload)
        )
        self._link.write(line, message.whole if head else message.bare)
        subscription.delivered += 1
        if subscription.left is not None:
            subscription.left -= 1
            if subscription.left <= 0:
                self._remove(subscription)
                if self._fetches:  # soon: one of them may be what has just been answered
                    asyncio.get_running_loop().call_soon(self._let_go, subscription)

    def _publish(self, frame: Publish) -> None:
        if frame.block and not self._headers:
            self._link.close("protocol", "message headers not supported")
            return
        if self._pedantic and not is_subject(frame.subject):
            self._link.write(encoder.error("Invalid Publish Subject"))
        self._ok()
        if frame.subject.startswith(subjects.ROOT):
            self._request(frame)
            return
        if frame.reply is not None and frame.reply.partition(".")[0] == _RESERVED:
            # Whoever answers would make a request of mq9, as whom they are, without knowing.
            text = f'Permissions Violation for Publish with Reply of "{frame.reply}"'
            self._link.write(encoder.error(text))
            return
        may = None if self._echo else self._is_not_mine
        receivers = self._hub.router.route(frame.subject, may)
        message = Message(frame)
        for to in receivers:
            to.session.deliver(to, message)
        if not receivers and frame.reply is not None and self._wants_503:
            self._say_that_nobody_listens(frame.subject, frame.reply)

    def _say_that_nobody_listens(self, subject: str, reply: str) -> None:
        """Tell the first subscription that waits for the reply; it does not count as a message."""
        for subscription in self._own.matching(reply):
            if subscription.queue is None:
                self._link.write(encoder.no_responders(reply, subscription.sid, subject))
                return

    def _is_not_mine(self, subscription: Subscription) -> bool:
        return subscription.session is not self

    def _request(self, frame: Publish) -> None:
        """Begin to answer a request of mq9."""
        is_fetch = frame.subject.startswith(_FETCH)
        refusal = None
        if self._hub.draining:
            refusal = replies.failure(
                Unavailable("the broker is about to stop and did nothing; repeat the request")
            )
        elif is_fetch and len(self._fetches) >= self._hub.limits.max_waiting:
            refusal = replies.failure(
                LimitReached(f"max_waiting: {len(self._fetches)} FETCHes of this connection wait")
            )
        if refusal is not None:
            self._answer(frame.reply, replies.encode(refusal))
            return
        try:
            headers = _read(frame.block)
        except Mq9Error as error:
            self._answer(frame.reply, replies.encode(replies.failure(error)))
            return
        # The reply of a FETCH must have somewhere to go, or its lease would be nobody's.
        wants_reply = frame.reply is not None and self._own.has_interest(frame.reply)
        task = asyncio.create_task(self._carry_out(frame, headers, wants_reply))
        self._tasks[task] = len(frame.block) + len(frame.payload)
        if frame.subject.startswith(_READS):
            self._tasks[task] += _READ_BYTES
        self._busy_bytes += self._tasks[task]
        self._hub.tasks.add(task)
        if is_fetch and frame.reply is not None:
            self._fetches[task] = frame.reply
        task.add_done_callback(self._done)

    async def _carry_out(self, frame: Publish, headers: Headers, wants_reply: bool) -> None:
        waiting = False

        def begin_to_wait() -> None:
            nonlocal waiting
            waiting = True
            self._waiting += 1
            self._relieve(asyncio.current_task())
            self._link.go_on()

        request = Request(
            frame.subject, frame.payload, headers, self._asker, wants_reply, begin_to_wait
        )
        try:
            reply = await self._hub.handle(request)
        finally:
            self._waiting -= waiting
        self._answer(frame.reply, reply)

    def _answer(self, subject: str | None, reply: bytes) -> None:
        if subject is None:
            return
        message = Message(Publish(subject, None, b"", reply))
        for subscription in self._own.route(subject):
            self.deliver(subscription, message)

    def _relieve(self, task: asyncio.Task[None] | None) -> None:
        """Take the bytes of a task off those in work."""
        assert task is not None  # noqa: S101  # it is one of ours
        self._busy_bytes -= self._tasks[task]
        self._tasks[task] = 0

    def _done(self, task: asyncio.Task[None]) -> None:
        self._relieve(task)
        del self._tasks[task]
        self._hub.tasks.discard(task)
        self._fetches.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.critical("%s: a request failed unexpectedly", self.name, exc_info=error)
        self._link.go_on()


def _read(block: bytes) -> Headers:
    """Return the headers of a request of mq9.

    Raises:
        PayloadTooLarge: There are too many.
        InvalidRequest: They cannot be read.
    """
    if len(block) > _MOST_HEADERS:
        raise PayloadTooLarge(f"headers: {len(block)} bytes are more than {_MOST_HEADERS}")
    try:
        return blocks.decode(block)
    except ValueError as error:
        raise InvalidRequest(f"headers: {error}") from None
