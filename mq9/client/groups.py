"""The methods of a client on messages that a consumer group fetched."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, overload

from mq9 import address as addresses
from mq9.client import arguments, tracing
from mq9.client.base import ClientBase
from mq9.errors import InvalidRequest
from mq9.models import Deliver, Extended, FetchResult, Priority, Promise, StoredMessage
from mq9.protocol import checks, replies, requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message as it was delivered to a consumer group."""

    mail_address: str
    group_name: str
    msg_id: int
    consumer: str | None = None
    batch: str | None = None


def of_call(
    target: StoredMessage | str,
    group_name: str | None,
    msg_id: int | None,
    *,
    consumer: str | None,
    batch: str | None,
    **others: object,
) -> Delivery:
    """Return the delivery that a method call refers to, by message or by ids."""
    if isinstance(target, StoredMessage):
        return of_message(
            target, group_name=group_name, msg_id=msg_id, consumer=consumer, batch=batch, **others
        )
    return Delivery(
        mail_address=addresses.parse(target),
        group_name=arguments.given("group_name", group_name),
        msg_id=arguments.given("msg_id", msg_id),
        consumer=consumer,
        batch=batch,
    )


def of_message(message: StoredMessage, **given: object) -> Delivery:
    """Return the delivery of a message."""
    for name, value in given.items():
        if value is not None:
            raise InvalidRequest(f"{name}: {checks.shown(value)} does not go with a message")
    if message.group_name is None:
        raise InvalidRequest(
            f"message: {message.msg_id} of {message.mail_address} was not fetched by a consumer "
            "group, which alone acks, gives back, extends and moves"
        )
    return Delivery(
        mail_address=addresses.parse(message.mail_address),
        group_name=message.group_name,
        msg_id=message.msg_id,
        consumer=message.consumer,
        batch=message.batch,
    )


_OfOne = TypeVar("_OfOne", requests.Ack, requests.Nack, requests.Move)

