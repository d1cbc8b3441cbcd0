"""The client: one method per verb of the protocol, on whichever broker the URL means."""

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
    """Talks to one mq9 broker.

    Use it as an async context manager, or call ``open`` and ``close``; ``await
    Mq9Client.connect(url)`` makes and connects one. All methods may run concurrently on the event
    loop that connected it. Each instance is one consumer, with a random name of its own.

    A request that could not be sent is repeated. One whose reply is lost is repeated only where
    that cannot change the outcome: reads, a send (it carries an idempotency id), ack, register, and
    create a name with ``renew``. Any other raises ``OutcomeUnknown``. One that the broker refused
    as ``unavailable``, without doing anything, is repeated after a pause. What only an operator can
    mend, and what takes too much work, is not repeated.

    Units, here and in everything that this package returns: durations are seconds, and instants
    seconds since the Unix epoch, unless a name ends in ``_ms``, which stands for milliseconds.
    Sizes end in ``bytes``.

    Args:
        server: ``nats://[user:password@|token@]host[:port]`` or the same with ``tls://``, several
            of one cluster separated by commas; ``memory://name``; ``sqlite:///path``. Options are
            described in ``mq9.transport.open``. Without it the environment's ``MQ9_SERVER``, else
            one file per user.
        agent: For an in-process broker, the agent that this client counts as authenticated for. A
            server knows that by the credentials in its URL; it must then be this agent, or
            connecting fails with ``Unauthorized``.
        transport: An open connection to a broker, to be used instead of ``server`` and closed with
            the client.
        options: See ``ClientOptions``.

    Every method raises ``InvalidRequest`` for an argument that the protocol does not allow, before
    anything is sent; ``NotConnected`` when the client is not connected; ``Unreachable`` when no
    server answers; ``OutcomeUnknown`` when no reply came; and otherwise the error that the broker
    answered with (see ``mq9.errors``).
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
        """Make a client and connect it: ``await Mq9Client.connect(url)``.

        Args:
            server: As for the client itself.
            agent: As for the client itself.
            options: Further arguments of the client.

        Raises:
            InvalidRequest: An argument is not what it must be.
            Unreachable: No server answers.
            Unauthorized: The server refuses the credentials.
        """
        return await cls(server, agent=agent, **options).open()

    async def open(self) -> Self:
        """Connect this client, which ``async with`` does as well; harmless when it is connected.

        Tries each server once, and fails at once when none answers. When a connection breaks later,
        the next request makes a new one, and the client goes on as the same consumer.

        Raises:
            NotConnected: The client was closed meanwhile.
            Unreachable: No server answers.
            Unauthorized: The server refuses the credentials.
        """
        await self._connection.open()
        return self

    async def close(self) -> None:
        """Stop this client's consumers as their ``stop`` does, and close its connection.

        What was fetched otherwise and not acked is delivered again after its lease. Harmless when
        repeated.
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
        """End at once, as if the process had been killed; to be called on its event loop.

        Consumers end as their ``abort`` does, and whatever is asked, or waits for an answer, fails
        with ``NotConnected`` or ``OutcomeUnknown``. Harmless when repeated.
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
        """Whether requests can be made: it was connected and not closed since.

        A connection that broke is made anew by the next request.
        """
        return self._connection.is_open

    @property
    def any_loop(self) -> bool:
        """Whether any event loop may make requests: it is connected to a broker in this process.

        What goes on beyond a request, such as a consumer, belongs to the loop that began it.
        """
        return self._connection.any_loop

    def watch_unread(
        self, mail_address: str, group_name: str
    ) -> AbstractContextManager[UnreadWatch]:
        """Learn, with the replies to the requests made inside, how much mail waits for a group.

        Costs no round trip of its own. Applies to the requests of the task that is inside.

        Args:
            mail_address: The mailbox.
            group_name: The consumer group.

        Returns:
            A context manager that gives a watch, whose ``unread`` is that of the latest reply; None
            while there was none, or when the mailbox does not exist.
        """
        return self._connection.watch_unread(mail_address, group_name)

    @takes(ConsumerOptions)
    async def consume(
        self, mail_address: str, handler: Handler, **options: Unpack[ConsumerOptions]
    ) -> Consumer:
        """Handle the messages of a mailbox in the background.

        The consumer starts with everything stored by default. The group exists when this returns,
        so no later message is missed.

        Args:
            mail_address: Mailbox to read.
            handler: Function or coroutine function that gets each ``Message``. Its return value is
                the reply.
            options: Options of the consumer: see ``ConsumerOptions``.

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
