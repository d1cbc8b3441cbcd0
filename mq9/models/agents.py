"""Registered agents, as DISCOVER finds them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Role(StrEnum):
    """The rights of a user where agents are configured.

    ``agent``: its own mailboxes, and what others grant it. ``operator``: every mailbox.
    ``reader``: looks into every mailbox, and changes nothing.
    """

    AGENT = "agent"
    OPERATOR = "operator"
    READER = "reader"


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of a client, as the broker knows it.

    Attributes:
        agent: The name that it has authenticated as; None without one.
        role: Its rights; None where no agents are configured, or the broker does not say.
    """

    agent: str | None = None
    role: Role | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """The match of a registered agent with a query.

    Attributes:
        name: The name it registered under, or the mailbox where it gave none.
        mailbox: The address that reaches it.
        score: Larger is better; comparable within one reply only.
        last_seen: When it was last active, such as by a report, a send or a fetch, in whole Unix
            seconds.
        status: What it last reported.
        mode: What ranked the answer: ``all``, ``text`` or ``semantic``.
        backlog: How many messages wait in its mailbox for the group of the same name, which is the
            one that agents read with; 1 000 means that many or more. None where there is no
            mailbox, or the broker does not say.
        weak: Whether the score is below what agents have that fit: it may well not fit at all.
    """

    name: str
    mailbox: str
    score: float = 0.0
    last_seen: int | None = None
    status: dict[str, Any] | None = None
    mode: str = "all"
    backlog: int | None = None
    weak: bool = False


class AgentMatch(dict[str, Any]):
    """The object that an agent registered, with how it matched in ``match``.

    It is a plain dict of what was registered; where the registration left ``mailbox`` out, the
    client fills in the address that the broker gave it.
    """

    def __init__(self, registered: dict[str, Any], match: Match) -> None:
        super().__init__(registered)
        self.setdefault("mailbox", match.mailbox)
        self.match = match


class AgentMatches(list[AgentMatch]):
    """The agents that were found, best first.

    Attributes:
        mode: What ranked them, and also found nobody: ``text``, ``semantic``, or ``all`` for a list
            by name; None where the broker does not say.
        has_more: Whether another page follows.
    """

    def __init__(self, found: Iterable[AgentMatch], *, mode: str | None, has_more: bool) -> None:
        super().__init__(found)
        self.mode = mode
        self.has_more = has_more


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEntry:
    """The result of LOOKUP for a name: whether it is registered, and whether it wrote before.

    Attributes:
        name: The name that was looked up, or that was found at a mailbox.
        registered: Whether an agent is registered under exactly this name.
        mailbox: The address that reaches it; None where it is not registered.
        last_seen: When it was last active, as in ``Match``.
        by: The authenticated agent that registered it; None where nobody authenticated did.
        wrote: When the oldest message that comes from this name became visible, in Unix seconds,
            among the newest 1 000 of the mailbox that was named; None where there is none. It is
            what messages say of themselves.
        wrote_verified: The same among the messages whose sender the broker knows.
    """

    name: str
    registered: bool
    mailbox: str | None = None
    last_seen: int | None = None
    by: str | None = None
    wrote: float | None = None
    wrote_verified: float | None = None
