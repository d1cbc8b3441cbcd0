"""On whose behalf an operation runs: the connection, the agent, its thread, and its limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from mq9 import address as addresses
from mq9.client.client import Mq9Client
from mq9.errors import Forbidden, InvalidRequest, MailboxNotFound, Mq9Error
from mq9.models import LookPolicy, Unread
from mq9.operations.conversations import Before, Conversations, extended
from mq9.operations.identity import (
    DEFAULT_MAX_CHARS,
    DEFAULT_REGISTRATION_TTL_S,
    DEFAULT_STRANGER_CLAIMS,
    MAX_WAIT_S,
    Identity,
    address_in,
)
from mq9.operations.leases import Deliveries, DeliveryMemory, FetchedFrom, LeaseKeeper
from mq9.operations.tool_names import ToolNames
from mq9.protocol import requests


@dataclass(frozen=True, slots=True)
class Step:
    """The secret identity of a step of a thread, the same when the step runs again."""

    secret: str
    mail_address: str  # where its questions are answered


TTL_S = 30 * 86_400  # after the last use
_RENEWED_EVERY_MS = 86_400_000


class PrivateMailbox:
    """The mailbox where one thread of an agent gets its answers."""

    def __init__(self, mail_address: str, desc: str) -> None:
        self.mail_address = mail_address
        self._desc = desc
        self._renewed_ms: int | None = None  # by the client's monotonic clock

    async def ensure(self, client: Mq9Client) -> str:
        """Make it if it is missing, renew it once a day, and return its address."""
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
        """Return the mail in it that waits for a group, if this process has used it."""
        if self._renewed_ms is None:
            return Unread()
        try:
            status = await client.mailbox_status(self.mail_address, group_name=group_name)
        except Mq9Error as error:  # the operation itself is done
            if isinstance(error, MailboxNotFound):
                self.forget()
            return Unread()
        return Unread() if status.group is None else status.group.pending


def description(agent: str) -> str:
    """Return the description of the private mailboxes of an agent's threads."""
    return f"private to a thread of agent {agent}"


