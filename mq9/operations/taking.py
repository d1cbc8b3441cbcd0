"""Leases messages to a caller: of one mailbox, or of the first of two in which there are some."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from mq9.errors import MailboxNotFound, MessageNotFound
from mq9.models import Deliver, FetchResult
from mq9.operations.caller import Caller
from mq9.operations.deliveries import Delivery
from mq9.operations.private_mailbox import PrivateMailbox


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller wants to have, wherever it is.

    Attributes:
        group_name: The consumer group; None for the caller's own.
        num_msgs: How many messages at the most.
        max_bytes: How large they may be together; one always fits.
        wait_ms: How long to wait for a first one, in milliseconds.
        redeliver_own: Whether what the caller holds already comes again.
    """

    group_name: str | None
    num_msgs: int
    max_bytes: int
    wait_ms: int
    redeliver_own: bool


@dataclass(frozen=True, slots=True)
class Taken:
    """What was leased to a caller.

    Attributes:
        delivery: Where it came from.
        fetched: The messages, and what the broker said with them.
        is_news: Whether the caller is not known to have fetched one of them before.
    """

    delivery: Delivery
    fetched: FetchResult
    is_news: bool


async def take(caller: Caller, mail_address: str, wanted: Wanted) -> Taken:
    """Lease messages of a mailbox to a caller."""
    group = caller.group_to_use(wanted.group_name, mail_address)
    fetched = await caller.client.fetch(
        mail_address,
        group_name=group,
        deliver=Deliver.EARLIEST,
        num_msgs=wanted.num_msgs,
        max_wait_ms=wanted.wait_ms,
        lease_ms=caller.lease_ms,
        max_bytes=wanted.max_bytes,
        redeliver_own=wanted.redeliver_own,
        consumer=caller.consumer,
    )
    ids = tuple(message.msg_id for message in fetched)
    delivery = Delivery(mail_address, group, caller.consumer, fetched.batch, ids)
    return Taken(delivery, fetched, _is_news(caller, delivery))


async def take_from_either(
    caller: Caller, private: PrivateMailbox, own: str, wanted: Wanted
) -> Taken:
    """Lease messages of a thread's private mailbox to it, or else of its agent's own.

    What it holds already in one keeps it from nothing that is new in the other. While both are
    empty it waits for either. When this is cancelled, nothing is leased by it.

    Args:
        caller: The thread.
        private: Its private mailbox, which need not exist.
        own: The agent's mailbox.
        wanted: What to lease.

    Returns:
        Messages of one of them; when there are none, what the broker said of the agent's own.
    """
    at_once = replace(wanted, wait_ms=0)
    try:
        answers = await take(caller, private.mail_address, at_once)
    except MailboxNotFound:
        private.forget()
        return await take(caller, own, wanted)
    await private.ensure(caller.client)
    if answers.is_news:
        return answers
    mail = await take(caller, own, at_once)
    if answers.fetched and not mail.is_news:
        return answers
    if mail.fetched or wanted.wait_ms == 0:
        return mail
    return await _wait_for_either(caller, private, own, wanted)


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
            elif mail in done and mail.result().fetched:
                chosen = mail
    finally:
        await _undo(caller, [one for one in (answers, mail) if one is not chosen])
    return mail.result() if chosen is None else chosen.result()


def _has_answers(wait: asyncio.Task[Taken], private: PrivateMailbox) -> bool:
    try:
        return bool(wait.result().fetched)
    except MailboxNotFound:  # it expired meanwhile
        private.forget()
        return False


async def _undo(caller: Caller, waits: Sequence[asyncio.Task[Taken]]) -> None:
    """End waits, and give back what one has leased all the same."""
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


def _is_news(caller: Caller, delivery: Delivery) -> bool:
    place = delivery.mail_address, delivery.group_name
    return any(
        all(place != (one.mail_address, one.group_name) for one in caller.deliveries.find(msg_id))
        for msg_id in delivery.msg_ids
    )
