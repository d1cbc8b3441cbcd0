"""``mq9 redrive``: moves dead letters back to where they came from."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import typer

from mq9 import address as addresses
from mq9.cli.output import count
from mq9.cli.program import CommandCall
from mq9.client.client import Mq9Client
from mq9.errors import InvalidRequest, MailboxFull, MailboxNotFound, MessageNotFound, Mq9Error
from mq9.models import Message
from mq9.protocol.reserved import REDRIVE_GROUP

# One group for every redrive: it acks what it has moved, so that nothing is moved twice. One
# consumer, so that a redrive gets at once what an interrupted one was holding.
GROUP = CONSUMER = REDRIVE_GROUP
_AT_ONCE = 100


async def redrive(
    call: CommandCall,
    *,
    address: str = typer.Argument(..., help="The dead-letter mailbox.", callback=addresses.parse),
    to: str | None = typer.Option(
        None, help="Move to this mailbox.  [default: where each message came from]"
    ),
    limit: int | None = typer.Option(None, min=1, help="Move so many at the most.  [default: all]"),
    msg_id: int | None = typer.Option(None, min=0, help="Move only this message."),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Say what would be moved, and move nothing."
    ),
) -> int:
    """Move dead letters back to the mailboxes they came from, the most pressing first."""
    target = None if to is None else addresses.parse(to)
    if target == address:
        raise InvalidRequest(f"to: {address} is the mailbox itself")
    async with call.client() as client:
        work = _Redrive(call, client, address, target, is_dry_run=dry_run)
        try:
            while batch := await work.fetch(_AT_ONCE if limit is None else min(limit, _AT_ONCE)):
                for message in batch:
                    if msg_id is None or message.msg_id == msg_id:
                        await work.redrive(message)
                    if len(work.moved) == limit or message.msg_id == msg_id:
                        return work.summary()
        finally:
            await work.give_back()
    return work.summary()


class _Redrive:
    """A dead-letter mailbox, the messages leased from it, and what became of them."""

    def __init__(
        self,
        call: CommandCall,
        client: Mq9Client,
        address: str,
        target: str | None,
        *,
        is_dry_run: bool,
    ) -> None:
        self._call = call
        self._client = client
        self._address = address
        self._target = target
        self._is_dry_run = is_dry_run
        self._held: dict[int, Message] = {}
        self.moved: list[dict[str, Any]] = []
        self._left: list[dict[str, Any]] = []

    async def fetch(self, num_msgs: int) -> list[Message]:
        """Lease so many more messages; none when there are no more."""
        fetched = await self._client.fetch(
            self._address,
            group_name=GROUP,
            deliver="earliest",
            num_msgs=num_msgs,
            max_wait_ms=0,
            redeliver_own=not self._held,
            consumer=CONSUMER,
        )
        new = [message for message in fetched if message.msg_id not in self._held]
        self._held |= {message.msg_id: message for message in new}
        return new

    async def give_back(self) -> None:
        """Let others have what was leased and not moved."""
        for message in self._held.values():
            try:
                await self._client.nack(
                    self._address, GROUP, message.msg_id, batch=message.batch, consumer=CONSUMER
                )
            except Mq9Error as error:
                self._call.out.notice(
                    f"what was not moved can be redriven again in a minute: {error}"
                )
                return

    async def redrive(self, message: Message) -> None:
        """Move one message, or say why it stays."""
        target = self._target or (None if message.moved is None else message.moved.mailbox)
        if target is None:
            self._leave(message, "it does not say where it came from: name a mailbox with --to")
            return
        document: dict[str, Any] = {"msg_id": message.msg_id, "to": target}
        if self._is_dry_run:
            self.moved.append(document)
            self._call.out.say(f"would move message {message.msg_id} to {target}")
            return
        try:
            moved = await self._client.move(
                self._address,
                GROUP,
                message.msg_id,
                to=target,
                reason="redriven",
                batch=message.batch,
                consumer=CONSUMER,
            )
        except (MailboxNotFound, MailboxFull) as error:
            self._leave(message, str(error))
            return
        del self._held[message.msg_id]
        if moved is not None:  # else somebody else has moved it
            self.moved.append({**document, "moved_as": moved})
            self._call.out.say(f"moved message {message.msg_id} to {target}, as message {moved}")
            with suppress(MessageNotFound):
                await self._client.delete(self._address, message.msg_id)

    def _leave(self, message: Message, reason: str) -> None:
        self._left.append({"msg_id": message.msg_id, "reason": reason})
        self._call.out.say(f"left message {message.msg_id}: {reason}")

    def summary(self) -> int:
        """Print the result; return the exit code."""
        document = {
            "mail_address": self._address,
            "dry_run": self._is_dry_run,
            "moved": self.moved,
            "left": self._left,
        }
        if not self.moved and not self._left:
            return self._call.nothing(document, "nothing to redrive")
        done = "would be moved" if self._is_dry_run else "moved"
        told = f"{count(len(self.moved), 'message')} {done}"
        self._call.out.show(document, f"{told}, {len(self._left)} left" if self._left else told)
        return 1 if self._left else 0
