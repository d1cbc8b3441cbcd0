"""Lists of a broker's mail for people: conversations, and stuck messages."""

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
    """A conversation, as a list shows it. All instants are in Unix seconds.

    It tells of the messages that the caller may see, and of no others.

    Attributes:
        id: For ``conversation``.
        text: The first 200 characters of its oldest message.
        began: When its oldest message became visible.
        last: When its newest message became visible.
        count: How many messages it has; of a longer one, the newest 1 000 are counted.
        participants: Who sent them, up to 20.
        mailboxes: The mailboxes that they are in, up to 20.
        state: How the last question without an answer stands: ``delayed``, ``waiting`` for a
            consumer, ``leased`` to one, ``retrying`` (delivered before, and not done) or ``dead``
            (moved away). Without such a question ``answered`` or ``done``, by the newest message
            that is no answer.
        waiting_for: The mailbox of that question, or of that message.
        holder: The consumer that holds it, if the caller may look at the mailbox.
        since: Since when it is so: visible, delivered, moved or answered.
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
        more: The argument ``before`` of the next page; None where this one is the last. A page with
            filters may be short and have it: so much is looked through at once.
        building: How much is in the index so far; None when all is.
        position: How far the broker's state has come; for ``if_changed_from``.
        unchanged: Whether nothing has changed since ``if_changed_from``, so that nothing was read.
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
        standing: How it stands with the group that is named like its mailbox, else with the group
            that has come furthest. None while it is delayed.
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
        more: The argument ``after`` of the next part; None where this one is the last.
        building: How much is in the index so far; None when all is.
        position: How far the broker's state has come.
        unchanged: Whether nothing has changed since ``if_changed_from``, so that nothing was read.
    """

    messages: tuple[ConversationMessage[M], ...] = ()
    more: str | None = None
    building: Progress | None = None
    position: int
    unchanged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """That one writes to a mailbox.

    Attributes:
        sender: Who does: a claim, unless ``verified``. None for messages without a sender.
        verified: Whether the broker itself knows the sender.
        mail_address: The mailbox.
        count: How many of these messages are in the index. One that was removed is counted until
            the index has noticed.
        last: When the newest became visible, in Unix seconds.
    """

    sender: str | None = None
    verified: bool = False
    mail_address: str
    count: int
    last: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckMessage:
    """A message that needs somebody. All instants are in Unix seconds.

    Attributes:
        kind: ``leased`` for longer than usual; ``retrying``, delivered before and not done;
            ``overdue``, without the answer that was asked for by now; ``undeliverable``, since
            nobody reads the mailbox; or ``dead``, a dead letter.
        mail_address: The mailbox that it is in.
        msg_id: Its number there.
        group_name: The consumer group for which it is so; None where none is.
        consumer: Who holds it.
        since: Since when it is so: first or last delivered, visible, due or moved.
        until: When its lease, or the delay of one that was given back, ends.
        deliveries: How often the group was given it.
        deaths: How many leases ended after its handling had begun.
        reason: Why it was given back or moved.
        promise: What its holder has promised.
        answer_by: By when its answer was asked for.
        text: The first 200 characters of its body.
        sender: Who sent it: a claim, unless ``verified``.
        verified: Whether the broker itself knows the sender.
        moved: Where a dead letter came from.
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
        items: The messages, by kind, and within a kind in an order that stays.
        counts: How many there are of each kind; a kind of which 1 000 were found has that or more.
        more: The argument ``after`` of the next page; None where this one is the last.
        building: How much is in the index of conversations so far; None when all is.
        position: How far the broker's state has come; for ``if_changed_from``.
        unchanged: Whether nothing has changed since ``if_changed_from``, so that nothing was read.
    """

    items: tuple[StuckMessage, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    more: str | None = None
    building: Progress | None = None
    position: int
    unchanged: bool = False
