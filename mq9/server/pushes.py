"""The subscriptions of one client that are sent mail.

Each has a task that reads some messages, sends them, and continues when the client's socket has
taken them. The subscriptions of a connection do so one after the other. So a client that does not
read is sent at most one such part, and delays no other client.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from mq9.broker.asked import BrokerSession
from mq9.broker.feed import Feed, Given
from mq9.dialects.listening import Mail, headers_of
from mq9.errors import MailboxNotFound, Mq9Error
from mq9.protocol.outcomes import Fetched
from mq9.server.subscriptions import TOO_MANY, PublishedMessage, Refused, Subscription
from mq9.wire import encoder
from mq9.wire import headers as blocks
from mq9.wire.parser import Publish

if TYPE_CHECKING:
    from mq9.server.session import ClientSession

logger = logging.getLogger("mq9.broker")

_MOST = 100  # messages that are sent before the client's socket must have taken them

ReadTurn: TypeAlias = Callable[[], AbstractAsyncContextManager[object]]


class Pushes:
    """The subscriptions of one client that are sent mail, bounded in number."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self._hub = session.hub
        self._subscriptions = session.subscriptions
        self._connection = session.connection
        self._one_at_a_time = asyncio.Lock()
        self._tasks: dict[Subscription, asyncio.Task[None]] = {}
        self._sending: set[Subscription] = set()  # which the client's socket must take

    @property
    def is_active(self) -> bool:
        """Whether any subscription is sent mail."""
        return bool(self._tasks)

    def check(self, subscription: Subscription, mail: Mail) -> None:
        """Refuse a subscription that cannot be sent mail."""
        if len(self._tasks) >= self._hub.limits.max_waiting:
            raise Refused(TOO_MANY)
        if subscription.queue is not None and mail.wants is not None:
            raise Refused.of(
                subscription.subject, "a queue group is given messages of every priority"
            )

    def begin(self, subscription: Subscription, mail: Mail, broker_session: BrokerSession) -> None:
        """Start to send mail to a subscription, also stored mail."""
        group, read_by = subscription.queue, mail.read_by
        feed = self._hub.broker.feed(
            broker_session, mail.mail_address, group, None if group else read_by
        )
        turn = partial(self._turn, broker_session.client)
        task = asyncio.create_task(self._push(subscription, mail, feed, turn))
        self._tasks[subscription] = task
        self._hub.pushes.add(task)
        task.add_done_callback(lambda task: self._done(subscription, task))

    def end(self, subscription: Subscription) -> None:
        """Stop sending to a subscription; sent messages are still confirmed."""
        task = self._tasks.get(subscription)
        if task is not None and subscription not in self._sending:
            task.cancel()

    def clear(self) -> None:
        """Send no subscription anything more."""
        for task in self._tasks.values():
            task.cancel()

    @asynccontextmanager
    async def _turn(self, client: str) -> AsyncIterator[None]:
        """Wait until the socket has taken the last part, and until the agent may read."""
        async with self._one_at_a_time:
            await self._connection.out.taken()
            async with self._hub.reading(client):
                yield

    async def _push(
        self, subscription: Subscription, mail: Mail, feed: Feed, turn: ReadTurn
    ) -> None:
        try:
            with feed.joined():
                while self._goes_on(subscription):
                    if not await self._send_next(subscription, mail, feed, turn):
                        return  # the broker stops
        except Mq9Error as error:
            logger.info(
                "%s is sent nothing of %s: %s", self._session.name, mail.mail_address, error
            )
            self._refuse(subscription, str(error))

    def _refuse(self, subscription: Subscription, why: str) -> None:
        """Tell the client that it is sent nothing more, and why."""
        if self._goes_on(subscription):
            self._connection.write(encoder.error(str(Refused.of(subscription.subject, why))))
            self._subscriptions.remove(subscription)

    def _goes_on(self, subscription: Subscription) -> bool:
        return self._subscriptions.by_sid.get(subscription.sid) is subscription

    async def _send_next(
        self, subscription: Subscription, mail: Mail, feed: Feed, turn: ReadTurn
    ) -> bool:
        """Send the next messages, and confirm them; False when the broker stops."""
        most = _MOST if subscription.left is None else min(_MOST, subscription.left)
        given = None
        try:
            async with feed.next(most, turn) as fetched:
                if fetched is None:
                    return False
                given = Given.of(fetched)
                self._sending.add(subscription)
                sent = self._write(subscription, mail, fetched)
                del fetched  # from now on the connection holds the payloads, and counts them
            await self._connection.out.taken()
            if subscription.queue is not None:
                await self._session.has_read()
        except BaseException:
            if given is not None:
                feed.return_unread(given)
            raise
        finally:
            self._sending.discard(subscription)
        # A client that unsubscribes or leaves now has read them all the same.
        confirmed = asyncio.create_task(self._confirm(feed, given, sent))
        self._hub.pushes.add(confirmed)
        confirmed.add_done_callback(self._hub.pushes.discard)
        await asyncio.shield(confirmed)
        return True

    def _write(self, subscription: Subscription, mail: Mail, fetched: Fetched) -> list[int]:
        """Write messages to the connection; return the ids of those that were written."""
        sent = []
        # The members of a group get different messages; other subscriptions get the same ones.
        bodies = None if subscription.queue else self._hub.bodies
        for message in mail.chosen(fetched.messages):
            if not self._goes_on(subscription):
                break  # it has had as many as it wanted
            block = blocks.encode(headers_of(message))
            frame = Publish(mail.subject_of(message), None, block, message.payload)
            name = (fetched.generation, message.msg_id)
            self._session.deliver(subscription, PublishedMessage(frame, bodies, name))
            sent.append(message.msg_id)
        return sent

    async def _confirm(self, feed: Feed, given: Given, sent: list[int]) -> None:
        try:
            await feed.taken(given, sent)
        except MailboxNotFound:
            pass  # with all that was to be confirmed
        except Mq9Error as error:
            logger.warning(
                "%s was sent mail of %s that could not be confirmed: %s",
                self._session.name,
                given.mail_address,
                error,
            )

    def _done(self, subscription: Subscription, task: asyncio.Task[None]) -> None:
        del self._tasks[subscription]
        self._hub.pushes.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.critical(
                "%s: a subscription failed unexpectedly", self._session.name, exc_info=error
            )
            self._refuse(subscription, "the broker failed")
