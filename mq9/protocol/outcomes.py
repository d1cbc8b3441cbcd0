"""Outcomes of requests, before they are written into replies."""

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
    """The reply to a request that was carried out."""

    outcome: R
    unread: Unread | None = None  # of the group that was asked about, if one was


class Stored(NamedTuple):
    """A message as FETCH and QUERY read it."""

    msg_id: int
    payload: bytes
    priority: Priority
    create_time: int  # when it became visible, in whole Unix seconds
    delivery_count: int = 0  # to the group
    envelope: Mapping[str, Any] | None = None  # the rest, under the protocol's names
    deaths: int = 0  # leases of the group that ended after its handling had begun


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The outcome of a FETCH, its messages most urgent first."""

    mail_address: str
    generation: str  # which of the mailboxes at that address it was made in
    messages: tuple[Stored, ...] = ()
    batch: str | None = None  # the token that acknowledges them together
    lease_until: float | None = None
    more: bool = False  # another FETCH would return more at once
    waiting: Waiting | None = None  # why there is nothing
    position: int = 0  # the first msg_id that this read or group covers
    # Of each lane, the msg_id from which to read on, for a read without a group.
    cursors: tuple[int, ...] | None = None
    # When, without anybody doing anything, it has to be looked again, and there may be more to
    # deliver.
    next_change_ms: int | None = None
    next_delivery_ms: int | None = None
    refetched: bool = False  # leases were set anew: they may end earlier than others think
    copy: int = 1  # of the reply; a repeated FETCH is given the next one
    held: tuple[Held, ...] | None = None  # beside these messages; None where it was not asked for
    held_more: bool = False
    available: int = 0  # of nothing: how many were fewer than the request's min_msgs


class Created(NamedTuple):
    """The outcome of a CREATE."""

    mail_address: str
    generation: str  # which of the mailboxes that ever were at that address it is
    # Type, policies and viewers where the request asked for others than the default: so the client
    # sees that the broker knows them.
    type: MailboxType | None = None
    send_policy: SendPolicy | None = None
    enforced: bool = True
    look_policy: LookPolicy | None = None
    viewers: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """The outcome of a GRANT: all that holds for the mailbox from now on."""

    readers: tuple[str, ...] = ()
    viewers: tuple[str, ...] = ()
    senders: tuple[str, ...] = ()
    send_policy: SendPolicy = SendPolicy.EVERYONE
    look_policy: LookPolicy = LookPolicy.GRANTED
    enforced: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveOutcome:
    """The outcome of a MOVE."""

    msg_id: int | None  # of the copy; None where there was nothing to move
    is_dead_letter: bool = False  # this call stored it, and did not take back an earlier move
    sooner: str | None = None  # the mailbox in which its answer is overdue sooner now


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
    """The outcome of a DISCOVER: a page of the agents that are found, best first."""

    # What each registered, as JSON or read from it, and how it matched.
    agents: tuple[tuple[bytes | dict[str, Any], Match], ...]
    mode: str | None  # what ranked them, if the broker says so
    has_more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadMessage:
    """A message of a conversation, as CONVERSATION.READ reads it."""

    mail_address: str
    stored: Stored
    standing: Standing | None = None
    in_reply_to: tuple[str, int] | None = None  # a mailbox, and a msg_id there
    due: float | None = None  # of a delayed message, whose msg_id is -1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPart:
    """The outcome of CONVERSATION.READ: messages, oldest first, and where to read on."""

    position: int
    messages: tuple[ReadMessage, ...] = ()
    more: str | None = None
    building: Progress | None = None
    unchanged: bool = False
