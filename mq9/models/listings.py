"""Lists for people: conversations and stuck messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from mq9.models.messages import Moved, Promise, Standing, StoredMessage

CONVERSATION_STATES = ("delayed", "waiting", "leased", "retrying", "answered", "done", "dead")
STUCK_KINDS = ("leased", "retrying", "overdue", "undeliverable", "dead")


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of the index of conversations while it is built."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Participant:
    """A sender of messages of a conversation.

    Attributes:
        name: The name: a claim, unless ``verified``. None for messages without a sender.
        verified: Whether the broker itself knows the sender.
    """

    name: str | None
    verified: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation in a list. All instants are in Unix seconds.

    It covers only the messages that the caller may see.

    Attributes:
        id: The argument of ``conversation``.
        text: The first 200 characters of its oldest message.
        began: When its oldest message became visible.
        last: When its newest message became visible.
        count: Number of its messages. Only the newest 1 000 are counted.
        participants: The senders, up to 20.
        mailboxes: The mailboxes of its messages, up to 20.
        state: The state of the last question without an answer: ``delayed``, ``waiting`` for a
            consumer, ``leased`` to one, ``retrying`` (delivered before, and not done) or ``dead``
            (moved away). Without such a question ``answered`` or ``done``, by the newest message
            that is no answer.
        waiting_for: The mailbox of that question, or of that message.
        holder: The consumer that holds it, if the caller may look at the mailbox.
        since: When that state began: visible, delivered, moved or answered.
        reason: Why it was given back or moved, if the caller may look at the mailbox.
        deliveries: How often it was delivered.
    """

    id: str
    text: str
    began: float
    last: float
    count: int
    participants: tuple[Participant, ...] = ()
    mailboxes: tuple[str, ...] = ()
    state: str
    waiting_for: str | None = None
    holder: str | None = None
    since: float | None = None
    reason: str | None = None
    deliveries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationPage:
    """A page of conversations.

    Attributes:
        conversations: The conversations, the one with the newest message first.
        more: The argument ``before`` of the next page. None on the last page. A page with filters
            may be short although there are more, because one call searches a limited part.
        building: Part of the index built so far. None when it is complete.
        position: The position of the broker's state, for ``if_changed_from``.
        unchanged: Whether nothing has changed since ``if_changed_from``, so that no data was read.
    """

    conversations: tuple[Conversation, ...] = ()
    more: str | None = None
    building: Progress | None = None
    position: int
    unchanged: bool = False


if TYPE_CHECKING:
    from mq9.models.messages import M
else:
    M = TypeVar("M", bound=StoredMessage)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationMessage(Generic[M]):
    """A message of a conversation.

    Attributes:
        message: The message. While it is delayed its msg_id is -1.
        standing: Its state in the group named like its mailbox, otherwise in the group with the
            most progress. None while it is delayed.
        in_reply_to: The mailbox and msg_id of the question that it answers, if the caller may see
            the question.
        due: While it is delayed, when it becomes visible, in Unix seconds.
    """

    message: M
    standing: Standing | None = None
    in_reply_to: tuple[str, int] | None = None
    due: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationMessages(Generic[M]):
    """A part of a conversation.

    Attributes:
        messages: The messages, oldest first.
        more: The argument ``after`` of the next part. None in the last part.
        building: Part of the index built so far. None when it is complete.
        position: The position of the broker's state.
        unchanged: Whether nothing has changed since ``if_changed_from``, so that no data was read.
    """

    messages: tuple[ConversationMessage[M], ...] = ()
    more: str | None = None
    building: Progress | None = None
    position: int
    unchanged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A sender that writes to a mailbox.

    Attributes:
        sender: The name: a claim, unless ``verified``. None for messages without a sender.
        verified: Whether the broker itself knows the sender.
        mail_address: The mailbox.
        count: Number of these messages in the index. A removed message counts until the index
            has processed the removal.
        last: When the newest became visible, in Unix seconds.
    """

    sender: str | None = None
    verified: bool = False
    mail_address: str
    count: int
    last: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckMessage:
    """A message that needs attention. All instants are in Unix seconds.

    Attributes:
        kind: ``leased`` (held for longer than usual), ``retrying`` (delivered before, and not
            done), ``overdue`` (no answer by the deadline), ``undeliverable`` (no consumer reads the
            mailbox) or ``dead`` (a dead letter).
        mail_address: Its mailbox.
        msg_id: Its number there.
        group_name: The consumer group with this problem. None without one.
        consumer: The consumer that holds it.
        since: When the problem began: first or last delivered, visible, due or moved.
        until: When its lease, or the delay of one that was given back, ends.
        deliveries: How often it was delivered to the group.
        deaths: Number of leases that ended after its handling had begun.
        reason: Why it was given back or moved.
        promise: The promise of its holder.
        answer_by: The deadline for its answer.
        text: The first 200 characters of its body.
        sender: The sender: a claim, unless ``verified``.
        verified: Whether the broker itself knows the sender.
        moved: The former place of a dead letter.
    """

    kind: str
    mail_address: str
    msg_id: int
    group_name: str | None = None
    consumer: str | None = None
    since: float | None = None
    until: float | None = None
    deliveries: int = 0
    deaths: int = 0
    reason: str | None = None
    promise: Promise | None = None
    answer_by: int | None = None
    text: str = ""
    sender: str | None = None
    verified: bool = False
    moved: Moved | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckPage:
    """A page of stuck messages.

    Attributes:
        items: The messages, by kind, and within a kind in a stable order.
        counts: Number of each kind. 1 000 means that many or more.
        more: The argument ``after`` of the next page. None on the last page.
        building: Part of the index of conversations built so far. None when it is complete.
        position: The position of the broker's state, for ``if_changed_from``.
        unchanged: Whether nothing has changed since ``if_changed_from``, so that no data was read.
    """

    items: tuple[StuckMessage, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    more: str | None = None
    building: Progress | None = None
    position: int
    unchanged: bool = False
