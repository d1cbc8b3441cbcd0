"""The methods of a client on what a consumer group fetches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from mq9 import address as addresses
from mq9.client import arguments, tracing
from mq9.client.base import ClientBase
from mq9.errors import InvalidRequest
from mq9.models import Deliver, Extended, FetchResult
from mq9.protocol import checks, replies, requests
from mq9.protocol.headers import BASE64
from mq9.protocol.subjects import Verb


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
        force_deliver: bool = False,
        num_msgs: int = 100,
        max_wait_ms: int = 500,
        lease_ms: int = requests.DEFAULT_LEASE_MS,
        max_bytes: int = requests.DEFAULT_MAX_BYTES,
        redeliver_own: bool = True,
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
            force_deliver: Whether the group forgets position, leases and acks and starts again.
            num_msgs: How many at the most, 1 to 1 000.
            max_wait_ms: Milliseconds to wait for a first message, 0 to 60 000.
            lease_ms: Milliseconds that they stay leased, 1 000 to 86 400 000.
            max_bytes: How large the reply may be, up to 64 MiB; one message always fits.
            redeliver_own: Whether what this consumer has not acked comes again.
            consumer: Who fetches, when not this client as such.

        Returns:
            A list of messages that also says, where it is empty, why (``waiting``).

        Raises:
            MailboxNotFound: The mailbox is not there, or expired during the wait.
        """
        address = addresses.parse(mail_address)
        body = requests.Fetch(
            group_name=group_name,
            deliver=arguments.deliver(deliver),
            from_time=from_time,
            from_id=from_id,
            force_deliver=force_deliver,
            request_id=None if checks.is_absent(group_name) else self.new_id(),
            num_msgs=num_msgs,
            max_wait_ms=max_wait_ms,
            lease_ms=lease_ms,
            max_bytes=max_bytes,
            redeliver_own=redeliver_own,
            consumer=self._acting(consumer),
        )
        trace = tracing.fetching(address, body.group_name)
        try:
            reply = await self._connection.request(
                Verb.FETCH,
                address,
                body.encode(),
                idempotent=True,
                extra_headers=[BASE64],
                wait_ms=body.max_wait_ms,
            )
        except asyncio.CancelledError:
            if body.group_name is not None and body.request_id is not None:
                # The reply, and with it a lease, may be on its way.
                release = requests.Release(
                    group_name=body.group_name, consumer=body.consumer, request_id=body.request_id
                )
                await self._connection.abandon(Verb.RELEASE, address, release.encode())
            raise
        fetched = replies.decode_fetch(reply, address, body.group_name)
        if body.group_name is not None:
            who = body.consumer or self.consumer
            self._batches.remember(address, body.group_name, who, fetched)
        trace(fetched)
        return fetched

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
    ) -> list[int]:
        """Confirm a message and every one before it in the same fetch.

        Args:
            mail_address: The mailbox it was fetched from.
            group_name: The group it was fetched by.
            msg_id: The message.
            batch: The token of the fetch; the client knows it for what it fetched itself.
            individual: Whether to confirm that one message only.
            consumer: Who fetched it, when not this client as such.
            any_consumer: Whether, without a ``batch``, the latest fetch of the message counts,
                whichever consumer of the group made it; what ``mq9 ack`` does for a person.

        Returns:
            The ids that this call confirmed; the same again when it is repeated.

        Raises:
            InvalidRequest: Both ``consumer`` and ``any_consumer`` are given.
            MailboxNotFound: The mailbox is not there.
            MessageNotFound: The message was not handed out to this consumer of the group.
        """
        address = addresses.parse(mail_address)
        if checks.flag("any_consumer", any_consumer) and not checks.is_absent(consumer):
            raise InvalidRequest(f"any_consumer: consumer {checks.shown(consumer)} is named")
        body = requests.Ack(
            group_name=group_name,
            mail_address=address,
            msg_id=msg_id,
            consumer=None if any_consumer else self._acting(consumer),
            batch=batch,
            individual=individual,
        )
        if body.batch is None:
            body = replace(body, batch=self._token(address, body, consumer))
        reply = await self._connection.request(Verb.ACK, address, body.encode(), idempotent=True)
        return list(reply.get("acked") or ())

    async def nack(
        self,
        mail_address: str,
        group_name: str,
        msg_id: int,
        *,
        batch: str | None = None,
        delay_ms: int = 0,
        consumer: str | None = None,
    ) -> None:
        """Give a message back before its lease ends, so that it is delivered again.

        Args:
            mail_address: The mailbox it was fetched from.
            group_name: The group it was fetched by.
            msg_id: The message.
            batch: The token of the fetch; the client knows it for what it fetched itself.
            delay_ms: How long nobody gets it, 0 to 86 400 000.
            consumer: Who fetched it, when not this client as such.

        Raises:
            MailboxNotFound: The mailbox is not there.
            MessageNotFound: The message was not handed out to this consumer of the group.
        """
        address = addresses.parse(mail_address)
        body = requests.Nack(
            group_name=group_name,
            msg_id=msg_id,
            consumer=self._acting(consumer),
            batch=batch,
            delay_ms=delay_ms,
        )
        if body.batch is None:
            body = replace(body, batch=self._token(address, body, consumer))
        await self._connection.request(Verb.NACK, address, body.encode(), idempotent=False)

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
    ) -> int | None:
        """Move a fetched message to another mailbox: store it there, confirm it here, or neither.

        There it keeps its body, priority, tags, sender, ``reply_to``, ``correlation_id``, path and
        headers, has no key, does not expire, and says in ``moved`` where it was. Our broker has
        this verb; others do not.

        Args:
            mail_address: The mailbox it was fetched from.
            group_name: The group it was fetched by; for this group alone it is confirmed.
            msg_id: The message.
            to: The other mailbox.
            reason: Why, up to 1 024 characters.
            batch: The token of the fetch; the client knows it for what it fetched itself.
            consumer: Who fetched it, when not this client as such.

        Returns:
            Its msg_id in the other mailbox, the same again when the call is repeated; None when
            there was nothing to move: it was acked or is gone, or another consumer holds it by now.

        Raises:
            MailboxNotFound: One of the mailboxes is not there.
            MessageNotFound: The message was not handed out to this consumer of the group.
            MailboxFull: The other mailbox is at its limit.
        """
        address = addresses.parse(mail_address)
        body = requests.Move(
            group_name=group_name,
            msg_id=msg_id,
            consumer=self._acting(consumer),
            batch=batch,
            to=to,
            reason=reason,
        )
        if body.to == address:
            raise InvalidRequest(f"to: {address} is the mailbox itself")
        if body.batch is None:
            body = replace(body, batch=self._token(address, body, consumer))
        reply = await self._connection.request(Verb.MOVE, address, body.encode(), idempotent=True)
        return None if reply.get("msg_id") is None else replies.whole(reply, "msg_id")

    async def extend(
        self,
        mail_address: str,
        group_name: str,
        msg_ids: Sequence[int],
        *,
        lease_ms: int = requests.DEFAULT_LEASE_MS,
        consumer: str | None = None,
    ) -> Extended:
        """Renew leases that are still held; they end ``lease_ms`` from now, sooner or later.

        Args:
            mail_address: The mailbox.
            group_name: The group.
            msg_ids: 1 to 1 000 messages.
            lease_ms: 1 000 to 86 400 000.
            consumer: Who holds them, when not this client as such.

        Returns:
            Which were renewed, and which this consumer no longer holds.

        Raises:
            MailboxNotFound: The mailbox is not there.
        """
        address = addresses.parse(mail_address)
        body = requests.Extend(
            group_name=group_name,
            consumer=self._acting(consumer),
            msg_ids=checks.msg_ids("msg_ids", msg_ids),
            lease_ms=lease_ms,
        )
        reply = await self._connection.request(
            Verb.EXTEND, address, body.encode(), idempotent=False
        )
        return Extended(replies.ids(reply, "extended"), replies.ids(reply, "lost"))

    def _acting(self, consumer: str | None) -> str:
        """Return the consumer that a request is made for."""
        return self.consumer if consumer is None or consumer == "" else consumer

    def _token(
        self,
        mail_address: str,
        body: requests.Ack | requests.Nack | requests.Move,
        consumer: str | None,
    ) -> str | None:
        """Return the token of the fetch that a request speaks of, where this client made it."""
        return self._batches.token(mail_address, body.group_name, body.msg_id, consumer or None)
