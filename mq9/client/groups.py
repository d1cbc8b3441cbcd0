"""The methods of a client on what a consumer group fetches."""

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
    """Return the delivery that a method is called for, with a message or with ids."""
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
    """Fetch messages, and say what becomes of them."""

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
        """Fetch messages, most pressing first, waiting for one if there is none.

        With a group the messages are leased to this consumer until they are acked or the lease
        ends; no other consumer of the group gets them meanwhile. Without a group nothing is
        remembered. Cancelling a fetch leases nothing.

        Args:
            mail_address: The mailbox to read.
            group_name: The consumer group.
            deliver: Where a new group, or a read without one, starts: ``earliest`` (everything
                stored), ``latest`` (the newest stored message), ``new`` (what arrives from now on;
                without a group, during this wait), ``from_time`` or ``from_id``.
            from_time: An instant in Unix seconds, for ``deliver="from_time"``.
            from_id: The first msg_id, for ``deliver="from_id"``.
            priority: Without a group: only messages of this priority.
            force_deliver: Whether the group forgets position, leases and acks and starts again.
            num_msgs: Highest number to return, 1 to 1 000.
            max_wait_ms: Milliseconds to wait for a first message, 0 to 86 400 000.
            lease_ms: Milliseconds that they stay leased, 1 000 to 86 400 000.
            max_bytes: How large the reply may be, up to 64 MiB; one message always fits.
            redeliver_own: Whether what this consumer has not acked comes again.
            begun: Whether this consumer begins to handle the messages at once: a lease that ends
                before they are acked or given back then counts among their ``deaths``. Messages
                that have deaths already are left out: ``extend`` marks them.
            list_held: Whether to list, as ``held``, what the group's consumers hold beside these.
            min_msgs: With a group: wait until so many can be delivered, 1 to ``num_msgs``. At the
                end of ``max_wait_ms`` the reply has what there is.
            linger_ms: With a group: once ``min_msgs`` can be delivered, wait for further messages,
                0 to 60 000 milliseconds. A full reply and the end of ``max_wait_ms`` end that wait.
            consumer: Who fetches, when not this client as such.

        Returns:
            A list of messages that also says, where it is empty, why (``waiting``).

        Raises:
            MailboxNotFound: The mailbox is not there, or expired during the wait.

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
                # It may have been leased, and the reply not have come yet.
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
        """Confirm a message; or, by ids, a message and every one before it in the same fetch.

        Args:
            mail_address: A message that a group fetched, with nothing but ``individual``; or the
                mailbox it was fetched from.
            group_name: The group it was fetched by.
            msg_id: The message.
            batch: The token of the fetch; the client knows it for what it fetched itself.
            individual: Whether to confirm that one message only; True for a message and False for
                ids by default.
            consumer: Who fetched it, when not this client as such.
            any_consumer: Whether, without a ``batch``, the latest fetch of the message counts,
                whichever consumer of the group made it; what ``mq9 ack`` does for a person.

        Returns:
            The ids that this call confirmed; the same again when it is repeated.

        Raises:
            InvalidRequest: The message was not fetched by a group, or both ``consumer`` and
                ``any_consumer`` are given.
            MailboxNotFound: The mailbox is not there.
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
        """Give a message back before its lease ends, so that it is delivered again.

        Args:
            mail_address: A message that a group fetched, with nothing but ``delay`` and ``reason``;
                or the mailbox it was fetched from.
            group_name: The group it was fetched by.
            msg_id: The message.
            batch: The token of the fetch; the client knows it for what it fetched itself.
            delay_ms: Milliseconds in which nobody gets it, 0 to 86 400 000; 0 by default.
            reason: The reason, up to 1 024 characters, for everybody who may look into the mailbox.
            consumer: Who fetched it, when not this client as such.
            delay: For a message: seconds in which nobody gets it, 0 to 86 400; 0 by default.

        Raises:
            InvalidRequest: The message was not fetched by a group.
            MailboxNotFound: The mailbox is not there.
            MessageNotFound: The message was not delivered to this consumer of the group.
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
        """Move a fetched message to another mailbox: store it there, confirm it here, or neither.

        There it keeps its body, priority, tags, sender, ``reply_to``, ``correlation_id``, path and
        headers, has no key, does not expire, and says in ``moved`` where it was. Our broker has
        this verb; others do not.

        Args:
            mail_address: A message that a group fetched, with nothing but ``to`` and ``reason``; or
                the mailbox it was fetched from.
            group_name: The group it was fetched by; for this group alone it is confirmed.
            msg_id: The message.
            to: The other mailbox.
            reason: Why, up to 1 024 characters.
            batch: The token of the fetch; the client knows it for what it fetched itself.
            consumer: Who fetched it, when not this client as such.

        Returns:
            Its msg_id in the other mailbox, the same again when the call is repeated; None when
            there was nothing to move: it was acked or expired, or another consumer holds it by now.

        Raises:
            InvalidRequest: The message was not fetched by a group, or ``to`` is its own mailbox.
            MailboxNotFound: One of the mailboxes is not there.
            MessageNotFound: The message was not delivered to this consumer of the group.
            MailboxFull: The other mailbox is at its limit.
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
        """Renew leases that are still held; they may end sooner than before, too.

        Args:
            mail_address: A message that a group fetched, with nothing but ``lease`` and
                ``promise``; or the mailbox.
            group_name: The group.
            msg_ids: 1 to 1 000 messages.
            lease_ms: Milliseconds from now until the leases end, 1 000 to 86 400 000; 60 000 by
                default.
            begun: Whether the handling of them has begun, see ``fetch``; None to leave that.
            promise: Until when they will be answered, and what is done so far; None to leave what
                was promised.
            consumer: Who holds them, when not this client as such.
            lease: For a message: seconds from now until its lease ends, 1 to 86 400; 60 by default.

        Returns:
            Which were renewed, and which this consumer no longer holds.

        Raises:
            InvalidRequest: The message was not fetched by a group.
            MailboxNotFound: The mailbox is not there.
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
        """Return the consumer that a request is made for."""
        return self.consumer if consumer is None or consumer == "" else consumer

    def _with_token(self, body: _OfOne, one: Delivery) -> _OfOne:
        """Return a request with the token of the fetch, where it has none and this client knows."""
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
