"""``mq9 redrive``: moves dead letters back to where they came from."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from mq9 import address as addresses
from mq9.cli.output import count
from mq9.cli.program import NOTHING_THERE, Call
from mq9.client.client import Mq9Client
from mq9.errors import (
    InvalidRequest,
    MailboxFull,
    MailboxNotFound,
    MessageNotFound,
    Mq9Error,
)
from mq9.models import Message
from mq9.protocol.reserved import REDRIVE_GROUP

# One group for every redrive: it acks what it has moved, so that nothing is moved twice. One
# consumer, so that a redrive gets at once what an interrupted one was holding.
GROUP = CONSUMER = REDRIVE_GROUP
_AT_ONCE = 100


@dataclass(slots=True)
class _Report:
    """What a redrive did, or would do."""

    moved: list[dict[str, Any]] = field(default_factory=list)
    left: list[dict[str, Any]] = field(default_factory=list)


async def redrive(
    call: Call,
    *,
    address: Annotated[str, typer.Argument(help="The dead-letter mailbox.")],
    to: Annotated[
        str | None,
        typer.Option(help="Move to this mailbox.  [default: where each message came from]"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Move so many at the most.  [default: all]")
    ] = None,
    msg_id: Annotated[int | None, typer.Option(min=0, help="Move only this message.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be moved, and move nothing.")
    ] = False,
) -> int:
    """Move dead letters back to the mailboxes they came from, the most pressing first."""
    address = addresses.parse(address)
    target = None if to is None else addresses.parse(to)
    if target == address:
        raise InvalidRequest(f"to: {address} is the mailbox itself")
    report = _Report()
    async with call.client() as client:
        leases = _Leases(client, address)
        try:
            while batch := await leases.fetch(_AT_ONCE if limit is None else min(limit, _AT_ONCE)):
                for message in batch:
                    if msg_id is None or message.msg_id == msg_id:
                        await _redrive(call, leases, message, target, report, dry_run=dry_run)
                    if len(report.moved) == limit or message.msg_id == msg_id:
                        return _summary(call, address, report, dry_run=dry_run)
        finally:
            await leases.give_back(call)
    return _summary(call, address, report, dry_run=dry_run)


class _Leases:
    """What is leased from a dead-letter mailbox while it is redriven."""

    def __init__(self, client: Mq9Client, address: str) -> None:
        self._client = client
        self._address = address
        self._held: dict[int, Message] = {}

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

    async def move(self, message: Message, to: str) -> int | None:
        """Move a message; its new id, or None if somebody else did. Raises Mq9Error."""
        moved = await self._client.move(
            self._address,
            GROUP,
            message.msg_id,
            to=to,
            reason="redriven",
            batch=message.batch,
            consumer=CONSUMER,
        )
        del self._held[message.msg_id]
        return moved

    async def remove(self, message: Message) -> None:
        """Remove a message that has been moved. Raises Mq9Error; acked, it is not moved again."""
        with suppress(MessageNotFound):
            await self._client.delete(self._address, message.msg_id)

    async def give_back(self, call: Call) -> None:
        """Let others have what was leased and not moved."""
        for message in self._held.values():
            try:
                await self._client.nack(
                    self._address,
                    GROUP,
                    message.msg_id,
                    batch=message.batch,
                    consumer=CONSUMER,
                )
            except Mq9Error as error:
                call.out.notice(f"what was not moved can be redriven again in a minute: {error}")
                return


async def _redrive(
    call: Call,
    leases: _Leases,
    message: Message,
    to: str | None,
    report: _Report,
    *,
    dry_run: bool,
) -> None:
    """Move one message, or say why it stays."""
    target = to or (None if message.moved is None else message.moved.mailbox)
    if target is None:
        _leave(
            call, report, message, "it does not say where it came from: name a mailbox with --to"
        )
        return
    document: dict[str, Any] = {"msg_id": message.msg_id, "to": target}
    if dry_run:
        report.moved.append(document)
        _say(call, f"would move message {message.msg_id} to {target}")
        return
    try:
        moved = await leases.move(message, target)
    except (MailboxNotFound, MailboxFull) as error:
        _leave(call, report, message, str(error))
        return
    if moved is not None:
        report.moved.append({**document, "moved_as": moved})
        _say(call, f"moved message {message.msg_id} to {target}, as message {moved}")
        await leases.remove(message)


def _leave(call: Call, report: _Report, message: Message, reason: str) -> None:
    report.left.append({"msg_id": message.msg_id, "reason": reason})
    _say(call, f"left message {message.msg_id}: {reason}")


def _say(call: Call, line: str) -> None:
    """Tell people at once what was done, in case what follows fails."""
    if not call.out.as_json:
        call.out.show({}, line)


def _summary(call: Call, address: str, report: _Report, *, dry_run: bool) -> int:
    document = {
        "mail_address": address,
        "dry_run": dry_run,
        "moved": report.moved,
        "left": report.left,
    }
    done = "would be moved" if dry_run else "moved"
    if not report.moved and not report.left:
        call.out.show(document)
        call.out.notice("nothing to redrive")
        return NOTHING_THERE
    told = f"{count(len(report.moved), 'message')} {done}"
    call.out.show(document, f"{told}, {len(report.left)} left" if report.left else told)
    return 1 if report.left else 0
