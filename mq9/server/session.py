"""One client's session: the effects of its frames.

Requests of mq9 go to the broker. All other messages are published to the subscriptions of all
clients, as any NATS server does. A reply of the broker goes to its client only, and not to other
subscribers of ``>``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mq9 import dialects
from mq9.broker.asked import BrokerSession
from mq9.broker.official import PayloadForm
from mq9.dialects import second
from mq9.dialects.listening import Broadcast, Mail
from mq9.errors import Mq9Error, Unauthorized
from mq9.protocol import subjects
from mq9.server.hub import Hub
from mq9.server.pushes import Pushes
from mq9.server.requests import Requests
from mq9.server.subscriptions import (
    RESERVED,
    ClientSubscriptions,
    PublishedMessage,
    Refused,
    Subscription,
)
from mq9.server.users import Admitted
from mq9.wire import encoder
from mq9.wire.parser import Connect, Frame, Ping, Pong, Publish, Subscribe, Unsubscribe
from mq9.wire.subjects import has_wildcards, is_subject

if TYPE_CHECKING:
    from mq9.server.connection import ClientConnection

logger = logging.getLogger("mq9.broker")

_MAX_PINGS = 2  # that may be unanswered


class ClientSession:
    """Acts on what one client sends."""

    def __init__(self, hub: Hub, connection: ClientConnection, consumer: str) -> None:
        self.hub = hub
        self.connection = connection
        self.name = f"client {connection.number}"  # for the log; later with its own name
        self.takes_info = False  # whether it understands an INFO that comes later
        self._peer, self._address = connection.peer, connection.host
        # The consumer stands in for the one that a request does not name.
        self._broker_session = BrokerSession(consumer, payloads=PayloadForm(hub.encoding))
        self.subscriptions = ClientSubscriptions(hub.router, hub.limits)
        self._requests = Requests(self)
        self._pushes = Pushes(self)
        self._connected = False
        self._admitted_as: Admitted | None = None
        self._admission: asyncio.Task[None] | None = None  # while it is decided who the client is
        # Defaults, until the client changes them.
        self._verbose = True
        self._pedantic = True
        self._echo = True
        self._headers = False
        self._wants_503 = False
        self._unanswered_pings = 0  # since the last PONG, of the keep-alive PINGs
        self._pings: deque[asyncio.Future[None] | None] = deque()  # unanswered, in order
        self._stopped = False

    @property
    def agent(self) -> str | None:
        """The agent that the client has authenticated as."""
        return self._broker_session.agent

    @property
    def has_connected(self) -> bool:
        """Whether the client has authenticated, or need not."""
        return self._connected or self.hub.guard.is_open

    @property
    def is_being_admitted(self) -> bool:
        """Whether the server still checks the credentials of the client."""
        return self._admission is not None

    @property
    def is_busy(self) -> bool:
        """Whether further frames should wait until requests are done."""
        return self._admission is not None or self._requests.is_full

    def take_some(self, frames: deque[Frame]) -> None:
        """Act on the first frame, or on several SENDs at once, and take them from there."""
        is_quiet = self._headers and not self._verbose and self.has_connected
        if not (is_quiet and self._requests.begin_sends(frames, self._broker_session)):
            self.take(frames.popleft())

    def take(self, frame: Frame) -> None:
        """Act on a frame."""
        if isinstance(frame, Publish) and self.has_connected:
            self._publish(frame)
        elif isinstance(frame, Connect):
            if self._connected:
                self._connect(frame.options)
            else:
                self._admission = asyncio.create_task(self._admit(frame.options))
                self._admission.add_done_callback(self._admitted)
        elif not self.has_connected:
            self.connection.close("auth", "Authorization Violation")
        elif isinstance(frame, Subscribe):
            self._subscribe(frame)
        elif isinstance(frame, Unsubscribe):
            self._ok()
            self._unsubscribe(frame)
        elif isinstance(frame, Ping):
            self.connection.write(encoder.PONG)
        else:
            assert isinstance(frame, Pong)  # noqa: S101  # there is no other frame
            self._unanswered_pings = 0
            answered = self._pings.popleft() if self._pings else None
            if answered is not None and not answered.done():
                answered.set_result(None)

    def ping(self) -> None:
        """Send a keep-alive PING; end the connection if earlier ones have no answer."""
        if self._unanswered_pings >= _MAX_PINGS:
            self.connection.close("stale", "Stale Connection")
            return
        self._unanswered_pings += 1
        self._pings.append(None)
        self.connection.write(encoder.PING)

    async def has_read(self) -> None:
        """Return when the client has read everything that was written: it answers a PING."""
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pings.append(answered)
        self.connection.write(encoder.PING)
        await answered

    def stop(self) -> None:
        """Give the client nothing more, since its connection is about to end."""
        self._stopped = True
        if self._admission is not None:
            self._admission.cancel()
        self._requests.cancel_fetches()
        self._pushes.clear()

    def end(self) -> None:
        """Forget the client. Its requests are carried out, but lease nothing more."""
        self.stop()
        self.subscriptions.clear()
        self.hub.broker.forget(self._broker_session.consumer)

    def deliver(self, subscription: Subscription, message: PublishedMessage) -> None:
        """Send a message to one of this client's subscriptions."""
        if self._stopped:
            return
        frame = message.frame
        head = len(frame.block) if self._headers else 0
        line = encoder.message(
            frame.subject, subscription.sid, frame.reply, head, len(frame.payload)
        )
        self.connection.write(line, message.body(has_headers=head > 0))
        subscription.delivered += 1
        if subscription.left is not None:
            subscription.left -= 1
            if subscription.left <= 0:
                self.subscriptions.remove(subscription)
                if self._requests.fetches:
                    # Soon: one of them may have been answered just now.
                    asyncio.get_running_loop().call_soon(
                        self._requests.cancel_unheard, subscription
                    )

    def _ok(self) -> None:
        if self._verbose:
            self.connection.write(encoder.OK)

    async def _admit(self, options: dict[str, Any]) -> None:
        """Admit the client, or refuse it; its frames wait in the meantime."""
        try:
            admitted = await self.hub.guard.admit(options, self._address)
        except Unauthorized as error:
            logger.warning(
                "a client was refused: %s",
                error,
                extra={"client": self.connection.number, "peer": self._peer},
            )
            self.connection.close("auth", "Authorization Violation")
            return
        if not self.hub.guard.knows(admitted):  # the users were reloaded in the meantime
            self.connection.close("auth", "Authorization Violation")
            return
        self._admitted_as = admitted
        self._broker_session = replace(
            self._broker_session,
            agent=admitted.agent,
            role=admitted.role,
            reserved=self.hub.guard.reserved,
            is_older_sdk=second.is_sdk(options.get("name")),
            payloads=PayloadForm(self.hub.encoding, options.get("lang")),
        )
        self._connected = True
        if admitted.agent is not None:
            self.connection.count_for(admitted.agent)
        self._connect(options)

    def check_user(self) -> None:
        """End the connection if its user was removed or changed; else apply the new names."""
        guard = self.hub.guard
        if self._admitted_as is None:
            return
        # A subscription for mail keeps the rights that it began with.
        keeps_rights = self._pushes.is_active and guard.reserved != self._broker_session.reserved
        if keeps_rights or not guard.knows(self._admitted_as):
            self.connection.close("revoked", "User Authentication Revoked")
            return
        self._broker_session = replace(self._broker_session, reserved=guard.reserved)

    def _admitted(self, task: asyncio.Task[None]) -> None:
        self._admission = None
        if task.cancelled():
            return  # the connection has ended
        if (error := task.exception()) is not None:
            logger.critical("%s could not be let in", self.name, exc_info=error)
            self.connection.close("auth", "Authorization Violation")
        self.connection.resume()

    def _connect(self, options: dict[str, Any]) -> None:
        self._verbose = options.get("verbose", self._verbose)
        self._pedantic = options.get("pedantic", self._pedantic)
        self._echo = options.get("echo", self._echo)
        self._headers = options.get("headers", self._headers)
        self._wants_503 = options.get("no_responders", self._wants_503)
        self.takes_info = options.get("protocol", 0) > 0
        if self._wants_503 and not self._headers:
            self.connection.close("protocol", "no responders requires headers support")
            return
        if name := options.get("name"):
            self.name = f"client {self.connection.number} ({name[:64]})"
        logger.debug("%s connected", self.name, extra={"agent": self.agent})
        self._ok()

    def _subscribe(self, frame: Subscribe) -> None:
        if self._stopped:
            return
        if frame.sid not in self.subscriptions.by_sid:
            try:
                self._listen(frame)
            except Refused as refused:
                self.connection.write(encoder.error(str(refused)))
                return
        self._ok()

    def _listen(self, frame: Subscribe) -> None:
        """Begin a subscription."""
        subject = frame.subject
        listening = None
        if subject.startswith(subjects.ROOT):
            try:
                listening = dialects.listen(subject, self.hub.broker.dialects)
            except Mq9Error as error:
                raise Refused.of(subject, str(error)) from error
            if isinstance(listening, Broadcast):
                subject = listening.pattern
        self.subscriptions.check(subject, is_of_mq9=listening is not None)
        wild = has_wildcards(subject)
        subscription = Subscription(self, subject, frame.queue, frame.sid, wild)
        if isinstance(listening, Mail):
            self._pushes.check(subscription, listening)
        self.subscriptions.add(subscription)
        if isinstance(listening, Mail):
            self._pushes.begin(subscription, listening, self._broker_session)

    def _unsubscribe(self, frame: Unsubscribe) -> None:
        subscription = self.subscriptions.by_sid.get(frame.sid)
        if subscription is None:
            return
        if frame.max_messages is not None and frame.max_messages > subscription.delivered:
            subscription.left = frame.max_messages - subscription.delivered
            return
        self.subscriptions.remove(subscription)
        self._pushes.end(subscription)
        self._requests.cancel_unheard(subscription)

    def _publish(self, frame: Publish) -> None:
        if frame.block and not self._headers:
            self.connection.close("protocol", "message headers not supported")
            return
        if self._pedantic and not is_subject(frame.subject):
            self.connection.write(encoder.error("Invalid Publish Subject"))
        self._ok()
        if frame.subject.startswith(subjects.ROOT) and not dialects.is_broadcast(
            frame.subject, self.hub.broker.dialects
        ):
            self._requests.begin(frame, self._broker_session)
            return
        if frame.subject.startswith(subjects.ROOT) and not self._broker_session.may_broadcast:
            text = f'Permissions Violation for Publish to "{frame.subject}"'
            self.connection.write(encoder.error(text))
            return
        if frame.reply is not None and frame.reply.partition(".")[0] == RESERVED:
            # A client that answers would make a request of mq9 under its own name, unknowingly.
            text = f'Permissions Violation for Publish with Reply of "{frame.reply}"'
            self.connection.write(encoder.error(text))
            return
        may = None if self._echo else lambda to: to.session is not self
        receivers = self.hub.router.route(frame.subject, may)
        message = PublishedMessage(frame)
        for to in receivers:
            to.session.deliver(to, message)
        if not receivers:
            self.hub.unheard()
            logger.debug("%s published to %s, which nobody hears", self.name, frame.subject)
            if frame.reply is not None and self._wants_503:
                self._say_that_nobody_listens(frame.subject, frame.reply)

    def _say_that_nobody_listens(self, subject: str, reply: str) -> None:
        """Tell the first subscription that waits for the reply; it does not count as a message."""
        for subscription in self.subscriptions.own.matching(reply):
            if subscription.queue is None:
                self.connection.write(encoder.no_responders(reply, subscription.sid, subject))
                return

    def answer(self, subject: str | None, reply: bytes) -> None:
        """Send a reply of the broker to the client's own subscriptions."""
        if subject is None:
            return
        message = PublishedMessage(Publish(subject, None, b"", reply))
        for subscription in self.subscriptions.own.route(subject):
            self.deliver(subscription, message)

    def answer_all(self, answers: Sequence[tuple[str | None, str]]) -> None:
        """Send replies of the broker, each to its subject, as `answer` does but together."""
        if self._stopped:
            return
        prefix, subscription = self.subscriptions.inbox
        start = len(prefix)
        written: list[str] = []
        for subject, reply in answers:
            if (
                subscription is None
                or subscription.left is not None
                or subject is None
                or not subject.startswith(prefix)
                or "." in subject[start:]
                or len(subject) == start
                or not reply.isascii()
            ):
                self.answer(subject, reply.encode())
            else:
                written.append(encoder.text_message(subject, subscription.sid, reply))
        if subscription is not None and written:
            subscription.delivered += len(written)
            self.connection.write("".join(written).encode(errors="surrogateescape"))
