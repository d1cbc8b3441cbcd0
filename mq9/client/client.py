"""The client: one method per verb of the protocol. The URL selects the broker."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Self, Unpack

from mq9.client.agents import AgentMethods
from mq9.client.connection import BrokerConnection, UnreadWatch
from mq9.client.consumer import Consumer, ConsumerOptions, Handler
from mq9.client.gathering import GatherMethods
from mq9.client.listings import ListingMethods
from mq9.client.options import ClientOptions, checked_as, takes
from mq9.models import Message, bind
from mq9.protocol import checks
from mq9.protocol.reserved import Reserved
from mq9.transport.base import Transport
from mq9.transport.open import check_url, default_url, open_transport, shown_url


class Mq9Client(GatherMethods, AgentMethods, ListingMethods):
    """Client of one mq9 broker.

    Use it as an async context manager, or call ``open`` and ``close``. ``await
    Mq9Client.connect(url)`` creates and connects a client. All methods may run concurrently on the
    event loop that connected it. Each instance is one consumer with a random name.

    The client repeats a request that it could not send. If a reply is lost, it repeats only
    requests whose outcome cannot change: reads, ``send`` (with its idempotency id), ``fetch``,
    ``ack``, ``move``, grants, ``agent_register``, and ``mailbox_create`` with ``name`` and
    ``renew``. After any other lost reply it raises ``OutcomeUnknown``. After a pause, the client
    also repeats a request that the broker refused as ``unavailable``. It does not repeat requests
    that raise ``BrokerFailed`` or ``TooExpensive``.

    Units in this package: durations are in seconds, and instants in seconds since the Unix epoch.
    Names that end in ``_ms`` are in milliseconds. Sizes in bytes have names that end in ``bytes``.

    Args:
        server: The URL of the broker: ``nats://[user:password@|token@]host[:port]``, the same with
            ``tls://``, ``memory://name`` or ``sqlite:///path``. Separate the servers of a cluster
            by commas. ``mq9.transport.open`` describes the options. Default: the environment
            variable ``MQ9_SERVER``, or else one file per user.
        agent: For an in-process broker, the agent that this client authenticates as. A server
            identifies the agent by the credentials in the URL. If that is another agent,
            connecting raises ``Unauthorized``.
        transport: An open connection to a broker, instead of ``server``. The client closes it.
        options: See ``ClientOptions``.

    Every method can raise these errors:

    - ``InvalidRequest``: an argument is not allowed. The client sends nothing.
    - ``NotConnected``: the client is not connected.
    - ``Unreachable``: no server answers.
    - ``OutcomeUnknown``: the request was sent, and no reply arrived.
    - The error in the broker's reply (see ``mq9.errors``).
    """

    @takes(ClientOptions)
    def __init__(
        self,
        server: str | None = None,
        *,
        agent: str | None = None,
        transport: Transport | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        name = None if agent is None else checks.agent_name("agent", agent)
        chosen = checked_as(ClientOptions, options, "Mq9Client")
        finding, agents, randomness = (
            chosen[one] for one in ("embeddings", "agents", "randomness")
        )
        reserved = None if agents is None else Reserved(agents)
        if server is not None:
            check_url(server, finding, reserved)
        consumer = f"client.{randomness(12).hex()}"
        connection = BrokerConnection(
            lambda: open_transport(server, consumer, name, finding, reserved),
            transport=transport,
            request_timeout=chosen["request_timeout"],
            attempts=chosen["reconnect_attempts"],
            delay=chosen["reconnect_delay"],
            clock=chosen["clock"],
        )
        super().__init__(consumer, connection, randomness)
        self._server = server
        self._consumers: set[Consumer] = set()

    def __repr__(self) -> str:
        state = "connected" if self.is_connected else "not connected"
        return f"<Mq9Client {shown_url(self._server or default_url())} {state}>"

    @classmethod
    async def connect(
        cls,
        server: str | None = None,
        *,
        agent: str | None = None,
        **options: Unpack[ClientOptions],
    ) -> Self:
        """Create a client and connect it.

        Args:
            server: As for the client itself.
            agent: As for the client itself.
            options: Further arguments of the client.

        Raises:
            InvalidRequest: An argument is not valid.
            Unreachable: No server answers.
            Unauthorized: The server refuses the credentials.

        Example:
            ```python
            client = await Mq9Client.connect("memory://shop")
            ```
        """
        return await cls(server, agent=agent, **options).open()

    async def open(self) -> Self:
        """Connect this client. ``async with`` does the same. A connected client stays connected.

        It tries each server once and fails at once if none answers. If the connection breaks later,
        the next request connects again. The client stays the same consumer.

        Raises:
            NotConnected: The client was closed during this call.
            Unreachable: No server answers.
            Unauthorized: The server refuses the credentials.
        """
        await self._connection.open()
        return self

    async def close(self) -> None:
        """Stop this client's consumers with their ``stop``, and close its connection.

        The broker redelivers other fetched messages without an ack after their leases. You may call
        this again.
        """
        try:
            consumers = list(self._consumers)
            for consumer in consumers:
                consumer.request_stop()
            for consumer in consumers:
                await consumer.stop()
        finally:
            await self._connection.close()

    def abort(self) -> None:
        """Stop at once, as if the process had been killed. Call it on the client's event loop.

        Consumers stop with their ``abort``. Requests and waiting calls raise ``NotConnected`` or
        ``OutcomeUnknown``. You may call this again.
        """
        for consumer in list(self._consumers):
            consumer.abort()
        self._connection.abort()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    @property
    def is_connected(self) -> bool:
        """Whether requests are possible: the client was connected, and not closed since.

        If the connection is broken, the next request connects again.
        """
        return self._connection.is_open

    @property
    def any_loop(self) -> bool:
        """Whether any event loop may make requests: the connected broker runs in this process.

        A longer activity, such as a consumer, belongs to the event loop that started it.
        """
        return self._connection.any_loop

    def watch_unread(
        self, mail_address: str, group_name: str
    ) -> AbstractContextManager[UnreadWatch]:
        """Count the messages that wait for a group, with each request in the context.

        The replies carry the count, so it costs no round trip. It applies to requests of the
        current task.

        Args:
            mail_address: The mailbox.
            group_name: The consumer group.

        Returns:
            A context manager that returns a watch. Its ``unread`` is the count in the latest reply.
            It is None before the first reply, or if the mailbox does not exist.

        Example:
            ```python
            with client.watch_unread("garden", "helpers") as watch:
                await client.send("garden", "Feed the birds.")
            print(watch.unread.total)
            ```
        """
        return self._connection.watch_unread(mail_address, group_name)

    @takes(ConsumerOptions)
    async def consume(
        self, mail_address: str, handler: Handler, **options: Unpack[ConsumerOptions]
    ) -> Consumer:
        """Handle the messages of a mailbox in the background.

        By default the consumer starts with all stored messages. The group exists when this returns,
        so the consumer gets every later message.

        Args:
            mail_address: Mailbox to read.
            handler: Function or coroutine function that takes a ``Message``. The client sends its
                return value as the reply.
            options: Options of the consumer; see ``ConsumerOptions``.

        Returns:
            The running consumer. ``await consumer.stop()`` ends it.

        Raises:
            MailboxNotFound: The mailbox does not exist.

        Example:
            ```python
            async def handle(message):
                return f"{message.text}, done"

            async with await client.consume("garden", handle, group_name="helpers") as consumer:
                await consumer.wait()
            ```
        """
        started = Consumer(self, mail_address, handler, options)
        await started.start(on_end=self._consumers.discard)
        self._consumers.add(started)
        return started

    def _bind(self, messages: Iterable[Message]) -> None:
        for message in messages:
            bind(message, self)