class Trace(NamedTuple):
    """The origin of a message, as the message names it."""

    path: tuple[str, ...]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Caller:
    """The agent and run on whose behalf an operation runs, and their limits."""

    client: Mq9Client
    consumer: str  # one run of an agent
    identity: Identity | None = None
    lease_ms: int = requests.DEFAULT_LEASE_MS
    max_chars: int = DEFAULT_MAX_CHARS  # of other people's text, in one result
    max_wait_s: int = MAX_WAIT_S  # for mail, in one call
    stranger_claims: int = DEFAULT_STRANGER_CLAIMS  # of urgency, of one sender in one result
    tools: ToolNames = field(default_factory=ToolNames)
    read_only: bool = False
    registration_ttl: int = DEFAULT_REGISTRATION_TTL_S  # seconds of silence; 0: never
    deliveries: Deliveries = field(default_factory=lambda: DeliveryMemory().of(""))
    leases: LeaseKeeper | None = None  # None: they are not renewed
    reads_results: bool = True  # complete, with the lines on unread mail and lost leases
    headers: Mapping[str, str] = field(default_factory=dict)  # of each message that it sends
    idempotency_id: str | None = None  # of this call, the same when it is made again
    conversations: Conversations = field(default_factory=Conversations)
    task: Before | None = None  # of the message that it works on
    send_hops: int | None = None  # most names in the path of its messages
    private: PrivateMailbox | None = None  # where its thread gets answers
    step: Step | None = None  # None outside of threads
    # A worker runs it for one message, and fetches from the agent's own mailbox.
    has_worker: bool = False
    # The messages that this call has fetched, and its answer shows.
    giving: list[tuple[FetchedFrom, tuple[int, ...]]] = field(default_factory=list)

    def answered(self) -> None:
        """Note that the call was answered: its messages need not be returned again."""
        for delivery, msg_ids in self.giving:
            self.deliveries.shown(delivery, msg_ids)
        self.giving.clear()

    @property
    def kept_ms(self) -> int:
        """The duration of its leases while its program runs."""
        return self.lease_ms if self.leases is None else self.leases.kept_ms(self.lease_ms)

    def seconds_left(self, place: FetchedFrom, msg_id: int, until: float) -> int:
        """Return the seconds until a lease ends that the broker has until a Unix second.

        A lease that this program renews lasts longer.
        """
        seconds = max(1, round(until - self.client.clock.now_ms() / 1000))
        kept_ms = None if self.leases is None else self.leases.kept_until_ms(place, msg_id)
        if kept_ms is None:
            return seconds
        return max(seconds, round((kept_ms - self.client.clock.monotonic_ms()) / 1000))

    @property
    def sessions(self) -> str:
        """The beginning of the names of all consumers of the agent."""
        agent = self.consumer.partition("/")[0] if self.identity is None else self.identity.name
        return f"{agent}/"

    @property
    def call_id(self) -> str | None:
        """The id of the call, or of its step in a thread; a repeated call has the same."""
        return self.idempotency_id or (None if self.step is None else self.step.secret)

    @property
    def inboxes(self) -> list[str]:
        """The mailboxes from which it fetches by default, which may not exist."""
        private = [] if self.private is None else [self.private.mail_address]
        own = [] if self.identity is None or self.has_worker else [self.identity.mail_address]
        return [*private, *own]

    async def mailbox_to_read(self, mail_address: str | None) -> str:
        """Return the mailbox to read: the requested one, if allowed, else the agent's own.

        A caller in a run of a worker has only the mailbox of its thread: the agent's own mailbox
        has messages of other threads, perhaps of other users.
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
        if identity is not None and not identity.may_read(address):
            await self._check_made(identity, address, f"mail_address: {identity.readable}, not")
        return address

    async def mailbox_to_look(self, mail_address: str | None) -> tuple[str, bool]:
        """Return the mailbox to look into, and whether it is the agent's to read.

        Others may be looked into where their owners have published them.
        """
        try:
            return await self.mailbox_to_read(mail_address), True
        except Forbidden:
            address = addresses.parse(mail_address or "")
            if self.has_worker or not await self._is_published(address):
                raise
            return address, False

    async def _is_published(self, address: str) -> bool:
        """Return whether the agent may look into a mailbox of another agent.

        If the broker cannot authenticate, the policy of the owner counts.
        """
        try:
            status = await self.client.mailbox_status(address)
        except (Forbidden, MailboxNotFound):
            return False
        if status.look_policy is LookPolicy.EVERYONE:
            return True
        if status.enforced:
            return "look" in status.rights and "take" not in status.rights
        return self.identity is not None and self.identity.name in (status.viewers or ())

    async def _check_made(self, identity: Identity, address: str, refusal: str) -> None:
        """Refuse a mailbox that is neither the thread's own nor made by the agent."""
        is_private = self.private is not None and address == self.private.mail_address
        if not (is_private or await self._made(identity, address)):
            raise Forbidden(f"{refusal} {address}")

    async def _made(self, identity: Identity, address: str) -> bool:
        """Return whether the agent created the mailbox that exists now, in any process.

        The record of the broker about an authenticated agent counts, or else the proof that the
        agent's tools write. Others can write neither. In a run of a worker only the proof counts,
        since the worker creates mailboxes for itself. MailboxNotFound is raised for a missing
        mailbox that the agent created.
        """
        try:
            status = await self.client.mailbox_status(address)
        except MailboxNotFound:
            if address in identity.known_addresses:
                raise
            return False  # as for any refusal, so that it does not reveal whether it exists
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
        """Return the mailbox to send to, or to have answers sent to, if that is allowed."""
        address = address_in(argument, mail_address)
        identity = self.identity
        if identity is not None and not identity.may_send(address):
            await self._check_made(identity, address, f"{argument}: {identity.sendable}, not to")
        return address

    def group_to_use(self, group_name: str | None, mail_address: str) -> str:
        """Return the group asked for, else the agent's own, else the mailbox's."""
        if group_name is not None:
            return group_name
        return mail_address if self.identity is None else self.identity.mail_address

    def trace_to(
        self, mail_address: str, correlation_id: str | None, made_up: str | None = None
    ) -> Trace:
        """Return the path and headers of a message of the agent, if its path is not too long.

        ``made_up`` is the correlation id of a message without one.
        """
        if self.identity is None:
            return Trace((), dict(self.headers))
        before = self.conversations.before(
            self.consumer,
            mail_address,
            correlation_id,
            task=self.task,
            now_ms=self.client.clock.monotonic_ms(),
        )
        hops = len(before.path)
        if self.send_hops is not None and hops >= self.send_hops:
            raise Forbidden(
                f"mail_address: this conversation has passed through {hops} agents, and may "
                "not be sent on"
            )
        headers = {**self.headers, **before.headers(correlation_id or made_up)}
        return Trace(extended(before.path, self.identity.name), headers)

    async def ensure_mailbox(self) -> None:
        """Make the agent's own mailbox, once, if it is missing; who may only read, makes none."""
        if self.identity is not None and not self.identity.has_mailbox and not self.read_only:
            await self.client.mailbox_create(name=self.identity.mail_address, renew=True)
            self.identity.has_mailbox = True

    def require_identity(self) -> Identity:
        """Return the agent."""
        if self.identity is None:
            raise InvalidRequest("agent: these tools belong to no agent")
        return self.identity
