"""Registered agents, as DISCOVER finds them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Role(StrEnum):
    """The rights of a user if agents are configured.

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
        agent: The authenticated name. None without one.
        role: Its rights. None if no agents are configured, or the broker does not report it.
    """

    agent: str | None = None
    role: Role | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """The match of a registered agent with a query.

    Attributes:
        name: The name of the registration, or the mailbox if it has none.
        mailbox: Its address.
        score: Larger is better. Comparable within one reply only.
        last_seen: When it was last active, such as by a report, a send or a fetch, in whole Unix
            seconds.
        status: Its last report.
        mode: The ranking of the result: ``all``, ``text`` or ``semantic``.
        backlog: Number of messages that wait in its mailbox for the group of the same name. Agents
            read with that group. 1 000 means that many or more. None if the mailbox does not
            exist, or the broker does not report it.
        weak: Whether the score is below that of agents that fit. Such an agent may not fit at all.
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
    """The registered object of an agent, with its match in ``match``.

    It is a plain dict of the registration. If that has no ``mailbox``, the client fills in the
    address that the broker assigned.
    """

    def __init__(self, registered: dict[str, Any], match: Match) -> None:
        super().__init__(registered)
        self.setdefault("mailbox", match.mailbox)
        self.match = match


class AgentMatches(list[AgentMatch]):
    """The agents that were found, best first.

    Attributes:
        mode: The ranking: ``text``, ``semantic``, or ``all`` for a list by name. Also set
            for an empty result. None if the broker does not report it.
        has_more: Whether another page follows.
    """

    def __init__(self, found: Iterable[AgentMatch], *, mode: str | None, has_more: bool) -> None:
        super().__init__(found)
        self.mode = mode
        self.has_more = has_more


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEntry:
    """The result of LOOKUP for a name: its registration, and its messages to a mailbox.

    Attributes:
        name: The name that was looked up or found at a mailbox.
        registered: Whether an agent is registered under exactly this name.
        mailbox: Its address. None if it is not registered.
        last_seen: When it was last active, as in ``Match``.
        by: The authenticated agent that registered it. None if an unauthenticated client did.
        wrote: When the oldest message from this name became visible, in Unix seconds, among the
            newest 1 000 of the mailbox in the request. None if there is none. The name is a claim
            of these messages.
        wrote_verified: The same among messages with a verified sender.
    """

    name: str
    registered: bool
    mailbox: str | None = None
    last_seen: int | None = None
    by: str | None = None
    wrote: float | None = None
    wrote_verified: float | None = None
