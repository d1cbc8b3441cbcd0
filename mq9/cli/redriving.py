"""Moves dead letters back to their mailboxes, for ``mq9 redrive`` and the desk."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass

from mq9.client.client import Mq9Client
from mq9.errors import Forbidden, MailboxFull, MailboxNotFound, MessageNotFound, Mq9Error
from mq9.models import Message
from mq9.protocol.reserved import REDRIVE_GROUP

# All redrives share a group, which acks each moved message, so that none is moved twice. They share
# a consumer, so that a redrive gets the leases of an interrupted one at once.
_GROUP = _CONSUMER = REDRIVE_GROUP
_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Redriven:
    """The outcome for one dead letter.

    Attributes:
        msg_id: Its number in the dead-letter mailbox.
        to: The target mailbox. None: unknown.
        moved_as: Its number there. None: it was not moved.
        left: The reason why it stays. None: it does not.
    """

    msg_id: int
    to: str | None = None
    moved_as: int | None = None
    left: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A choice of dead letters to redrive.

    Attributes:
        ids: Only the messages with these numbers; None for any.
        fits: Only messages for which this returns true.
        limit: The most messages to move. None: all.
    """

    ids: Collection[int] | None = None
    fits: Callable[[Message], bool] = lambda _: True
    limit: int | None = None


ALL = Choice()


async def redrive(
    client: Mq9Client,
    mail_address: str,
    choice: Choice = ALL,
    *,
    to: str | None = None,
    is_dry_run: bool = False,
    report: Callable[[Redriven], None],
    notice: Callable[[str], None],
) -> None:
    """Move dead letters back, by priority.

    Args:
        client: The client that sends the requests.
        mail_address: The dead-letter mailbox.
        choice: The messages to move. Default: all.
        to: The target mailbox. Default: the one that each message came from.
        is_dry_run: Report what would be moved, and move nothing.
        report: Called with each outcome, as soon as it is known.
        notice: Called with a sentence if the others cannot be redriven again at once.
    """
    work = _Redrive(client, mail_address, to, is_dry_run=is_dry_run)
    missing = None if choice.ids is None else set(choice.ids)
    moved = 0
    try:
        while batch := await work.fetch(min(choice.limit or _AT_ONCE, _AT_ONCE)):
            for message in batch:
                is_chosen = missing is None or message.msg_id in missing
                if is_chosen and choice.fits(message):
                    outcome = await work.redrive(message)
                    if outcome is not None:
                        report(outcome)
                        moved += outcome.left is None
                if missing is not None:
                    missing.discard(message.msg_id)
                if moved == choice.limit or missing == set():
                    return
    finally:
        await work.give_back(notice)


class _Redrive:
    """A dead-letter mailbox, and the messages leased from it."""

    def __init__(
        self, client: Mq9Client, mail_address: str, target: str | None, *, is_dry_run: bool
    ) -> None:
        self._client = client
        self._address = mail_address
        self._target = target
        self._is_dry_run = is_dry_run
        self._held: dict[int, Message] = {}

    async def fetch(self, num_msgs: int) -> list[Message]:
        """Lease up to this many more messages; none if there are no more."""
        fetched = await self._client.fetch(
            self._address,
            group_name=_GROUP,
            deliver="earliest",
            num_msgs=num_msgs,
            max_wait_ms=0,
            redeliver_own=not self._held,
            consumer=_CONSUMER,
        )
        new = [message for message in fetched if message.msg_id not in self._held]
        self._held |= {message.msg_id: message for message in new}
        return new

    async def give_back(self, notice: Callable[[str], None]) -> None:
        """Give back the leased messages that were not moved."""
        for message in self._held.values():
            try:
                await self._client.nack(
                    self._address, _GROUP, message.msg_id, batch=message.batch, consumer=_CONSUMER
                )
            except Mq9Error as error:
                notice(f"the messages that were not moved can be redriven in a minute: {error}")
                return

    async def redrive(self, message: Message) -> Redriven | None:
        """Move one message; None if somebody else has moved it."""
        target = self._target or (None if message.moved is None else message.moved.mailbox)
        if target is None:
            why = "its first mailbox is unknown: name a target with --to"
            return Redriven(msg_id=message.msg_id, left=why)
        if self._is_dry_run:
            return Redriven(msg_id=message.msg_id, to=target)
        try:
            moved = await self._client.move(
                self._address,
                _GROUP,
                message.msg_id,
                to=target,
                reason="redriven",
                batch=message.batch,
                consumer=_CONSUMER,
            )
        except (Forbidden, MailboxNotFound, MailboxFull) as error:
            return Redriven(msg_id=message.msg_id, to=target, left=str(error))
        del self._held[message.msg_id]
        if moved is None:
            return None
        with suppress(MessageNotFound):
            await self._client.delete(self._address, message.msg_id)
        return Redriven(msg_id=message.msg_id, to=target, moved_as=moved)
