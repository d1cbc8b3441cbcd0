"""Notices of waiting mail to sessions of hosts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mq9.models.mailboxes import Unread


class Occasion(StrEnum):
    """The moment at which a host asks for a notice to its session.

    ``start``: the session begins. ``prompt``: a person typed. ``tool``: between two tool calls.
    ``stop``: the turn ends, and continues if there is a notice. ``idle``: the session rests, and
    wakes if there is a notice.
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
    """A sender that a notice may name.

    Attributes:
        name: Its name, which the broker has verified, and which the receiver knows.
        count: Number of new messages from it.
    """

    name: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A notice of waiting mail to a session of a host.

    Attributes:
        told: Whether the host must show it now. The broker then counts its messages as reported.
        new: Number of waiting messages not yet reported to the session, by priority.
        unread: Number of waiting messages, by priority. Acked and leased ones do not count, as in
            ``new``.
        senders: Up to 5 senders of the new messages: verified ones that the receiver knows.
        others: Number of further senders of the new messages.
        from_id: The lowest msg_id of the new messages. None if there are none.
        to_id: The highest msg_id of the new messages. None if there are none.
        held: Why the notice is held back although there are new messages: ``sender``, ``in a
            row``, ``per hour`` or ``cooldown``.
        held_until: When ``held`` ends, in Unix seconds. None if time alone does not end it.
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
    """The receipt of a notice to a session of a host, reported or held back.

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
