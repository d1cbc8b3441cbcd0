"""What waits for an agent, found out without taking anything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mq9.errors import MailboxNotFound
from mq9.models import Message, Unread
from mq9.operations.caller import Caller

_MOST_LOOKED_AT = 10  # messages of a mailbox, the newest
_LOOK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in one mailbox.

    Attributes:
        mail_address: The mailbox.
        unread: How much can be delivered now.
        is_all: Whether that is everything that is stored there.
    """

    mail_address: str
    unread: Unread
    is_all: bool


async def waiting_for(caller: Caller) -> list[Waiting]:
    """Return what waits for an agent, in the thread that calls and in its own mailbox.

    Raises:
        InvalidRequest: The tools belong to no agent.
        Mq9Error: The broker cannot tell.
    """
    group = caller.require_identity().mail_address
    found = []
    for address in caller.inboxes:
        try:
            status = await caller.client.mailbox_status(address, group_name=group)
        except MailboxNotFound:
            continue
        if status.group is not None:
            pending = status.group.pending
            found.append(Waiting(address, pending, pending.total == status.stored))
    return found


async def unread_of(caller: Caller) -> Unread:
    """Return how much waits for an agent, in the thread that calls and in its own mailbox.

    Raises:
        InvalidRequest: The tools belong to no agent.
        Mq9Error: The broker cannot tell.
    """
    return total(await waiting_for(caller))


def total(waiting: Iterable[Waiting]) -> Unread:
    """Return how much waits in some mailboxes together."""
    found = [one.unread for one in waiting]
    return Unread(
        critical=sum(one.critical for one in found),
        urgent=sum(one.urgent for one in found),
        normal=sum(one.normal for one in found),
    )


async def senders_of(caller: Caller, waiting: Waiting) -> list[str]:
    """Return who sent the newest of what waits in a mailbox, the latest first.

    Raises:
        Mq9Error: The broker cannot tell.
    """
    if not waiting.unread.total:
        return []
    newest = await caller.client.query(
        waiting.mail_address, limit=_MOST_LOOKED_AT, max_bytes=_LOOK_BYTES
    )
    senders: dict[str, None] = {}
    for message in reversed(newest):
        if message.sender is not None and (waiting.is_all or await _waits(caller, message)):
            senders[message.sender] = None
    return list(senders)


async def _waits(caller: Caller, message: Message) -> bool:
    """Tell whether a message can be delivered to the agent now."""
    group = caller.require_identity().mail_address
    status = await caller.client.mailbox_status(
        message.mail_address, group_name=group, msg_id=message.msg_id
    )
    standings = () if status.message is None else status.message.groups
    return any(one.group_name == group and one.state == "pending" for one in standings)
