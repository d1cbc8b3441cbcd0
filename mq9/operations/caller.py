"""On whose behalf an operation runs: the connection, the agent, its thread, and its limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mq9 import address as addresses
from mq9.client.client import Mq9Client
from mq9.errors import Forbidden, InvalidRequest, MailboxNotFound, Mq9Error
from mq9.models import Unread
from mq9.operations.conversations import Conversations, extended
from mq9.operations.identity import (
    DEFAULT_MAX_CHARS,
    DEFAULT_REGISTRATION_TTL_S,
    Identity,
    address_in,
)
from mq9.operations.leases import Deliveries, DeliveryMemory, LeaseKeeper
from mq9.operations.tool_names import ToolNames
from mq9.protocol import requests

if TYPE_CHECKING:
    from mq9.client.client import Mq9Client


@dataclass(frozen=True, slots=True)
class Step:
    """What tells a step from all others, the same when it is taken again.

    Attributes:
        secret: What its questions are known by, which nobody can guess: 32 characters.
        mail_address: Where they are answered, which nobody can guess either.
    """

    secret: str
    mail_address: str


TTL_S = 30 * 86_400  # after the last use
_RENEWED_EVERY_MS = 86_400_000


class PrivateMailbox:
    """The mailbox where one thread of an agent gets its answers.

    Args:
        mail_address: Its address, which nobody can guess.
        desc: Its description, by which the agent's other threads know that it is not theirs.
    """

    def __init__(self, mail_address: str, desc: str) -> None:
        self.mail_address = mail_address
        self._desc = desc
        self._renewed_ms: int | None = None  # by the client's monotonic clock

    async def ensure(self, client: Mq9Client) -> str:
        """Make it if it is missing, let it last for its whole time again, and return its address.

        A mailbox that was renewed within a day is taken to be there.

        Raises:
            LimitReached: The broker holds as many mailboxes as it may.
        """
        now = client.clock.monotonic_ms()
        if self._renewed_ms is None or now - self._renewed_ms >= _RENEWED_EVERY_MS:
            await client.mailbox_create(
                name=self.mail_address, ttl=TTL_S, desc=self._desc, renew=True
            )
            self._renewed_ms = now
        return self.mail_address

    def forget(self) -> None:
        """Note that it is not there."""
        self._renewed_ms = None

    async def unread(self, client: Mq9Client, group_name: str) -> Unread:
        """Return what waits for a group in it; nothing where that is not known.

        A mailbox that this process has not used yet is not asked for it.
        """
        if self._renewed_ms is None:
            return Unread()
        try:
            status = await client.mailbox_status(self.mail_address, group_name=group_name)
        except Mq9Error as error:  # what was called for is done
            if isinstance(error, MailboxNotFound):
                self.forget()
            return Unread()
        return Unread() if status.group is None else status.group.pending


def description(agent: str) -> str:
    """Return the description of the private mailboxes of an agent's threads."""
    return f"private to a thread of agent {agent}"


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf an operation runs.

    Attributes:
        client: The connection.
        consumer: Who fetches: one run of an agent.
        identity: The agent, where the tools are bound to one.
        lease_ms: How long fetched messages stay leased.
        max_chars: How many characters of other people's text a result may hold.
        tools: The operations that it may perform, and what their tools are called.
        read_only: Whether it may only perform operations that change nothing.
        registration_ttl: After how many seconds of silence its registration expires; 0
            means never.
        deliveries: What it fetched, by which an ack finds mailbox, group and consumer.
        leases: Who renews the leases of what it fetches; None for nobody.
        reads_results: Whether it reads whole results, and so what they say beside.
        headers: What goes with each message that it sends.
        idempotency_id: The id of this call, the same when it is made again; None for one that
            cannot be told from others.
        conversations: What it fetched and asked lately, and when a conversation is stopped.
        task: The path of the message that it works on, where that is known.
        send_hops: How many names the path of what it sends may have; None for any number.
        step: The step of a thread that calls, by which what it asks is known when it is taken
            again; None outside of threads.
        private: The mailbox of the agent's thread that calls, where its answers come; None for the
            agent's own.
        has_worker: Whether a worker of the agent runs it for one message: the worker takes what
            comes to the agent's own mailbox, and it may read only what comes to its thread.
    """

    client: Mq9Client
    consumer: str
    identity: Identity | None = None
    lease_ms: int = requests.DEFAULT_LEASE_MS
    max_chars: int = DEFAULT_MAX_CHARS
    tools: ToolNames = field(default_factory=ToolNames)
    read_only: bool = False
    registration_ttl: int = DEFAULT_REGISTRATION_TTL_S
    deliveries: Deliveries = field(default_factory=lambda: DeliveryMemory().of(""))
    leases: LeaseKeeper | None = None
    reads_results: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    idempotency_id: str | None = None
    conversations: Conversations = field(default_factory=Conversations)
    task: Sequence[str] = ()
    send_hops: int | None = None
    private: PrivateMailbox | None = None
    step: Step | None = None
    has_worker: bool = False

    @property
    def inboxes(self) -> list[str]:
        """The mailboxes from which it fetches unless told otherwise, which need not exist."""
        private = [] if self.private is None else [self.private.mail_address]
        own = [] if self.identity is None or self.has_worker else [self.identity.mail_address]
        return [*private, *own]

    async def mailbox_to_read(self, mail_address: str | None) -> str:
        """Return the mailbox to read: the one asked for, if allowed, else the agent's own.

        A caller that a worker runs has no other than its thread's: what comes to the agent's own
        is of other threads, perhaps of other users.

        Raises:
            InvalidRequest: None is given, and the tools are bound to no agent.
            Forbidden: The agent may not read it.
            MailboxNotFound: The agent made it, and it no longer exists.
        """
        if mail_address is None:
            if self.identity is None:
                raise InvalidRequest("mail_address: say which mailbox to read")
            if self.has_worker and self.private is not None:
                return await self.private.ensure(self.client)
            mail_address = self.identity.mail_address
        address = addresses.parse(mail_address)
        identity = self.identity
        if self.has_worker and identity is not None and address == identity.mail_address:
            raise Forbidden(
                f"mail_address: what comes to {address} is given to you one by one, and not fetched"
            )
        if (
            identity is None
            or identity.may_read(address)
            or self._is_private(address)
            or await self._made(identity, address)
        ):
            return address
        raise Forbidden(f"mail_address: {identity.readable}, not {address}")

    def _is_private(self, address: str) -> bool:
        return self.private is not None and address == self.private.mail_address

    async def _made(self, identity: Identity, address: str) -> bool:
        """Tell whether the agent made the mailbox that is there now, in whichever process.

        What the broker recorded of an authenticated agent counts, and else the proof that the
        agent's tools write. Neither can be written by others. In a run of a worker only the proof
        counts, since the worker made mailboxes for itself.

        Raises:
            MailboxNotFound: It made one, which no longer exists.
        """
        try:
            status = await self.client.mailbox_status(address)
        except MailboxNotFound:
            if address in identity.known_addresses:
                raise
            return False  # said like any refusal, which does not tell whether it exists
        except Forbidden:
            return False
        if status.own is False or status.desc == description(identity.name):
            return False
        if identity.describes(status.desc, address) or (
            status.own and not self.has_worker and await self.client.whoami() == identity.name
        ):
            identity.made(address)
            return True
        return False

    async def mailbox_to_send(self, mail_address: str, argument: str = "mail_address") -> str:
        """Return the mailbox to send to, or to have answers sent to, if that is allowed.

        Raises:
            InvalidAddress: It is no address.
            Forbidden: The agent may not send there.
            MailboxNotFound: The agent made it, and it no longer exists.
        """
        address = address_in(argument, mail_address)
        identity = self.identity
        if (
            identity is None
            or identity.may_send(address)
            or self._is_private(address)
            or await self._made(identity, address)
        ):
            return address
        raise Forbidden(f"{argument}: {identity.sendable}, not to {address}")

    def group_to_use(self, group_name: str | None, mail_address: str) -> str:
        """Return the group asked for, else the agent's own, else the mailbox's."""
        if group_name is not None:
            return group_name
        return mail_address if self.identity is None else self.identity.mail_address

    def acts_as(self, consumer: str) -> bool:
        """Tell whether a consumer is the caller, or a parallel branch of its graph."""
        return consumer == self.consumer or consumer.startswith(f"{self.consumer}#")

    def is_addressed_at(self, mail_address: str) -> bool:
        """Tell whether mail at an address is for the agent, or for others with it.

        Elsewhere, in a mailbox that it made to be answered at, it answers what the agent asked.
        """
        return self.identity is None or self.identity.may_read(mail_address)

    def path_to(self, mail_address: str, correlation_id: str | None) -> tuple[str, ...]:
        """Return the path of what the agent sends; empty where the tools belong to no agent.

        Raises:
            Forbidden: It has more names than what the caller sends may have.
        """
        if self.identity is None:
            return ()
        before = self.conversations.path_before(
            self.consumer,
            mail_address,
            correlation_id,
            task=self.task,
            now_ms=self.client.clock.monotonic_ms(),
        )
        if self.send_hops is not None and len(before) >= self.send_hops:
            raise Forbidden(
                f"mail_address: this conversation has passed through {len(before)} agents, and may "
                "not be sent on"
            )
        return extended(before, self.identity.name)

    async def ensure_mailbox(self) -> None:
        """Make the agent's own mailbox, once, if it is missing; who may only read, makes none."""
        if self.identity is not None and not self.identity.has_mailbox and not self.read_only:
            await self.client.mailbox_create(name=self.identity.mail_address, renew=True)
            self.identity.has_mailbox = True

    async def mailbox_for_answers(self) -> str | None:
        """Return where what it sends is answered, unless it says otherwise; None for nowhere."""
        if self.private is not None:
            return await self.private.ensure(self.client)
        return None if self.identity is None else self.identity.mail_address

    def require_identity(self) -> Identity:
        """Return the agent.

        Raises:
            InvalidRequest: The tools are bound to no agent.
        """
        if self.identity is None:
            raise InvalidRequest("agent: these tools belong to no agent")
        return self.identity
