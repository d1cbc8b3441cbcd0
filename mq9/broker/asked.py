"""Requests that are made to a broker, and who makes them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from mq9.broker.official import PayloadForm
from mq9.engine import commands
from mq9.engine.commands import ANYBODY, Actor, Call
from mq9.errors import Forbidden, Mq9Error, OutcomeUnknown
from mq9.models import Identity, Role
from mq9.protocol.body import Body
from mq9.protocol.headers import Headers
from mq9.protocol.requests import Fetch
from mq9.protocol.reserved import Reserved
from mq9.protocol.verbs import Verb

R = TypeVar("R")

logger = logging.getLogger("mq9.broker")


@dataclass(frozen=True, slots=True)
class BrokerSession:
    """The client that makes requests: its consumer name, its agent and its rights."""

    consumer: str  # stands in for the one that a request does not name; random per connection
    agent: str | None = None  # the authenticated agent of the connection
    reserved: Reserved | None = None  # None where no agents are configured
    is_stranger: bool = False  # without an agent: anonymous, not an operator
    is_older_sdk: bool = False  # of an older generation of the protocol
    payloads: PayloadForm = field(default_factory=PayloadForm, compare=False)
    is_told_apart: bool = True  # no other connection has the same ``consumer``
    max_reply: int | None = None  # bytes of messages in one reply
    role: Role | None = None  # None: an agent, or an operator where it is none

    @property
    def client(self) -> str:
        """The client whose requests stay in order and share its time: an agent or a consumer."""
        return self.agent or self.consumer

    @property
    def identity(self) -> Identity:
        """The identity of the client: its agent and its role."""
        if self.reserved is None or self.is_stranger:
            return Identity(self.agent)
        return Identity(self.agent, self.role or self._usual_role)

    @property
    def _usual_role(self) -> Role:
        """The role that follows from having an agent, or none."""
        return Role.OPERATOR if self.agent is None else Role.AGENT

    @property
    def is_reader(self) -> bool:
        """Whether it may look at everything, and changes nothing."""
        return self.role is Role.READER

    @property
    def sends_plainly(self) -> bool:
        """Whether nothing is to be done for each of its SENDs but to carry it out."""
        if self.reserved is None:
            return not self.is_older_sdk
        return self.identity.role is Role.AGENT and not self.is_older_sdk

    @property
    def may_broadcast(self) -> bool:
        """Whether it may publish what goes to no mailbox, which an allow-list could not name."""
        return not self.is_reader and (
            self.agent is None
            or self.reserved is None
            or not self.reserved.has_allow_list(self.agent)
        )

    @property
    def is_somebody(self) -> bool:
        """Whether it has authenticated as an agent, or is an operator."""
        return self.agent is not None or (self.reserved is not None and not self.is_stranger)

    def actor(
        self,
        address: str = "",
        other: str | None = None,
        destination: str | None = None,
        told: str | None = None,
    ) -> Actor:
        """Return the actor of a request to a mailbox, with its configured rights.

        ``other`` is a second mailbox in the request, ``destination`` the target of a message, and
        ``told`` the one that gets the notice of an overdue answer. If agents are configured,
        mailboxes without a creator are closed to them.
        """
        reserved, agent = self.reserved, self.agent
        if reserved is None:
            return ANYBODY if agent is None else Actor(agent)
        owner = reserved.owner_of_address(address)
        other_owner = None if other is None else reserved.owner_of_address(other)
        reply_owner = None if told is None else reserved.owner_of_address(told)
        role = None if self.role is self._usual_role else self.role
        if agent is None:
            return Actor(
                owner=owner,
                closed=True,
                other_owner=other_owner,
                is_stranger=self.is_stranger,
                reply_owner=reply_owner,
                role=role,
            )
        below = reserved.slug(agent)
        return Actor(
            agent,
            owner,
            reserved.own(agent),
            closed=True,
            other_owner=other_owner,
            below=below,
            apart=() if below is None else reserved.apart(below),
            barred=destination is not None and not reserved.may_send(agent, destination),
            reply_owner=reply_owner,
            role=role,
        )

    def refuse_change(self, verb: Verb, body: Body[Any]) -> None:
        """Refuse a reader whatever may change something."""
        is_look = verb.reads or (isinstance(body, Fetch) and body.group_name is None)
        if self.is_reader and not is_look:
            raise Forbidden(
                f"role: you are a reader, which may look at everything and change nothing; ask an "
                f"operator to do this {verb.name}"
            )

    def log_change(self, verb: Verb, address: str) -> None:
        """Log who it was, where an operator has changed something."""
        if self.identity.role is Role.OPERATOR:
            who = self.agent or "without a name"
            logger.info(
                "operator %s: %s %s",
                who,
                verb.name,
                address,
                extra={"agent": self.agent, "verb": verb.name, "mailbox": address},
            )

    def refuse_reserved(self, name: str | None, mailbox: str | None) -> None:
        """Refuse a name or mailbox in the registry that belongs to another agent."""
        if self.reserved is None:
            return
        if name is not None and self.reserved.owner_of_name(name) not in {None, self.agent}:
            raise Forbidden(f"name: {name!r} belongs to another agent")
        if mailbox and self.reserved.owner_of_address(mailbox) not in {None, self.agent}:
            raise Forbidden(f"mailbox: {mailbox} belongs to another agent")


class PublishedRequest(NamedTuple):
    """A request as it was published."""

    subject: str
    payload: bytes
    headers: Headers
    session: BrokerSession
    wants_reply: bool = True  # a FETCH that cannot be answered leases nothing
    on_wait: Callable[[], None] | None = None  # called when a FETCH begins to wait for mail
    # Called before a FETCH is answered by which something was leased, with what takes that back,
    # if the reply reaches no client.
    on_leased: Callable[[Call[commands.Undo]], None] | None = None


class LocalRequest(NamedTuple, Generic[R]):
    """A request of a client in this process, which has checked it."""

    body: Body[R]
    mail_address: str
    payload: bytes  # the message of a SEND; the complete object of a REGISTER or REPORT
    session: BrokerSession
    unread_of: tuple[str, str] | None  # the mailbox and group whose unread mail is to be counted


class Asked(NamedTuple):
    """A request that has been read."""

    verb: Verb
    call: Call[Body[Any]]
    session: BrokerSession
    watch: Stopwatch
    unread_of: tuple[str, str] | None
    as_base64: bool = True
    reads_on: bool = False  # a FETCH that continues after the connection's last one
    on_leased: Callable[[Call[commands.Undo]], None] | None = None


class Stopwatch:
    """Measures the time of a request, without its wait for mail.

    ``on_wait`` is called when the request first begins to wait.
    """

    def __init__(self, on_wait: Callable[[], None] | None = None) -> None:
        self._on_wait = on_wait
        self._begun = time.perf_counter()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Stand still while inside."""
        if self._on_wait is not None:
            self._on_wait()
            self._on_wait = None
        stopped = time.perf_counter()
        try:
            yield
        finally:
            self._begun += time.perf_counter() - stopped

    @property
    def seconds(self) -> float:
        """Seconds of work so far."""
        return time.perf_counter() - self._begun


def known_error(verb: str, error: Exception) -> Mq9Error:
    """Return the error for the client; log an internal one."""
    if isinstance(error, Mq9Error):
        return error
    logger.error("the broker failed on %s", verb, exc_info=error)
    return OutcomeUnknown("the broker failed; the outcome is unknown")
