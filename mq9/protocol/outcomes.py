"""What requests come to, before it is written into a reply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from mq9.models import MailboxType, Match, Priority, PublicMailbox, SendPolicy, Unread, Waiting

R = TypeVar("R")


class Reply(NamedTuple, Generic[R]):
    """The reply to a request that was carried out.

    Attributes:
        outcome: What it came to.
        unread: How much mail waits for the group that was asked about, if one was.
    """

    outcome: R
    unread: Unread | None = None


class Stored(NamedTuple):
    """A message as FETCH and QUERY read it.

    Attributes:
        msg_id: Its number in its mailbox.
        payload: The body.
        priority: Its priority.
        create_time: When it became visible, in whole Unix seconds.
        delivery_count: How often it was delivered to the group; 0 outside groups.
        envelope: What stands beside these in a reply, under the protocol's names.
        deaths: How many leases of the group ended after its handling had begun.
    """

    msg_id: int
    payload: bytes
    priority: Priority
    create_time: int
    delivery_count: int = 0
    envelope: Mapping[str, Any] | None = None
    deaths: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The outcome of a FETCH.

    Attributes:
        mail_address: The mailbox.
        generation: Which of those at that address it was made in, to be waited on.
        messages: What is delivered, most urgent first.
        batch: The token that acknowledges them together; None without a group or messages.
        lease_until: When their leases end, in Unix seconds; None without a group or messages.
        more: Whether another FETCH would return more at once.
        waiting: Why there is nothing, when there is nothing.
        position: The first msg_id that this read or group covers.
        cursors: Of each lane, the msg_id from which to read on, for a read without a group.
        next_change_ms: When, without anybody doing anything, it has to be looked again; in
            milliseconds since the Unix epoch.
        next_delivery_ms: When, without anybody doing anything, there may be more to deliver.
        refetched: Whether leases were set anew, so that they may end earlier than others think.
        copy: Which giving of the reply this is; a repeated FETCH is given the same one again.
    """

    mail_address: str
    generation: str
    messages: tuple[Stored, ...] = ()
    batch: str | None = None
    lease_until: float | None = None
    more: bool = False
    waiting: Waiting | None = None
    position: int = 0
    cursors: tuple[int, ...] | None = None
    next_change_ms: int | None = None
    next_delivery_ms: int | None = None
    refetched: bool = False
    copy: int = 1


class Created(NamedTuple):
    """The outcome of a CREATE.

    Attributes:
        mail_address: The mailbox.
        generation: Which of the mailboxes that ever were at that address it is.
        type: What it keeps, where the request asked for another type than ``standard``: so the
            asker sees that the broker knows types.
        send_policy: Who may send to it, where the request asked for another policy than
            ``everyone``.
        enforced: Whether that can be enforced, as who asks is told apart from others.
    """

    mail_address: str
    generation: str
    type: MailboxType | None = None
    send_policy: SendPolicy | None = None
    enforced: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """The outcome of a GRANT: all that holds for the mailbox from now on.

    Attributes:
        readers: Those that may use it beside its creator.
        viewers: Those that may look at it.
        senders: Those that may send to it under the policy ``granted``.
        send_policy: Who may send to it.
        enforced: Whether that can be enforced, as who asks is told apart from others.
    """

    readers: tuple[str, ...] = ()
    viewers: tuple[str, ...] = ()
    senders: tuple[str, ...] = ()
    send_policy: SendPolicy = SendPolicy.EVERYONE
    enforced: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveOutcome:
    """The outcome of a MOVE.

    Attributes:
        msg_id: The number of the copy; None where there was nothing to move.
        is_dead_letter: Whether this call stored it, and did not take back an earlier move.
    """

    msg_id: int | None
    is_dead_letter: bool = False


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
    """The outcome of a DISCOVER: a page of the agents that are found.

    Attributes:
        agents: What each registered, as JSON or read from it, and how it matched; best first.
        mode: What ranked them: ``all``, ``text`` or ``semantic``; None where it is not said.
        has_more: Whether another page follows.
    """

    agents: tuple[tuple[bytes | dict[str, Any], Match], ...]
    mode: str | None
    has_more: bool
