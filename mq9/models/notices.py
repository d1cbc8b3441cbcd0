"""Notices of waiting mail to sessions of hosts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mq9.models.mailboxes import Unread


class Occasion(StrEnum):
    """When a host asks what to tell its session.

    ``start``: the session begins. ``prompt``: a person typed. ``tool``: between two tool calls.
    ``stop``: the turn ends, and goes on if there is something to tell. ``idle``: the session rests,
    and wakes if there is something to tell.
    """

    START = "start"
    PROMPT = "prompt"
    TOOL = "tool"
    STOP = "stop"
    IDLE = "idle"


# A notice on one of these begins an automatic turn.
AUTOMATIC = (Occasion.STOP, Occasion.IDLE)


@dataclass(frozen=True, slots=True)
class NoticeSender:
    """A sender that may be named in a notice.

    Attributes:
        name: Its name, which the broker has verified, and which the receiver knows.
        count: How many of the new messages are from it.
    """

    name: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A notice of waiting mail to a session of a host.

    Attributes:
        told: Whether to tell it now. It then counts as told.
        new: How many messages wait of which the session was not told, by priority.
        unread: How many messages wait, by priority. Neither counts what was acked or is leased.
        senders: Up to 5 senders of the new messages: verified ones that the receiver knows.
        others: How many other senders the new messages have.
        from_id: The lowest msg_id of the new messages; None if there are none.
        to_id: The highest msg_id of the new messages; None if there are none.
        held: Why the session is not told now although there are new messages: ``sender``, ``in a
            row``, ``per hour`` or ``cooldown``.
        held_until: The Unix second from which on ``held`` no longer holds; None if time alone
            does not end it.
    """

    told: bool
    new: Unread
    unread: Unread
    senders: tuple[NoticeSender, ...] = ()
    others: int = 0
    from_id: int | None = None
    to_id: int | None = None
    held: str | None = None
    held_until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeReceipt:
    """That a session of a host was told of a message, or was not.

    Attributes:
        host: The host, such as ``claude-code``.
        session: The session, by the host's own id.
        occasion: When the host asked.
        at: When that was, in Unix seconds.
        outcome: ``told`` or ``held``.
        held: Why it was held back, as in ``Notice``.
        limit: The limit that held it back: turns, turns in an hour, or seconds.
    """

    host: str
    session: str
    occasion: Occasion
    at: float
    outcome: str
    held: str | None = None
    limit: int | None = None
