"""``mq9 redrive``: move dead letters back to their mailboxes."""

from __future__ import annotations

from typing import Any

import typer

from mq9 import address as addresses
from mq9.cli.output import count
from mq9.cli.program import CommandCall
from mq9.cli.redriving import Choice, Redriven
from mq9.cli.redriving import redrive as move_back
from mq9.errors import InvalidRequest


async def redrive(
    call: CommandCall,
    *,
    address: str = typer.Argument(..., help="The dead-letter mailbox.", callback=addresses.parse),
    to: str | None = typer.Option(
        None, help="Target mailbox.  [default: where each message came from]"
    ),
    limit: int | None = typer.Option(None, min=1, help="Most messages.  [default: all]"),
    msg_id: int | None = typer.Option(None, min=0, help="Move only this message."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show the plan, and move nothing."),
) -> int:
    """Move dead letters back to their mailboxes."""
    target = None if to is None else addresses.parse(to)
    if target == address:
        raise InvalidRequest(f"to: {address} is the mailbox itself")
    moved: list[dict[str, Any]] = []
    left: list[dict[str, Any]] = []

    def report(one: Redriven) -> None:
        if one.left is not None:
            left.append({"msg_id": one.msg_id, "reason": one.left})
            call.out.say(f"left message {one.msg_id}: {one.left}")
        elif one.moved_as is None:
            moved.append({"msg_id": one.msg_id, "to": one.to})
            call.out.say(f"would move message {one.msg_id} to {one.to}")
        else:
            moved.append({"msg_id": one.msg_id, "to": one.to, "moved_as": one.moved_as})
            call.out.say(f"moved message {one.msg_id} to {one.to}, as message {one.moved_as}")

    choice = Choice(ids=None if msg_id is None else {msg_id}, limit=limit)
    async with call.client() as client:
        await move_back(
            client,
            address,
            choice,
            to=target,
            is_dry_run=dry_run,
            report=report,
            notice=call.out.notice,
        )
    document = {"mail_address": address, "dry_run": dry_run, "moved": moved, "left": left}
    if not moved and not left:
        if msg_id is not None:
            return call.nothing(document, f"{address} has no message {msg_id}")
        return call.empty(document, f"{address} has no messages to move")
    done = "would be moved" if dry_run else "moved"
    text = f"{count(len(moved), 'message')} {done}"
    call.out.show(document, f"{text}, {len(left)} left" if left else text)
    return 1 if left else 0
