"""Outcomes of requests, before they are encoded as replies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from mq9.models import (
    Held,
    LookPolicy,
    MailboxType,
    Match,
    Priority,
    Progress,
    PublicMailbox,
    SendPolicy,
    Standing,
    Unread,
    Waiting,
)

R = TypeVar("R")


class Reply(NamedTuple, Generic[R]):
    """The reply to a successful request."""

    outcome: R
    unread: Unread | None = None  # of the group in the header ``mq9-unread``


class Stored(NamedTuple):
    """A message as FETCH and QUERY read it."""

    msg_id: int
    payload: bytes
    priority: Priority
    create_time: int  # when it became visible, in whole Unix seconds
    delivery_count: int = 0  # to the group
    envelope: Mapping[str, Any] | None = None  # all other fields, under the protocol's names
    deaths: int = 0  # leases of the group that ended after the handling had begun


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The outcome of a FETCH, its messages most urgent first."""

    mail_address: str
    generation: str  # of the mailbox
    messages: tuple[Stored, ...] = ()
    batch: str | None = None  # the token that acknowledges them together
    lease_until: float | None = None
    more: bool = False  # another FETCH would return more at once
    waiting: Waiting | None = None  # why it found nothing
    position: int = 0  # the first msg_id that this read or group covers
    # The next msg_id of each lane, for a read without a group.
    cursors: tuple[int, ...] | None = None
    # When a waiting client must look again, and when there may be more to deliver, if no client
    # does anything.
    next_change_ms: int | None = None
    next_delivery_ms: int | None = None
    refetched: bool = False  # leases were renewed and may now end earlier than before
    copy: int = 1  # number of this copy of the reply; a repeated FETCH gets the next one
    held: tuple[Held, ...] | None = None  # other held messages; None if not requested
    held_more: bool = False
    available: int = 0  # if there are no messages: their number below the request's min_msgs


class Created(NamedTuple):
    """The outcome of a CREATE."""

    mail_address: str
    generation: str  # tells it from other mailboxes that ever had that address
    # Type, policies and viewers, if the request has others than the default. They show the client
    # that the broker knows these options.
    type: MailboxType | None = None
    send_policy: SendPolicy | None = None
    enforced: bool = True
    look_policy: LookPolicy | None = None
    viewers: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """The outcome of a GRANT: all current grants of the mailbox."""

    readers: tuple[str, ...] = ()
    viewers: tuple[str, ...] = ()
    senders: tuple[str, ...] = ()
    send_policy: SendPolicy = SendPolicy.EVERYONE
    look_policy: LookPolicy = LookPolicy.GRANTED
    enforced: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveOutcome:
    """The outcome of a MOVE."""

    msg_id: int | None  # of the copy; None if there was nothing to move
    is_dead_letter: bool = False  # this call stored the copy, and not as the undo of a move
    sooner: str | None = None  # the mailbox in which its answer is due sooner now


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The outcome of a QUERY: messages, oldest first, and whether more match."""

    messages: tuple[Stored, ...]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicPage:
    """The outcome of PUBLIC.LIST: mailboxes by address, and whether more follow."""

    mailboxes: tuple[PublicMailbox, ...]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovered:
    """The outcome of a DISCOVER: a page of agents, best first."""

    # The registration of each, as JSON or parsed, and its match.
    agents: tuple[tuple[bytes | dict[str, Any], Match], ...]
    mode: str | None  # how they are ranked, if the broker says so
    has_more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadMessage:
    """A message of a conversation in the outcome of CONVERSATION.READ."""

    mail_address: str
    stored: Stored
    standing: Standing | None = None
    in_reply_to: tuple[str, int] | None = None  # a mailbox, and a msg_id there
    due: float | None = None  # of a delayed message, whose msg_id is -1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPart:
    """The outcome of CONVERSATION.READ: messages, oldest first, and the place of the next part."""

    position: int
    messages: tuple[ReadMessage, ...] = ()
    more: str | None = None
    building: Progress | None = None
    unchanged: bool = False
