"""Leases messages to a caller: new ones, and those that it holds already."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from mq9.errors import MailboxNotFound, MessageNotFound
from mq9.models import Deliver, FetchResult, Held, Message
from mq9.operations.caller import Caller, PrivateMailbox
from mq9.operations.leases import FetchedFrom, is_of

_LINGER_MS = 500  # after the first message, so that urgent ones come first


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options of a fetch, from whichever mailbox."""

    group_name: str | None
    num_msgs: int
    min_msgs: int  # for which it waits
    max_bytes: int  # one message always fits
    wait_ms: int
    include_held: bool

    @property
    def at_once(self) -> Wanted:
        """The same without a wait."""
        return replace(self, wait_ms=0)


@dataclass(frozen=True, slots=True)
class Taken:
    """Messages leased to a caller: now, and before."""

    delivery: FetchedFrom
    fetched: FetchResult
    again: list[Message]
    held: list[tuple[str, Held]]  # further messages of the caller, with the mailbox

    def __bool__(self) -> bool:
        return bool(self.fetched or self.again)


async def take(caller: Caller, mail_address: str, wanted: Wanted) -> Taken:
    """Lease messages of a mailbox to a caller.

    Messages that it holds are returned again if it requests that, or if it may not have seen them:
    after a restart, after a cancelled call, and for a repeated call.
    """
    group = caller.group_to_use(wanted.group_name, mail_address)
    fetched = await caller.client.fetch(
        mail_address,
        group_name=group,
        deliver=Deliver.EARLIEST,
        num_msgs=wanted.num_msgs,
        min_msgs=wanted.min_msgs,
        max_wait_ms=wanted.wait_ms,
        linger_ms=_LINGER_MS if wanted.wait_ms else 0,
        lease_ms=caller.lease_ms,
        max_bytes=wanted.max_bytes,
        redeliver_own=False,
        list_held=True,
        consumer=caller.consumer,
    )
    ids = tuple(message.msg_id for message in fetched)
    delivery = FetchedFrom(mail_address, group, caller.consumer, fetched.batch, ids, caller.call_id)
    held = [one for one in fetched.held or () if is_of(one.consumer, caller.consumer)]
    wanted_again = [
        one
        for one in held
        if wanted.include_held or not caller.deliveries.is_shown(delivery, one.msg_id)
    ]
    again = await _again(caller, delivery, wanted_again[: wanted.num_msgs - len(fetched)])
    given = {message.msg_id for message in again}
    rest = [(mail_address, one) for one in held if one.msg_id not in given]
    return Taken(delivery, fetched, again, rest)


async def _again(caller: Caller, delivery: FetchedFrom, held: Sequence[Held]) -> list[Message]:
    """Read the stored messages that the caller holds."""
    address, group = delivery.mail_address, delivery.group_name
    found = await asyncio.gather(
        *(caller.client.query(address, msg_id=one.msg_id, limit=1) for one in held)
    )
    now_ms = caller.client.clock.now_ms()
    messages = []
    for one, stored in zip(held, found, strict=True):
        known = caller.deliveries.find(one.msg_id)
        if (address, group) not in {(each.mail_address, each.group_name) for each in known}:
            lost = FetchedFrom(address, group, one.consumer, None, (one.msg_id,), delivery.call_id)
            caller.deliveries.remember(lost)
            if caller.leases is not None:
                caller.leases.fetched(lost, max(0, round(one.until * 1000) - now_ms))
        messages += [
            replace(message, delivery_count=one.deliveries, group_name=group) for message in stored
        ]
    return messages


async def take_from(caller: Caller, mail_address: str, wanted: Wanted) -> Taken:
    """Lease messages of one mailbox, and wait only where too few are there for the caller."""
    if wanted.min_msgs == 1 or wanted.wait_ms == 0:
        taken = await take(caller, mail_address, wanted.at_once)
        if taken or wanted.wait_ms == 0:
            return taken
    return await take(caller, mail_address, wanted)


async def take_from_either(
    caller: Caller, private: PrivateMailbox, own: str, wanted: Wanted
) -> Taken:
    """Lease messages of a thread's private mailbox to it, or else of its agent's own.

    While both are empty it waits for either. When this is cancelled, nothing stays leased.
    """
    if wanted.min_msgs > 1 and wanted.wait_ms:
        await private.ensure(caller.client)
        return await _wait_for_either(caller, private, own, wanted)
    try:
        answers = await take(caller, private.mail_address, wanted.at_once)
    except MailboxNotFound:
        private.forget()
        return await take_from(caller, own, wanted)
    await private.ensure(caller.client)
    if answers:
        return answers
    mail = await take(caller, own, wanted.at_once)
    if not mail and wanted.wait_ms:
        mail = await _wait_for_either(caller, private, own, wanted)
    held = [one for one in answers.held if one not in mail.held]
    return replace(mail, held=[*held, *mail.held])


async def _wait_for_either(
    caller: Caller, private: PrivateMailbox, own: str, wanted: Wanted
) -> Taken:
    answers = asyncio.create_task(take(caller, private.mail_address, wanted))
    mail = asyncio.create_task(take(caller, own, wanted))
    waiting = {answers, mail}
    chosen: asyncio.Task[Taken] | None = None
    try:
        while waiting and chosen is None:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if answers in done and _has_answers(answers, private):
                chosen = answers
            elif mail in done and mail.result():
                chosen = mail
    finally:
        await _undo(caller, [one for one in (answers, mail) if one is not chosen])
    return mail.result() if chosen is None else chosen.result()


def _has_answers(wait: asyncio.Task[Taken], private: PrivateMailbox) -> bool:
    try:
        return bool(wait.result())
    except MailboxNotFound:  # it expired meanwhile
        private.forget()
        return False


async def _undo(caller: Caller, waits: Sequence[asyncio.Task[Taken]]) -> None:
    """End waits, and give back what one of them has leased."""
    for wait in waits:
        wait.cancel()
    await asyncio.wait(waits)
    for wait in waits:
        if wait.cancelled() or wait.exception() is not None:
            continue
        delivery = wait.result().delivery
        for msg_id in delivery.msg_ids if delivery.batch is not None else ():
            with suppress(MessageNotFound):  # it has expired
                await caller.client.nack(
                    delivery.mail_address,
                    delivery.group_name,
                    msg_id,
                    batch=delivery.batch,
                    consumer=delivery.consumer,
                )
