"""One client's session: what each frame that it sends brings about.

Requests of mq9 go to the broker; anything else is published to the subscriptions of all clients, as
any NATS server does. A reply of the broker reaches only the client that asked: mail is not for
whoever is subscribed to ``>``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import replace
from typing import Any, Protocol

from mq9.broker.official import PayloadForm
from mq9.broker.service import Session as Asker
from mq9.dialects import second
from mq9.dialects.listening import Broadcast, Mail
from mq9.errors import Mq9Error, Unauthorized
from mq9.protocol import subjects
from mq9.server.hub import Hub
from mq9.server.outgoing import Body
from mq9.server.pushes import Pushes
from mq9.server.requests import Requests
from mq9.server.subscriptions import RESERVED, Message, Refused, Subscription, Subscriptions
from mq9.wire import encoder
from mq9.wire.parser import Connect, Frame, Ping, Pong, Publish, Subscribe, Unsubscribe
from mq9.wire.subjects import has_wildcards, is_subject

logger = logging.getLogger("mq9.broker")

_MAX_PINGS = 2  # that may be unanswered


class Connection(Protocol):
    """The client's connection, as far as a session knows it."""

    def write(self, data: bytes, body: Body | None = None) -> None:
        """Send something; a client that does not read what it is sent is cut off."""

    async def taken(self) -> None:
        """Return when the client's socket has taken what was written so far."""

    def count_for(self, agent: str) -> None:
        """Count what the client leaves unread for the agent that it is, too."""

    def close(self, reason: str, text: str) -> None:
        """End the connection with a protocol error.

        Args:
            reason: A word for the metrics.
            text: What the client is told.
        """

    def resume(self) -> None:
        """Take further frames, where that had been put off."""


