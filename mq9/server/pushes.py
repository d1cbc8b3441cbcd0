"""The subscriptions of one client that are sent mail.

Each has a task that reads a little, sends it, and goes on when the client's socket has taken it. So
a client that does not read is sent little, and delays nobody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from mq9.broker.feed import Feed
from mq9.broker.service import Session as Asker
from mq9.dialects.listening import Mail, headers_of
from mq9.errors import MailboxNotFound, Mq9Error
from mq9.protocol.outcomes import Fetched
from mq9.server.hub import Hub
from mq9.server.subscriptions import Message, Refused, Subscription, Subscriptions
from mq9.wire import encoder
from mq9.wire import headers as blocks
from mq9.wire.frames import Publish

logger = logging.getLogger("mq9.broker")

_MOST = 100  # messages that are sent before the client's socket must have taken them


class Connection(Protocol):
    """The client's connection, as far as what is pushed knows it."""

    def write(self, data: bytes) -> None:
        """Send something."""

    async def taken(self) -> None:
        """Return when the client's socket has taken what was written so far."""


class Pushes:
    """The subscriptions of one client that are sent mail, bounded in number.

    Args:
        hub: Gives them the mail, and knows the limits.
        subscriptions: All subscriptions of the client.
        connection: The client's.
        deliver: Sends a message to a subscription, and ends one that has had its last.
        name: The client's name, for the log.
    """

    def __init__(
        self,
        hub: Hub,
        subscriptions: Subscriptions,
        connection: Connection,
        deliver: Callable[[Subscription, Message], None],
        name: str,
    ) -> None:
        self._hub = hub
        self._subscriptions = subscriptions
        self._connection = connection
        self._deliver = deliver
        self._name = name
        self._tasks: dict[Subscription, asyncio.Task[None]] = {}
        self._sending: set[Subscription] = set()  # which the client's socket must take

    def check(self, subscription: Subscription, mail: Mail) -> None:
        """Refuse a subscription that cannot be sent mail.

        Raises:
            Refused: It cannot.
        """
        if len(self._tasks) >= self._hub.limits.max_waiting:
            raise Refused.too_many()
        if subscription.queue is not None and mail.wants is not None:
            raise Refused.of(
                subscription.subject, "a queue group is given messages of every priority"
            )

    def begin(self, subscription: Subscription, mail: Mail, asker: Asker) -> None:
        """Begin to send a subscription mail, of which some may be stored already."""
        group, read_by = subscription.queue, mail.read_by
        feed = self._hub.feed(asker, mail.mail_address, group, None if group else read_by)
        task = asyncio.create_task(self._push(subscription, mail, feed))
        self._tasks[subscription] = task
        self._hub.pushes.add(task)
        task.add_done_callback(lambda task: self._done(subscription, task))

    def end(self, subscription: Subscription) -> None:
        """Send a subscription nothing more; what it was sent before is confirmed nevertheless."""
        task = self._tasks.get(subscription)
        if task is not None and subscription not in self._sending:
            task.cancel()

    def clear(self) -> None:
        """Send no subscription anything more."""
        for task in self._tasks.values():
            task.cancel()

    async def _push(self, subscription: Subscription, mail: Mail, feed: Feed) -> None:
        try:
            while self._goes_on(subscription):
                most = _MOST if subscription.left is None else min(_MOST, subscription.left)
                fetched = await feed.read(most)
                if fetched is None:
                    return  # the broker stops
                await self._send(subscription, mail, fetched, feed)
        except Mq9Error as error:
            logger.info("%s is sent nothing of %s: %s", self._name, mail.mail_address, error)
            self._refuse(subscription, str(error))

    def _refuse(self, subscription: Subscription, why: str) -> None:
        """Tell the client that it is sent nothing more, and why."""
        if self._goes_on(subscription):
            self._connection.write(encoder.error(str(Refused.of(subscription.subject, why))))
            self._subscriptions.remove(subscription)

    def _goes_on(self, subscription: Subscription) -> bool:
        return self._subscriptions.get(subscription.sid) is subscription

    async def _send(
        self, subscription: Subscription, mail: Mail, fetched: Fetched, feed: Feed
    ) -> None:
        """Send messages, and confirm them once the socket has taken them."""
        sent = []
        self._sending.add(subscription)
        try:
            for message in mail.chosen(fetched.messages):
                if not self._goes_on(subscription):
                    break  # it has had as many as it wanted
                block = blocks.encode(headers_of(message))
                frame = Publish(mail.subject_of(message), None, block, message.payload)
                self._deliver(subscription, Message(frame))
                sent.append(message.msg_id)
            await self._connection.taken()
        except BaseException:
            feed.return_unread(fetched)
            raise
        finally:
            self._sending.discard(subscription)
        # Whoever unsubscribes, or leaves, has them nevertheless.
        confirmed = asyncio.create_task(self._confirm(feed, fetched, sent))
        self._hub.pushes.add(confirmed)
        confirmed.add_done_callback(self._hub.pushes.discard)
        await asyncio.shield(confirmed)

    async def _confirm(self, feed: Feed, fetched: Fetched, sent: list[int]) -> None:
        try:
            await feed.taken(fetched, sent)
        except MailboxNotFound:
            pass  # with all that was to be confirmed
        except Mq9Error as error:
            logger.warning(
                "%s was sent mail of %s that could not be confirmed: %s",
                self._name,
                fetched.mail_address,
                error,
            )

    def _done(self, subscription: Subscription, task: asyncio.Task[None]) -> None:
        del self._tasks[subscription]
        self._hub.pushes.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.critical("%s: a subscription failed unexpectedly", self._name, exc_info=error)
            self._refuse(subscription, "the broker failed")
