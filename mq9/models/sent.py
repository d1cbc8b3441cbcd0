"""Sent messages, as their sender sees them."""

from __future__ import annotations

from dataclasses import dataclass

from mq9.models.messages import Priority, Promise


@dataclass(frozen=True, slots=True, kw_only=True)
class SendOutcome:
    """The result of ``send_detailed``.

    Attributes:
        msg_id: Its number in the mailbox. -1 while it is delayed.
        delayed_id: Its number among the delayed messages, for ``cancel``. Otherwise None.
        replaced: The msg_id of the message that it replaced, under its key or in a mailbox of type
            ``latest``. None if it replaced nothing, or its id was used before.
    """

    msg_id: int
    delayed_id: int | None = None
    replaced: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SentAnswer:
    """The answer to a message, in the mailbox that the message names in ``reply_to``.

    Attributes:
        mail_address: That mailbox.
        msg_id: The number of the answer there.
        code: The code of an error answer, such as ``failed``. None for a good answer.
    """

    mail_address: str
    msg_id: int
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A message that its sender finds by ``sent``, with its state.

    Attributes:
        mail_address: The mailbox that it was sent to.
        msg_id: Its number there. None while it is delayed.
        delayed_id: While it is delayed, its number among the delayed messages, for ``cancel``.
        due: While it is delayed, when it becomes visible, in Unix seconds.
        sent: When it was sent, in Unix seconds.
        priority: Its priority.
        key: Its key.
        correlation_id: The id that its answer repeats.
        reply_to: The mailbox for its answer.
        state: ``delayed``, ``waiting`` (for a consumer group), ``fetched`` (leased to a consumer),
            ``acked`` or ``moved`` (to another mailbox, such as that of dead letters).
        until: When the lease of a fetched message ends, in Unix seconds.
        deliveries: How often it was delivered to the group, if it is waiting or fetched.
        moved_to: The mailbox that it was moved to, if the client may look at the mailbox of the
            message.
        answer_by: The deadline for the answer, in Unix seconds.
        promise: The promise of the group's last holder, without its name.
        answer: The first good answer by another sender, else the first error answer. None if there
            is none yet, or the client may not look at the mailbox ``reply_to``.
    """

    mail_address: str
    msg_id: int | None = None
    delayed_id: int | None = None
    due: float | None = None
    sent: float
    priority: Priority
    key: str | None = None
    correlation_id: str
    reply_to: str | None = None
    state: str
    until: float | None = None
    deliveries: int = 0
    moved_to: str | None = None
    answer_by: int | None = None
    promise: Promise | None = None
    answer: SentAnswer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SentPage:
    """A page of sent messages.

    Attributes:
        sent: The messages, newest first.
        more: The argument ``before`` of the next page. None on the last page.
    """

    sent: tuple[Sent, ...]
    more: str | None = None
