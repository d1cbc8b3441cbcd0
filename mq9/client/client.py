"""The client: one method per verb of the protocol, on whichever broker the URL means."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Self, cast, overload

from mq9 import address as addresses
from mq9.client import payloads, tracing
from mq9.client.batches import Batches
from mq9.client.connection import Connection, UnreadWatch
from mq9.client.consumer import Consumer, ConsumerOptions, ErrorHandler, EventHandler, Handler
from mq9.client.payloads import Payload
from mq9.clock import Clock
from mq9.discovery.embeddings import Embeddings, checked
from mq9.errors import (
    IdConflict,
    InvalidRequest,
    MailboxNotFound,
    Mq9Error,
    NoReply,
    ReplyMailboxNotFound,
)
from mq9.models import (
    AgentMatches,
    Deliver,
    Extended,
    FetchResult,
    MailboxStatus,
    Message,
    Priority,
    PublicMailbox,
)
from mq9.protocol import checks, replies, requests
from mq9.protocol.headers import BASE64, SendOptions
from mq9.protocol.reserved import Reserved
from mq9.protocol.subjects import Verb
from mq9.transport.base import Transport
from mq9.transport.open import check_url, default_url, open_transport, shown_url

_logger = logging.getLogger("mq9.client")

_REPLY_GRACE_S = 60  # how much longer than its question a private reply mailbox lives
_LONGEST_WAIT_MS = 60_000


class _Connect:
    """Lets ``connect`` be called on the class, with a URL, and on a client made before."""

    @overload
    def __get__(
        self, client: None, owner: type[Mq9Client]
    ) -> Callable[..., Awaitable[Mq9Client]]: ...
    @overload
    def __get__(
        self, client: Mq9Client, owner: type[Mq9Client]
    ) -> Callable[[], Awaitable[Mq9Client]]: ...
    def __get__(
        self, client: Mq9Client | None, owner: type[Mq9Client]
    ) -> Callable[..., Awaitable[Mq9Client]]:
        if client is not None:
            return client._open  # noqa: SLF001  # its own descriptor

        async def connect(server: str | None = None, **options: Any) -> Mq9Client:
            return await owner(server, **options)._open()  # noqa: SLF001  # its own descriptor

        return connect


class Mq9Client:
    """Talks to one mq9 broker.

    Use it as an async context manager, or call ``connect`` and ``close``; ``await
    Mq9Client.connect(url)`` makes and connects one. All methods may run concurrently on the event
    loop that connected it. Each instance is one consumer, with a random name of its own.

    ``connect`` tries each server once and tells at once when none answers. When a connection breaks
    later, the next request makes a new one, and this client goes on as the same consumer.

    A request that could not be sent is repeated. One whose reply is lost is repeated only where
    that cannot change the outcome: reads, a send (it carries an idempotency id), ack, register, and
    create a name with ``renew``. Any other raises ``Unavailable``, which says that the outcome is
    unknown.

    Args:
        server: ``nats://[user:password@|token@]host[:port]`` or the same with ``tls://``, several
            of one cluster separated by commas; ``memory://name``; ``sqlite:///path``. Options are
            described in ``mq9.transport.open``. Without it the environment's ``MQ9_SERVER``, else
            one file per user.
        request_timeout: Seconds to wait for a reply, beside what a fetch waits for messages and
            what connecting takes.
        reconnect_attempts: How often a request that may be repeated is repeated.
        reconnect_delay: Seconds before each repetition but the first, which is made at once.
        agent: For an in-process broker, the agent that this client counts as authenticated for. A
            server knows that by the credentials in its URL; it must then be this agent, or
            connecting fails with ``Unauthorized``.
        agents: For an in-process broker, all agents that are configured, ``agent`` among them:
            their names and mailboxes are then theirs alone, and what has no creator is closed to
            ``agent``. Without it no agents are configured. A server has its users file.
        clock: Where time comes from; the broker's own clock by default.
        randomness: Gives that many unpredictable bytes; for ids and reply addresses.
        transport: An open way to a broker, to be used instead of ``server`` and closed with the
            client.
        embeddings: For an in-process broker that no client has open, what finds agents by meaning:
            any object with ``embed_documents`` and ``embed_query``. By default WordLlama, where
            the extra ``semantic`` is installed. A server has its own.

    Every method raises ``InvalidRequest`` for an argument that the protocol does not allow, before
    anything is sent; ``NotConnected`` when the client is not connected; ``Unreachable`` when no
    server answers; ``Unavailable`` when no reply came; and otherwise the error that the broker
    answered with (see ``mq9.errors``).
    """

    connect = _Connect()

    def __init__(
        self,
        server: str | None = None,
        *,
        request_timeout: float = 5.0,
        reconnect_attempts: int = 5,
        reconnect_delay: float = 2.0,
        agent: str | None = None,
        clock: Clock | None = None,
        randomness: Callable[[int], bytes] = secrets.token_bytes,
        transport: Transport | None = None,
        embeddings: Embeddings | None = None,
        agents: Sequence[str] | None = None,
    ) -> None:
        name = None if agent is None else checks.agent_name("agent", agent)
        finding = None if embeddings is None else checked("embeddings", embeddings)
        reserved = None
        if agents is not None:
            reserved = Reserved(checks.agent_name("agents", one) for one in agents)
        if server is not None:
            check_url(server, finding, reserved)
        self._server = server
        self._randomness = randomness
        self._batches = Batches()
        self._consumers: set[Consumer] = set()
        self.consumer = f"client.{self.new_id()}"
        self._connection = Connection(
            lambda: open_transport(server, self.consumer, name, finding, reserved),
            transport=transport,
            request_timeout=checks.seconds(above_zero=True)("request_timeout", request_timeout),
            attempts=checks.whole(0, 1_000)("reconnect_attempts", reconnect_attempts),
            delay=checks.seconds()("reconnect_delay", reconnect_delay),
            clock=clock,
        )

    def __repr__(self) -> str:
        state = "connected" if self.is_connected else "not connected"
        return f"<Mq9Client {shown_url(self._server or default_url())} {state}>"

    async def _open(self) -> Self:
        await self._connection.open()
        return self

    async def close(self) -> None:
        """Stop this client's consumers as their ``stop`` does, and let go of the broker.

        What is fetched otherwise and not acked is delivered again after its lease.
        """
        try:
            consumers = list(self._consumers)
            for consumer in consumers:
                consumer.request_stop()
            for consumer in consumers:
                await consumer.stop()
        finally:
            await self._connection.close()

    async def __aenter__(self) -> Self:
        return await self._open()

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    @property
    def is_connected(self) -> bool:
        """Whether requests can be made: it was connected and not closed since.

        A connection that broke is made anew by the next request.
        """
        return self._connection.is_open

    @property
    def clock(self) -> Clock:
        """The clock that this client and its consumers go by."""
        return self._connection.clock

    def new_id(self) -> str:
        """Return an id that no other has."""
        return self._randomness(12).hex()

    def new_address(self, prefix: str | None = None) -> str:
        """Return a mail_address that nobody can guess, of a mailbox that is still to be made.

        Args:
            prefix: What it starts with, before a dot.

        Raises:
            InvalidAddress: The prefix is not the beginning of an address.
        """
        return addresses.generate(self._randomness(addresses.RANDOM_BYTES), prefix)

    def watch_unread(
        self, mail_address: str, group_name: str
    ) -> AbstractContextManager[UnreadWatch]:
        """Learn, with the replies to what is asked inside, how much mail waits for a group.

        Costs no round trip of its own. Applies to the requests of the task that is inside.

        Returns:
            A context manager that gives a watch, whose ``unread`` is that of the latest reply; None
            while there was none, or when the mailbox does not exist.
        """
        return self._connection.watch_unread(mail_address, group_name)

    async def mailbox_create(
        self,
        *,
        name: str | None = None,
        ttl: int = 0,
        desc: str = "",
        public: bool = False,
        prefix: str | None = None,
        renew: bool = False,
    ) -> str:
        """Create a mailbox and return its mail_address.

        Args:
            name: The address to have; without it, one that nobody can guess is generated.
            ttl: Seconds until the mailbox is gone with all that is in it; 0 means never.
            desc: What it is for, up to 1 024 characters.
            public: Whether ``mailbox_list`` names it.
            prefix: What a generated address starts with, before a dot.
            renew: Whether an existing mailbox is fine; its TTL is then started again.

        Raises:
            MailboxExists: It is there already, and ``renew`` is not set.
            LimitReached: The broker holds as many mailboxes as it may.
        """
        body = requests.CreateMailbox(
            name=name, ttl=ttl, desc=desc, public=public, prefix=prefix, renew=renew
        )
        reply = await self._connection.request(
            Verb.MAILBOX_CREATE, payload=body.encode(), idempotent=renew and body.name is not None
        )
        address: str = replies.field(reply, "mail_address")
        if not renew:
            self._batches.forget(address)
        return address

    async def mailbox_drop(self, mail_address: str) -> None:
        """Remove a mailbox with its messages, groups and the registrations that point at it.

        Raises:
            MailboxNotFound: It is not there.
        """
        address = addresses.parse(mail_address)
        await self._connection.request(Verb.MAILBOX_DROP, address, idempotent=False)
        self._batches.forget(address)

    async def mailbox_status(
        self, mail_address: str, *, group_name: str | None = None, msg_id: int | None = None
    ) -> MailboxStatus:
        """Describe a mailbox without changing it.

        Args:
            mail_address: The mailbox.
            group_name: A consumer group to describe as well.
            msg_id: A message whose life to tell as well.

        Raises:
            MailboxNotFound: The mailbox is not there.
        """
        body = requests.MailboxStatusRequest(group_name=group_name, msg_id=msg_id)
        reply = await self._connection.request(
            Verb.MAILBOX_STATUS, addresses.parse(mail_address), body.encode(), idempotent=True
        )
        return replies.decode_status(reply)

    async def mailbox_grant(self, mail_address: str, readers: Sequence[str]) -> list[str]:
        """Say which agents may use a mailbox beside the one that created it.

        It matters where clients authenticate as agents: there, a mailbox that an agent created is
        open to that agent and to those it was granted to; anybody may send to it. Our broker has
        this verb; others do not.

        Args:
            mail_address: The mailbox.
            readers: The names of all of them, at most 64. Whoever was granted it before and is not
                among them may no longer.

        Returns:
            The names.

        Raises:
            MailboxNotFound: The mailbox is not there.
            Forbidden: Another agent created it, or none did.
            InvalidRequest: A name is not one.
        """
        body = requests.GrantMailbox(readers=tuple(readers))
        reply = await self._connection.request(
            Verb.MAILBOX_GRANT, addresses.parse(mail_address), body.encode(), idempotent=True
        )
        return list(reply.get("readers") or ())

    async def mailbox_list(self) -> list[PublicMailbox]:
        """List the public mailboxes by address."""
        listed: list[PublicMailbox] = []
        more = True
        while more:
            after = listed[-1].mail_address if listed else None
            reply = await self._connection.request(
                Verb.PUBLIC_LIST, payload=requests.ListPublic(after=after).encode(), idempotent=True
            )
            page = replies.decode_public(reply)
            listed += page
            more = bool(page) and reply.get("more") is True
        return listed

    async def send(
        self,
        mail_address: str,
        payload: Payload,
        *,
        priority: Priority | str = Priority.NORMAL,
        key: str | None = None,
        delay: int | None = None,
        ttl: int | None = None,
        tags: Sequence[str] | None = None,
        id: str | None = None,  # noqa: A002  # the protocol's word
        sender: str | None = None,
        reply_to: str | None = None,
        correlation_id: str | None = None,
        path: Sequence[str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """Send a message; when this returns, the broker has stored it.

        Args:
            mail_address: The mailbox it goes to.
            payload: Bytes as they are, text as UTF-8, anything else as JSON; up to 1 MiB.
            priority: ``critical`` before ``urgent`` before ``normal``.
            key: At most one visible message has it: this one replaces an older one.
            delay: Seconds until it becomes visible.
            ttl: Seconds from now until it is gone; more than ``delay``.
            tags: Up to 64 words to find it by, without commas.
            id: The same id again, from the same sender to the same mailbox, is stored once. Made up
                when not given, so that a lost reply never stores a message twice.
            sender: Who sends it. A claim, unless the connection has authenticated.
            reply_to: The address that the answer goes to.
            correlation_id: Which question it answers, or is.
            path: The agents that this conversation has passed through.
            headers: What else is to be known of it, such as ``traceparent``: up to 64, 8 KiB
                together. Names are those of HTTP, no matter their case, and begin neither with
                ``mq9-`` nor with ``nats-``; values are 1 to 256 printable characters.

        Returns:
            The msg_id, or -1 while the message is delayed.

        Raises:
            MailboxNotFound: The mailbox is not there.
            MailboxFull: It is at its limit.
            PayloadTooLarge: The payload is larger than the broker takes.
            IdConflict: The id was used before with another body.
        """
        address = addresses.parse(mail_address)
        options = SendOptions(
            priority=cast("Priority", priority),
            key=key,
            delay=delay,
            ttl=ttl,
            tags=cast("tuple[str, ...]", tags),
            id=self.new_id() if checks.is_absent(id) else id,
            sender=sender,
            reply_to=reply_to,
            correlation_id=correlation_id,
            path=cast("tuple[str, ...]", () if path is None else path),
            headers=cast("tuple[tuple[str, str], ...]", headers),
        )
        return await self._send(address, payloads.encode(payload), options)

    async def _send(self, mail_address: str, body: bytes, options: SendOptions) -> int:
        with tracing.sending(mail_address, options, len(body)) as message:
            reply = await self._connection.request(
                *(Verb.SEND, mail_address, body),
                idempotent=True,
                extra_headers=message.options.encode(),
            )
            msg_id = replies.whole(reply, "msg_id")
            message.stored_as(msg_id)
        return msg_id

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
        max_bytes: int = 4 * 1024 * 1024,
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
            from_time: Unix seconds, for ``deliver="from_time"``.
            from_id: The first msg_id, for ``deliver="from_id"``.
            force_deliver: Whether the group forgets position, leases and acks and starts again.
            num_msgs: How many at the most, 1 to 1 000.
            max_wait_ms: How long to wait for a first message, 0 to 60 000.
            lease_ms: How long they stay leased, 1 000 to 86 400 000.
            max_bytes: How large the reply may be; one message always fits.
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
            deliver=cast("Deliver", deliver),
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
        return cast("int | None", reply.get("msg_id"))

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
            msg_ids=cast("tuple[int, ...]", msg_ids),
            lease_ms=lease_ms,
        )
        reply = await self._connection.request(
            Verb.EXTEND, address, body.encode(), idempotent=False
        )
        return Extended(replies.ids(reply, "extended"), replies.ids(reply, "lost"))

    def _acting(self, consumer: str | None) -> str:
        """Return the consumer that a request is made for."""
        return self.consumer if checks.is_absent(consumer) else cast("str", consumer)

    def _token(
        self,
        mail_address: str,
        body: requests.Ack | requests.Nack | requests.Move,
        consumer: str | None,
    ) -> str | None:
        """Return the token of the fetch that a request speaks of, where this client made it."""
        return self._batches.token(mail_address, body.group_name, body.msg_id, consumer or None)

    async def consume(
        self,
        mail_address: str,
        handler: Handler,
        *,
        group_name: str | None = None,
        deliver: Deliver | str = Deliver.EARLIEST,
        num_msgs: int = 10,
        max_wait_ms: int = 30_000,
        auto_ack: bool = True,
        error_handler: ErrorHandler | None = None,
        concurrency: int = 1,
        lease_ms: int = requests.DEFAULT_LEASE_MS,
        max_deliveries: int = 5,
        dead_letter: str | None = None,
        retry_delay: float = 1.0,
        max_retry_delay: float = 300.0,
        handler_timeout: float | None = None,
        stop_timeout: float = 30.0,
        agent: str | None = None,
        consumer: str | None = None,
        on_event: EventHandler | None = None,
    ) -> Consumer:
        """Start handling the messages of a mailbox in the background.

        What a consumer does is described at ``Consumer``, its options at ``ConsumerOptions``. It
        begins with what is stored, unless ``deliver`` says otherwise. When this returns the group
        exists, so that nothing sent from then on is missed.

        Returns:
            The running consumer; ``await consumer.stop()`` ends it.

        Raises:
            MailboxNotFound: The mailbox is not there.
        """
        options = ConsumerOptions(
            handler=handler,
            group_name=group_name,
            deliver=deliver,
            num_msgs=num_msgs,
            max_wait_ms=max_wait_ms,
            auto_ack=auto_ack,
            error_handler=error_handler,
            concurrency=concurrency,
            lease_ms=lease_ms,
            max_deliveries=max_deliveries,
            dead_letter=dead_letter,
            retry_delay=retry_delay,
            max_retry_delay=max_retry_delay,
            handler_timeout=handler_timeout,
            stop_timeout=stop_timeout,
            agent=agent,
            consumer=consumer,
            on_event=on_event,
        )
        started = Consumer(self, mail_address, options)
        await started.start(on_end=self._consumers.discard)
        self._consumers.add(started)
        return started

    async def query(
        self,
        mail_address: str,
        *,
        key: str | None = None,
        tags: Sequence[str] | None = None,
        since: int | None = None,
        limit: int | None = None,
        msg_id: int | None = None,
        max_bytes: int = 4 * 1024 * 1024,
    ) -> FetchResult:
        """Look at stored messages without touching any group: the newest that match, oldest first.

        Args:
            mail_address: The mailbox.
            key: Only the message with this key.
            tags: Only messages with all of these tags.
            since: Only messages that became visible at this Unix second or later.
            limit: How many at the most, 1 to 1 000; 100 by default.
            msg_id: Only this message.
            max_bytes: How large the reply may be; one message always fits.

        Raises:
            MailboxNotFound: The mailbox is not there.
        """
        address = addresses.parse(mail_address)
        body = requests.Query(
            key=key,
            tags=cast("tuple[str, ...]", tags),
            since=since,
            limit=cast("int", limit),
            msg_id=msg_id,
            max_bytes=max_bytes,
        )
        reply = await self._connection.request(
            Verb.QUERY, address, body.encode(), idempotent=True, extra_headers=[BASE64]
        )
        return replies.decode_fetch(reply, address)

    async def delete(self, mail_address: str, msg_id: int) -> None:
        """Remove one message.

        Raises:
            MailboxNotFound: The mailbox is not there.
            MessageNotFound: The message is not.
        """
        number = checks.whole(0, checks.MAX_MSG_ID)("msg_id", msg_id)
        await self._connection.request(
            Verb.DELETE, addresses.parse(mail_address), msg_id=number, idempotent=False
        )

    async def whoami(self) -> str | None:
        """Return the agent that the broker takes this client for; None for nobody in particular.

        Our broker has this verb; others do not.
        """
        reply = await self._connection.request(Verb.AGENT_WHOAMI, idempotent=True)
        return replies.decode_whoami(reply)

    async def agent_register(
        self, agent_card: Mapping[str, Any], *, ttl: int | None = None
    ) -> None:
        """Register an agent, or replace its registration; its mailbox is made if it is missing.

        Args:
            agent_card: Any JSON object with a ``name`` or a ``mailbox``, such as an A2A AgentCard
                with a mailbox. Kept and returned unchanged.
            ttl: Seconds without a sign of life after which the registration is gone. Registering,
                reporting, sending as the agent, and fetching or acking for it are such signs.

        Raises:
            LimitReached: The registry holds as many agents as it may.
            Forbidden: The name was registered by another, authenticated agent.
        """
        card = dict(checks.json_object("agent_card", agent_card))
        if ttl is not None:
            card["ttl"] = ttl
        requests.Register(
            name=card.get("name"), mailbox=card.get("mailbox"), ttl=card.get("ttl", 0)
        )
        await self._connection.request(
            Verb.AGENT_REGISTER, payload=payloads.encode_json("agent_card", card), idempotent=True
        )

    async def agent_unregister(
        self, mailbox: str | None = None, *, name: str | None = None
    ) -> None:
        """Take an agent out of the registry.

        Args:
            mailbox: Its mailbox, or its name.
            name: Its name.

        Raises:
            AgentNotFound: No agent is registered so.
        """
        body = requests.Unregister(**_who(mailbox, name))
        await self._connection.request(
            Verb.AGENT_UNREGISTER, payload=body.encode(), idempotent=False
        )

    async def agent_report(self, report: Mapping[str, Any]) -> None:
        """Tell how an agent is doing, and that it lives.

        Args:
            report: ``mailbox`` or ``name``, beside whatever it wants to be known.

        Raises:
            AgentNotFound: No agent is registered so.
        """
        given = dict(checks.json_object("report", report))
        who = _who(given.pop("mailbox", None), given.pop("name", None))
        requests.Unregister(**who)
        payload = payloads.encode_json("report", {**who, **given})
        await self._connection.request(Verb.AGENT_REPORT, payload=payload, idempotent=False)

    async def agent_discover(
        self,
        *,
        text: str | None = None,
        semantic: str | None = None,
        min_score: float | None = None,
        limit: int = 20,
        page: int = 1,
    ) -> AgentMatches:
        """Find registered agents.

        Args:
            text: Words to look for.
            semantic: A sentence to find by meaning; wins over ``text``.
            min_score: The lowest score that is found, 0 to 2; 0 leaves out nobody. By default it
                is what the broker's embeddings say, below which a match is ``weak``, and 0 for
                words.
            limit: How many at the most, 1 to 1 000.
            page: Which page of that size, from 1.

        Returns:
            What the agents registered, best first; by name when nothing is asked. Its ``mode``
            tells what really ranked them: ``text`` where finding by meaning was not possible.
        """
        body = requests.Discover(
            text=text, semantic=semantic, min_score=min_score, limit=limit, page=page
        )
        reply = await self._connection.request(
            Verb.AGENT_DISCOVER, payload=body.encode(), idempotent=True
        )
        return replies.decode_discover(reply)

    async def request(
        self,
        mail_address: str,
        payload: Payload,
        *,
        timeout: float = 30.0,
        priority: Priority | str = Priority.NORMAL,
        sender: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Message:
        """Ask a question and return its answer.

        The question carries a private reply mailbox, dropped afterwards, and a correlation id; the
        answer is the message there with that correlation id. The question expires with the reply
        mailbox, a minute after ``timeout``.

        Args:
            mail_address: Whom to ask.
            payload: The question; see ``send``.
            timeout: How many seconds to wait for the answer.
            priority: The question's priority.
            sender: Who asks.
            headers: The question's headers; see ``send``.

        Raises:
            NoReply: No answer came in time. The question may still be read until it expires.
            MailboxNotFound: There is nobody to ask.
        """
        address = addresses.parse(mail_address)
        seconds = checks.seconds(above_zero=True)("timeout", timeout)
        correlation_id = self.new_id()
        lifetime = min(int(seconds) + _REPLY_GRACE_S, checks.MAX_SECONDS)
        reply_to = addresses.generate(self._randomness(addresses.RANDOM_BYTES), "reply")
        body = payloads.encode(payload)
        options = SendOptions(
            priority=cast("Priority", priority),
            ttl=lifetime,
            id=self.new_id(),
            sender=sender,
            reply_to=reply_to,
            correlation_id=correlation_id,
            headers=cast("tuple[tuple[str, str], ...]", headers),
        )
        with tracing.requesting(address) as answers:
            await self.mailbox_create(name=reply_to, ttl=lifetime, renew=True)
            try:
                await self._send(address, body, options)
                answer = await self._await_answer(reply_to, correlation_id, seconds)
            finally:
                await self._discard(reply_to)
            if answer is None:
                raise NoReply(f"no answer from {address} within {seconds:g} s")
            answers.append(answer)
        return answer

    async def _await_answer(
        self, reply_to: str, correlation_id: str, seconds: float
    ) -> Message | None:
        deadline_ms = self.clock.monotonic_ms() + round(seconds * 1000)
        while True:
            left_ms = max(0, deadline_ms - self.clock.monotonic_ms())
            for message in await self.fetch(
                reply_to,
                group_name="asker",
                deliver=Deliver.EARLIEST,
                max_wait_ms=min(left_ms, _LONGEST_WAIT_MS),
                redeliver_own=False,
            ):
                if message.correlation_id == correlation_id:
                    return message
            if left_ms == 0:
                return None

    async def _discard(self, mail_address: str) -> None:
        """Drop a private mailbox; if that fails, its TTL removes it."""
        try:
            await self.mailbox_drop(mail_address)
        except Mq9Error as error:
            _logger.debug("%s was left to expire: %s", mail_address, error)

    async def reply(
        self,
        message: Message,
        payload: Payload,
        *,
        id: str | None = None,  # noqa: A002  # the protocol's word
        sender: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> int | None:
        """Answer a message: to its ``reply_to``, under its ``correlation_id``.

        A consumer group answers a message once, however often it is delivered to the group: the
        idempotency id is derived from the message. When a redelivered message is answered with
        another body, the first answer stands.

        Args:
            message: The message to answer, as ``fetch``, ``query`` or a handler got it.
            payload: The answer; see ``send``.
            id: The idempotency id. Needed by each further, different answer to one message.
            sender: Who answers.
            headers: The answer's headers; see ``send``.

        Returns:
            The msg_id of the answer; None where an earlier delivery was answered otherwise.

        Raises:
            InvalidRequest: The message says no ``reply_to``.
            ReplyMailboxNotFound: Whoever asked no longer waits for an answer.
            IdConflict: The message has been answered with another body, and this is its first
                delivery, or the id was given.
        """
        if not isinstance(message, Message):
            raise InvalidRequest(f"message: {checks.shown(message)} is not a Message")
        if message.reply_to is None:
            raise InvalidRequest(f"reply_to: message {message.msg_id} does not say where to answer")
        own_id = None if checks.is_absent(id) else id
        try:
            return await self.send(
                message.reply_to,
                payload,
                id=own_id or _answer_id(message),
                correlation_id=message.correlation_id,
                sender=sender,
                headers=headers,
            )
        except MailboxNotFound as error:
            raise ReplyMailboxNotFound(str(error)) from error
        except IdConflict as error:
            if own_id is not None:
                raise
            if message.delivery_count <= 1:
                raise IdConflict(
                    f"message {message.msg_id} has been answered with another body; "
                    "a further answer needs an id of its own"
                ) from error
        _logger.info(
            "message %d of %s was answered in an earlier delivery; that answer stands",
            message.msg_id,
            message.mail_address,
        )
        return None


def _answer_id(message: Message) -> str | None:
    """Return the id of a group's answer, the same for every delivery; None outside groups."""
    if message.group_name is None:
        return None
    what = (message.mail_address, message.group_name, message.msg_id, message.create_time)
    digest = hashlib.sha256("\n".join(map(str, what)).encode() + b"\n" + message.payload)
    return f"answer.{digest.hexdigest()}"


def _who(mailbox: Any, name: Any) -> dict[str, Any]:
    """Name an agent by mailbox and name, since some brokers know only names."""
    if mailbox is None or mailbox == "":
        return {"name": name}
    if not isinstance(mailbox, str):
        raise InvalidRequest(f"mailbox: {checks.shown(mailbox)} is not a text")
    if name is not None:
        return {"mailbox": addresses.parse(mailbox), "name": name}
    try:
        return {"mailbox": addresses.parse(mailbox), "name": mailbox}
    except InvalidRequest:
        return {"name": mailbox}