class Session:
    """Acts on what one client sends.

    Args:
        hub: What it shares with the other sessions.
        connection: The client's connection.
        number: The client's number at this server.
        consumer: Stands in for the consumer that a request does not name; random.
        peer: The client's address and port, for the log.

    Attributes:
        name: The client's number, and its own name once it has told it, for the log.
        takes_info: Whether the client understands an INFO that comes later.
    """

    def __init__(
        self,
        hub: Hub,
        connection: Connection,
        number: int,
        consumer: str,
        peer: str = "",
    ) -> None:
        self.name = f"client {number}"
        self.takes_info = False
        self._hub = hub
        self._connection = connection
        self._number = number
        self._peer = peer
        self._address = peer.rpartition(":")[0]
        self._asker = Asker(consumer, payloads=PayloadForm(hub.encoding))
        self._subscriptions = Subscriptions(hub.router, hub.limits)
        self._requests = Requests(
            hub, self._subscriptions, self._answer, connection.resume, self.name
        )
        self._pushes = Pushes(
            hub, self._subscriptions, connection, self.deliver, self._has_read, self.name
        )
        self._connected = False
        self._admission: asyncio.Task[None] | None = None  # while it is decided who the client is
        # What holds for a client until it says otherwise.
        self._verbose = True
        self._pedantic = True
        self._echo = True
        self._headers = False
        self._wants_503 = False
        self._unanswered_pings = 0  # since the last PONG, of those that ask whether it is there
        self._pings: deque[asyncio.Future[None] | None] = deque()  # unanswered, in order
        self._stopped = False

    @property
    def agent(self) -> str | None:
        """The agent that the client has authenticated as."""
        return self._asker.agent

    @property
    def has_connected(self) -> bool:
        """Whether the client has said who it is, where it must."""
        return self._connected or self._hub.guard.is_open

    @property
    def is_being_admitted(self) -> bool:
        """Whether the client has said who it is, and the server still compares its password."""
        return self._admission is not None

    @property
    def is_busy(self) -> bool:
        """Whether further frames should wait until requests are done."""
        return self._admission is not None or self._requests.is_full

    def take(self, frame: Frame) -> None:
        """Act on a frame."""
        if isinstance(frame, Connect):
            if self._connected:
                self._connect(frame.options)
            else:
                self._admission = asyncio.create_task(self._admit(frame.options))
                self._admission.add_done_callback(self._admitted)
        elif not self.has_connected:
            self._connection.close("auth", "Authorization Violation")
        elif isinstance(frame, Publish):
            self._publish(frame)
        elif isinstance(frame, Subscribe):
            self._subscribe(frame)
        elif isinstance(frame, Unsubscribe):
            self._ok()
            self._unsubscribe(frame)
        elif isinstance(frame, Ping):
            self._connection.write(encoder.PONG)
        else:
            assert isinstance(frame, Pong)  # noqa: S101  # there is no other frame
            self._unanswered_pings = 0
            answered = self._pings.popleft() if self._pings else None
            if answered is not None and not answered.done():
                answered.set_result(None)

    def ping(self) -> None:
        """Ask the client whether it is there; end the connection when it has not answered."""
        if self._unanswered_pings >= _MAX_PINGS:
            self._connection.close("stale", "Stale Connection")
            return
        self._unanswered_pings += 1
        self._send_ping(None)

    def _send_ping(self, answered: asyncio.Future[None] | None) -> None:
        self._pings.append(answered)
        self._connection.write(encoder.PING)

    async def _has_read(self) -> None:
        """Return when the client has read everything that was written: it answers a PING."""
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._send_ping(answered)
        await answered

    def stop(self) -> None:
        """Give the client nothing more, since its connection is about to end."""
        self._stopped = True
        if self._admission is not None:
            self._admission.cancel()
        self._requests.cancel_fetches()
        self._pushes.clear()

    def end(self) -> None:
        """Forget the client. What it had sent is carried out; nothing is leased any more."""
        self.stop()
        self._subscriptions.clear()
        self._hub.forget(self._asker.consumer)

    def deliver(self, subscription: Subscription, message: Message) -> None:
        """Send a message to one of this client's subscriptions."""
        if self._stopped:
            return
        frame = message.frame
        head = len(frame.block) if self._headers else 0
        line = encoder.message(
            frame.subject, subscription.sid, frame.reply, head, len(frame.payload)
        )
        self._connection.write(line, message.whole if head else message.bare)
        subscription.delivered += 1
        if subscription.left is not None:
            subscription.left -= 1
            if subscription.left <= 0:
                self._subscriptions.remove(subscription)
                if self._requests.has_fetches:
                    # Soon: one of them may be what has just been answered.
                    asyncio.get_running_loop().call_soon(
                        self._requests.cancel_unheard, subscription
                    )

    def _ok(self) -> None:
        if self._verbose:
            self._connection.write(encoder.OK)

    async def _admit(self, options: dict[str, Any]) -> None:
        """Let the client in, or refuse it; what it sends meanwhile waits."""
        try:
            agent = await self._hub.guard.admit(options, self._address)
        except Unauthorized as error:
            logger.warning(
                "a client was refused: %s",
                error,
                extra={"client": self._number, "peer": self._peer},
            )
            self._connection.close("auth", "Authorization Violation")
            return
        self._asker = replace(
            self._asker,
            agent=agent,
            reserved=self._hub.guard.reserved,
            is_older_sdk=second.is_sdk(options.get("name")),
            payloads=PayloadForm(self._hub.encoding, options.get("lang")),
        )
        self._connected = True
        if agent is not None:
            self._connection.count_for(agent)
        self._connect(options)

    def _admitted(self, task: asyncio.Task[None]) -> None:
        self._admission = None
        if task.cancelled():
            return  # the connection has ended
        if (error := task.exception()) is not None:
            logger.critical("%s could not be let in", self.name, exc_info=error)
            self._connection.close("auth", "Authorization Violation")
        self._connection.resume()

    def _connect(self, options: dict[str, Any]) -> None:
        self._verbose = options.get("verbose", self._verbose)
        self._pedantic = options.get("pedantic", self._pedantic)
        self._echo = options.get("echo", self._echo)
        self._headers = options.get("headers", self._headers)
        self._wants_503 = options.get("no_responders", self._wants_503)
        self.takes_info = options.get("protocol", 0) > 0
        if self._wants_503 and not self._headers:
            self._connection.close("protocol", "no responders requires headers support")
            return
        if name := options.get("name"):
            self.name = f"client {self._number} ({name[:64]})"
        logger.debug("%s connected", self.name, extra={"agent": self.agent})
        self._ok()

    def _subscribe(self, frame: Subscribe) -> None:
        if self._stopped:
            return
        if frame.sid not in self._subscriptions:
            try:
                self._listen(frame)
            except Refused as refused:
                self._connection.write(encoder.error(str(refused)))
                return
        self._ok()

    def _listen(self, frame: Subscribe) -> None:
        """Begin a subscription.

        Raises:
            Refused: It may not be.
        """
        subject = frame.subject
        listening = None
        if subject.startswith(subjects.ROOT):
            try:
                listening = self._hub.listen(subject)
            except Mq9Error as error:
                raise Refused.of(subject, str(error)) from error
            if isinstance(listening, Broadcast):
                subject = listening.pattern
        self._subscriptions.check(subject, is_of_mq9=listening is not None)
        wild = has_wildcards(subject)
        subscription = Subscription(self, subject, frame.queue, frame.sid, wild)
        if isinstance(listening, Mail):
            self._pushes.check(subscription, listening)
        self._subscriptions.add(subscription)
        if isinstance(listening, Mail):
            self._pushes.begin(subscription, listening, self._asker)

    def _unsubscribe(self, frame: Unsubscribe) -> None:
        subscription = self._subscriptions.get(frame.sid)
        if subscription is None:
            return
        if frame.max_messages is not None and frame.max_messages > subscription.delivered:
            subscription.left = frame.max_messages - subscription.delivered
            return
        self._subscriptions.remove(subscription)
        self._pushes.end(subscription)
        self._requests.cancel_unheard(subscription)

    def _publish(self, frame: Publish) -> None:
        if frame.block and not self._headers:
            self._connection.close("protocol", "message headers not supported")
            return
        if self._pedantic and not is_subject(frame.subject):
            self._connection.write(encoder.error("Invalid Publish Subject"))
        self._ok()
        if frame.subject.startswith(subjects.ROOT) and not self._hub.is_broadcast(frame.subject):
            self._requests.begin(frame, self._asker)
            return
        if frame.subject.startswith(subjects.ROOT) and self._asker.has_allow_list:
            # A broadcast goes to no mailbox that a list could name.
            text = f'Permissions Violation for Publish to "{frame.subject}"'
            self._connection.write(encoder.error(text))
            return
        if frame.reply is not None and frame.reply.partition(".")[0] == RESERVED:
            # Whoever answers would make a request of mq9, as whom they are, without knowing.
            text = f'Permissions Violation for Publish with Reply of "{frame.reply}"'
            self._connection.write(encoder.error(text))
            return
        may = None if self._echo else self._is_not_mine
        receivers = self._hub.router.route(frame.subject, may)
        message = Message(frame)
        for to in receivers:
            to.session.deliver(to, message)
        if not receivers:
            self._hub.unheard()
            logger.debug("%s published to %s, which nobody hears", self.name, frame.subject)
            if frame.reply is not None and self._wants_503:
                self._say_that_nobody_listens(frame.subject, frame.reply)

    def _is_not_mine(self, subscription: Subscription) -> bool:
        return subscription.session is not self

    def _say_that_nobody_listens(self, subject: str, reply: str) -> None:
        """Tell the first subscription that waits for the reply; it does not count as a message."""
        for subscription in self._subscriptions.matching(reply):
            if subscription.queue is None:
                self._connection.write(encoder.no_responders(reply, subscription.sid, subject))
                return

    def _answer(self, subject: str | None, reply: bytes) -> None:
        """Send a reply of the broker to the client's own subscriptions."""
        if subject is None:
            return
        message = Message(Publish(subject, None, b"", reply))
        for subscription in self._subscriptions.route(subject):
            self.deliver(subscription, message)