_delay_s = checks.seconds(requests.MAX_LEASE_MS // 1000)
_lease_s = checks.number(1, requests.MAX_LEASE_MS // 1000)


class GroupMethods(ClientBase):
    """Fetch messages for a consumer group, and ack, give back, move or extend them."""

    async def fetch(
        self,
        mail_address: str,
        *,
        group_name: str | None = None,
        deliver: Deliver | str = Deliver.EARLIEST,
        from_time: int | None = None,
        from_id: int | None = None,
        priority: Priority | str | None = None,
        force_deliver: bool = False,
        num_msgs: int = 100,
        max_wait_ms: int = 500,
        lease_ms: int = requests.DEFAULT_LEASE_MS,
        max_bytes: int = requests.DEFAULT_MAX_BYTES,
        redeliver_own: bool = True,
        begun: bool = False,
        list_held: bool = False,
        min_msgs: int = 1,
        linger_ms: int = 0,
        consumer: str | None = None,
    ) -> FetchResult:
        """Fetch messages, most urgent first. If there are none, wait for one.

        With a group, the messages are leased to this consumer until it acks them or the lease ends.
        Other consumers of the group do not get them in that time. Without a group, the broker
        leases no messages and stores no position. A cancelled fetch leases no messages.

        Args:
            mail_address: The mailbox to read.
            group_name: The consumer group.
            deliver: Where a new group, or a read without a group, starts: ``earliest`` (all stored
                messages), ``latest`` (the newest stored message), ``new`` (messages that arrive
                from now on; without a group, during this wait), ``from_time`` or ``from_id``.
                Default: ``earliest``.
            from_time: An instant in Unix seconds, for ``deliver="from_time"``.
            from_id: The first msg_id, for ``deliver="from_id"``.
            priority: Without a group: only messages of this priority.
            force_deliver: Whether the group forgets its position, leases and acks and starts again.
                Default: False.
            num_msgs: Maximum number of messages to return, 1 to 1 000. Default: 100.
            max_wait_ms: Milliseconds to wait for a first message, 0 to 86 400 000. Default: 500.
            lease_ms: Milliseconds until the leases end, 1 000 to 86 400 000. Default: 60 000.
            max_bytes: Maximum size of the reply in bytes, up to 64 MiB. Default: 4 MiB. The reply
                always has room for one message.
            redeliver_own: Whether to return again the messages that this consumer has not acked.
                Default: True.
            begun: Whether this consumer starts to handle the messages at once. If a lease then ends
                before the message is acked or given back, that counts as one of its ``deaths``. A
                message that has deaths already comes without this mark: set it with ``extend``.
                Default: False.
            list_held: Whether ``held`` lists the other messages that the group's consumers hold.
                Default: False.
            min_msgs: With a group: wait until this many messages can be delivered, 1 to
                ``num_msgs``. At the end of ``max_wait_ms`` the reply has the messages that there
                are. Default: 1.
            linger_ms: With a group: once ``min_msgs`` can be delivered, wait for further messages,
                0 to 60 000 milliseconds. The wait ends early when the reply is full or
                ``max_wait_ms`` is over. Default: 0.
            consumer: The consumer that fetches. Default: this client.

        Returns:
            A list of messages. If it is empty, its ``waiting`` gives the reason.

        Raises:
            MailboxNotFound: The mailbox does not exist, or expired during the wait.

        Example:
            ```python
            for message in await client.fetch("garden", group_name="helpers", max_wait_ms=30_000):
                print(message.text)
                await message.ack()
            ```
        """
        address = addresses.parse(mail_address)
        body = requests.Fetch(
            group_name=group_name,
            deliver=arguments.member("deliver", deliver, Deliver.EARLIEST),
            from_time=from_time,
            from_id=from_id,
            priority=None if priority is None else arguments.priority(priority),
            force_deliver=force_deliver,
            request_id=None if checks.is_absent(group_name) else self._request_ids.next(),
            num_msgs=num_msgs,
            max_wait_ms=max_wait_ms,
            lease_ms=lease_ms,
            max_bytes=max_bytes,
            redeliver_own=redeliver_own,
            begun=begun,
            list_held=list_held,
            min_msgs=min_msgs,
            linger_ms=linger_ms,
            consumer=self._acting(consumer),
        )
        trace = tracing.fetching(address, body.group_name)
        try:
            given = await self._connection.request(body, address, wait_ms=body.max_wait_ms)
        except asyncio.CancelledError:
            if body.group_name is not None and body.request_id is not None:
                # The broker may have leased messages whose reply has not arrived yet.
                release = requests.Release(
                    group_name=body.group_name, consumer=body.consumer, request_id=body.request_id
                )
                await self._connection.abandon(release, address)
            raise
        if body.group_name is None:
            fetched = replies.messages_of(given, address)
        else:
            who = body.consumer or self.consumer
            fetched = replies.messages_of(given, address, body.group_name, who)
            self._batches.remember(address, body.group_name, who, fetched)
        self._bind(fetched)
        trace(fetched)
        return fetched

    @overload
    async def ack(self, message: StoredMessage, /, *, individual: bool = True) -> list[int]: ...
    @overload
    async def ack(
        self,
        mail_address: str,
        group_name: str,
        msg_id: int,
        *,
        batch: str | None = None,
        individual: bool = False,
        consumer: str | None = None,
        any_consumer: bool = False,
    ) -> list[int]: ...
    async def ack(
        self,
        mail_address: StoredMessage | str,
        group_name: str | None = None,
        msg_id: int | None = None,
        *,
        batch: str | None = None,
        individual: bool | None = None,
        consumer: str | None = None,
        any_consumer: bool = False,
    ) -> list[int]:
        """Confirm a message. By ids, also confirm every earlier message of the same fetch.

        Args:
            mail_address: A message that a group fetched, with ``individual`` as the only other
                argument. Otherwise the mailbox that it was fetched from.
            group_name: The group that fetched it.
            msg_id: The number of the message.
            batch: The token of the fetch. Default: the token that this client remembers, if it
                fetched the message itself.
            individual: Whether to confirm only this message. Default: True for a message, False
                for ids.
            consumer: The consumer that fetched it. Default: this client.
            any_consumer: Whether to use the latest fetch of the message by any consumer of the
                group, if there is no ``batch``. ``mq9 ack`` does so. Default: False.

        Returns:
            The ids that this call confirmed. A repeated call returns the same ids.

        Raises:
            InvalidRequest: No group fetched the message, or both ``consumer`` and ``any_consumer``
                are set.
            MailboxNotFound: The mailbox does not exist.
            MessageNotFound: The message was not delivered to this consumer of the group.

        Example:
            ```python
            if messages := await client.fetch("garden", group_name="helpers"):
                await client.ack("garden", "helpers", messages[-1].msg_id)  # all of them
            ```
        """
        if checks.flag("any_consumer", any_consumer) and not checks.is_absent(consumer):
            raise InvalidRequest(f"any_consumer: consumer {checks.shown(consumer)} is named")
        one = of_call(
            mail_address,
            group_name,
            msg_id,
            consumer=consumer,
            batch=batch,
            any_consumer=any_consumer or None,
        )
        if individual is None:
            individual = isinstance(mail_address, StoredMessage)
        body = requests.Ack(
            group_name=one.group_name,
            mail_address=one.mail_address,
            msg_id=one.msg_id,
            consumer=None if any_consumer else self._acting(one.consumer),
            batch=one.batch,
            individual=individual,
        )
        body = self._with_token(body, one)
        return list(await self._connection.request(body, one.mail_address))

    @overload
    async def nack(
        self, message: StoredMessage, /, *, delay: float = 0.0, reason: str | None = None
    ) -> None: ...
    @overload
    async def nack(
        self,
        mail_address: str,
        group_name: str,
        msg_id: int,
        *,
        batch: str | None = None,
        delay_ms: int = 0,
        reason: str | None = None,
        consumer: str | None = None,
    ) -> None: ...
    async def nack(
        self,
        mail_address: StoredMessage | str,
        group_name: str | None = None,
        msg_id: int | None = None,
        *,
        batch: str | None = None,
        delay_ms: int | None = None,
        reason: str | None = None,
        consumer: str | None = None,
        delay: float | None = None,
    ) -> None:
        """Give a message back before its lease ends. The group then delivers it again.

        Args:
            mail_address: A message that a group fetched, with ``delay`` and ``reason`` as the only
                other arguments. Otherwise the mailbox that it was fetched from.
            group_name: The group that fetched it.
            msg_id: The number of the message.
            batch: The token of the fetch. Default: the token that this client remembers, if it
                fetched the message itself.
            delay_ms: Milliseconds until the next delivery, 0 to 86 400 000. Default: 0.
            reason: The reason, up to 1 024 characters. Every client that may look into the mailbox
                can read it.
            consumer: The consumer that fetched it. Default: this client.
            delay: For a message: seconds until the next delivery, 0 to 86 400. Default: 0.

        Raises:
            InvalidRequest: No group fetched the message.
            MailboxNotFound: The mailbox does not exist.
            MessageNotFound: The message was not delivered to this consumer of the group.

        Example:
            ```python
            for message in await client.fetch("garden", group_name="helpers"):
                await client.nack(message, delay=60, reason="It is raining.")
            ```
        """
        one = of_call(
            mail_address, group_name, msg_id, consumer=consumer, batch=batch, delay_ms=delay_ms
        )
        if not isinstance(mail_address, StoredMessage):
            _refuse_with_ids("delay", delay)
        elif delay is not None:
            delay_ms = round(_delay_s("delay", delay) * 1000)
        body = requests.Nack(
            group_name=one.group_name,
            msg_id=one.msg_id,
            consumer=self._acting(one.consumer),
            batch=one.batch,
            delay_ms=0 if delay_ms is None else delay_ms,
            reason=reason,
        )
        await self._connection.request(self._with_token(body, one), one.mail_address)

    @overload
    async def move(
        self, message: StoredMessage, /, *, to: str, reason: str | None = None
    ) -> int | None: ...
    @overload
    async def move(
        self,
        mail_address: str,
        group_name: str,
        msg_id: int,
        *,
        to: str,
        reason: str | None = None,
        batch: str | None = None,
        consumer: str | None = None,
    ) -> int | None: ...
    async def move(
        self,
        mail_address: StoredMessage | str,
        group_name: str | None = None,
        msg_id: int | None = None,
        *,
        to: str,
        reason: str | None = None,
        batch: str | None = None,
        consumer: str | None = None,
    ) -> int | None:
        """Move a fetched message to another mailbox: store it there and ack it here, atomically.

        The copy keeps body, priority, tags, sender, ``reply_to``, ``correlation_id``, path and
        headers. It has no key and does not expire. Its ``moved`` names the original mailbox. Only
        our broker has this verb.

        Args:
            mail_address: A message that a group fetched, with ``to`` and ``reason`` as the only
                other arguments. Otherwise the mailbox that it was fetched from.
            group_name: The group that fetched it. The message is acked for this group only.
            msg_id: The number of the message.
            to: The target mailbox.
            reason: The reason, up to 1 024 characters.
            batch: The token of the fetch. Default: the token that this client remembers, if it
                fetched the message itself.
            consumer: The consumer that fetched it. Default: this client.

        Returns:
            The msg_id in the target mailbox. A repeated call returns the same number. None if the
            message was acked or has expired, or another consumer holds it by now.

        Raises:
            InvalidRequest: No group fetched the message, or ``to`` is its own mailbox.
            MailboxNotFound: One of the mailboxes does not exist.
            MessageNotFound: The message was not delivered to this consumer of the group.
            MailboxFull: The target mailbox is at its limit.

        Example:
            ```python
            for message in await client.fetch("garden", group_name="helpers"):
                await client.move(message, to="florist", reason="A question about roses")
            ```
        """
        one = of_call(mail_address, group_name, msg_id, consumer=consumer, batch=batch)
        body = requests.Move(
            group_name=one.group_name,
            msg_id=one.msg_id,
            consumer=self._acting(one.consumer),
            batch=one.batch,
            to=to,
            reason=reason,
        )
        moved = await self._connection.request(self._with_token(body, one), one.mail_address)
        return moved.msg_id

    @overload
    async def extend(
        self, message: StoredMessage, /, *, lease: float = 60.0, promise: Promise | None = None
    ) -> Extended: ...
    @overload
    async def extend(
        self,
        mail_address: str,
        group_name: str,
        msg_ids: Sequence[int],
        *,
        lease_ms: int = requests.DEFAULT_LEASE_MS,
        begun: bool | None = None,
        promise: Promise | None = None,
        consumer: str | None = None,
    ) -> Extended: ...
    async def extend(
        self,
        mail_address: StoredMessage | str,
        group_name: str | None = None,
        msg_ids: Sequence[int] | None = None,
        *,
        lease_ms: int | None = None,
        begun: bool | None = None,
        promise: Promise | None = None,
        consumer: str | None = None,
        lease: float | None = None,
    ) -> Extended:
        """Set a new end for leases that this consumer still holds, later or earlier than before.

        Args:
            mail_address: A message that a group fetched, with ``lease`` and ``promise`` as the only
                other arguments. Otherwise the mailbox.
            group_name: The group.
            msg_ids: The numbers of 1 to 1 000 messages.
            lease_ms: Milliseconds from now until the leases end, 1 000 to 86 400 000. Default:
                60 000.
            begun: Whether this consumer handles the messages now; see ``fetch``. None leaves the
                mark unchanged. Default: None.
            promise: The deadline by which this consumer will answer, and the progress so far. None
                leaves the promise unchanged. Default: None.
            consumer: The consumer that holds them. Default: this client.
            lease: For a message: seconds from now until its lease ends, 1 to 86 400. Default: 60.

        Returns:
            The messages with a new lease, and those that this consumer no longer holds.

        Raises:
            InvalidRequest: No group fetched the message.
            MailboxNotFound: The mailbox does not exist.

        Example:
            ```python
            for message in await client.fetch("garden", group_name="helpers"):
                await client.extend(message, lease=300)
            ```
        """
        if isinstance(mail_address, StoredMessage):
            one = of_message(
                mail_address,
                group_name=group_name,
                msg_ids=msg_ids,
                lease_ms=lease_ms,
                begun=begun,
                consumer=consumer,
            )
            address, group_name, msg_ids = one.mail_address, one.group_name, [one.msg_id]
            consumer = one.consumer
            lease_ms = None if lease is None else round(_lease_s("lease", lease) * 1000)
        else:
            _refuse_with_ids("lease", lease)
            address = addresses.parse(mail_address)
        body = requests.Extend(
            group_name=arguments.given("group_name", group_name),
            consumer=self._acting(consumer),
            msg_ids=checks.msg_ids("msg_ids", msg_ids),
            lease_ms=requests.DEFAULT_LEASE_MS if lease_ms is None else lease_ms,
            begun=begun,
            promise=promise,
        )
        return await self._connection.request(body, address)

    def _acting(self, consumer: str | None) -> str:
        """Return the consumer of a request: the given one, else this client."""
        return self.consumer if consumer is None or consumer == "" else consumer

    def _with_token(self, body: _OfOne, one: Delivery) -> _OfOne:
        """Add the token of the fetch to a request that has none, if this client knows the token."""
        if body.batch is not None:
            return body
        token = self._batches.token(
            one.mail_address, body.group_name, body.msg_id, one.consumer or None
        )
        return replace(body, batch=token)


def _refuse_with_ids(name: str, value: float | None) -> None:
    if value is not None:
        raise InvalidRequest(
            f"{name}: {checks.shown(value)} goes with a message; with ids it is {name}_ms"
        )
