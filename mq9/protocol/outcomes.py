"""What requests come to, before it is written into a reply."""

from __future__ import annotations

from dataclasses import dataclass

from mq9.models import FetchResult, Match, Message, PublicMailbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The outcome of a FETCH.

    Attributes:
        result: What to answer.
        generation: The mailbox it was made in, to be waited on.
        position: The first msg_id that this read or group covers.
        next_change_ms: When, without anybody doing anything, there may be more to deliver; in
            milliseconds since the Unix epoch.
        refetched: Whether leases were set anew, so that they may end earlier than others think.
        copy: Which giving of the reply this is; a repeated FETCH is given the same one again.
    """

    result: FetchResult
    generation: str
    position: int = 0
    next_change_ms: int | None = None
    refetched: bool = False
    copy: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveOutcome:
    """The outcome of a MOVE.

    Attributes:
        msg_id: The number of the copy; None where there was nothing to move.
        is_dead_letter: Whether this call stored it, and not where an earlier move took it from.
    """

    msg_id: int | None
    is_dead_letter: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The outcome of a QUERY: messages, oldest first, and whether more match."""

    messages: tuple[Message, ...]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicPage:
    """The outcome of PUBLIC.LIST: mailboxes by address, and whether more follow."""

    mailboxes: tuple[PublicMailbox, ...]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovered:
    """The outcome of a DISCOVER: a page of the agents that are found.

    Attributes:
        agents: What each registered, and how it matched; best first.
        mode: What ranked them: ``all``, ``text`` or ``semantic``.
        has_more: Whether another page follows.
    """

    agents: tuple[tuple[bytes, Match], ...]
    mode: str
    has_more: bool
