"""``mq9 create``, ``drop``, ``mailboxes`` and ``status``."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated

import typer

from mq9 import address as addresses
from mq9.cli.call import NOTHING_THERE, Call
from mq9.cli.messages import Address
from mq9.cli.output import Table, count, quoted, span, when
from mq9.errors import InvalidRequest
from mq9.models import GroupStatus, MailboxStatus, MailboxType


async def create(
    call: Call,
    *,
    name: Annotated[
        str | None, typer.Argument(help="Its address; without it, one that nobody can guess.")
    ] = None,
    ttl: Annotated[
        int, typer.Option(min=0, help="Seconds until it is removed with all its mail; 0: never.")
    ] = 0,
    desc: Annotated[str, typer.Option(help="What it is for.")] = "",
    public: Annotated[
        bool, typer.Option("--public", help="Let `mq9 mailboxes` name it to anybody.")
    ] = False,
    renew: Annotated[
        bool, typer.Option("--renew", help="Fine if it exists; its TTL starts again.")
    ] = False,
    prefix: Annotated[str | None, typer.Option(help="What a made-up address starts with.")] = None,
    latest: Annotated[
        bool, typer.Option("--latest", help="Keep the newest message only, whoever sends it.")
    ] = False,
) -> int:
    """Create a mailbox and print its address."""
    async with call.client() as client:
        address = await client.mailbox_create(
            name=name,
            ttl=ttl,
            desc=desc,
            public=public,
            prefix=prefix,
            renew=renew,
            type=MailboxType.LATEST if latest else MailboxType.STANDARD,
        )
    call.warn_of_memory()
    call.out.show({"mail_address": address}, address)
    return 0


async def drop(
    call: Call,
    *,
    address: Address,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> int:
    """Remove a mailbox with all that is in it, after asking."""
    address = addresses.parse(address)
    async with call.client() as client:
        if not yes:
            status = await client.mailbox_status(address)
            if sys.stdin is None or not sys.stdin.isatty():
                raise InvalidRequest("drop: there is nobody to ask whether to; say --yes")
            mail = count(status.stored + status.delayed, "message")
            typer.confirm(f"Drop {status.mail_address} with {mail}?", abort=True, err=True)
        await client.mailbox_drop(address)
    call.out.show({"mail_address": address, "dropped": True}, f"dropped {address}")
    return 0


async def mailboxes(call: Call) -> int:
    """List the public mailboxes; all others are known only to whom they were told."""
    async with call.client() as client:
        found = await client.mailbox_list()
    document = {"mailboxes": [dataclasses.asdict(one) for one in found]}
    if not found:
        call.out.show(document)
        call.out.notice("there are no public mailboxes")
        return NOTHING_THERE
    rows = [(one.mail_address, one.desc) for one in found]
    call.out.show(document, Table(("ADDRESS", "DESCRIPTION"), rows))
    return 0


async def status(
    call: Call,
    *,
    address: Address,
    group: Annotated[str | None, typer.Option(help="A consumer group to describe as well.")] = None,
) -> int:
    """Describe a mailbox, and where a consumer group stands, without changing anything."""
    address = addresses.parse(address)
    async with call.client() as client:
        found = await client.mailbox_status(address, group_name=group)
        now = client.clock.now_ms() / 1000
    document = dataclasses.asdict(found)
    del document["message"]
    rows = _mailbox(found, now)
    if found.group is not None:
        rows += _group(found.group, now)
    call.out.show(document, Table(("WHAT", "STATE"), rows))
    return 0


def _mailbox(status: MailboxStatus, now: float) -> list[tuple[str, str]]:
    rows = [("mailbox", status.mail_address)]
    if status.desc:
        rows.append(("description", status.desc))
    if status.type is MailboxType.LATEST:
        rows.append(("keeps", "the newest message only"))
    rows.append(("listed", "yes, it is public" if status.public else "no"))
    expiry = "never" if status.expires_at is None else _in(status.expires_at, now)
    size = f"{status.stored_bytes:,} bytes"
    rows += [("expires", expiry), ("stored", f"{count(status.stored, 'message')}, {size}")]
    delayed = str(status.delayed)
    if status.next_due is not None:
        delayed += f", the next due {_in(status.next_due, now)}"
    return [*rows, ("delayed", delayed)]


def _group(group: GroupStatus, now: float) -> list[tuple[str, str]]:
    name = quoted(group.group_name)
    waiting = group.pending
    pending = (
        f"{waiting.total} ({waiting.critical} critical, {waiting.urgent} urgent,"
        f" {waiting.normal} normal)"
    )
    if not group.exists:
        return [("group", f"{name} does not exist here yet"), ("it would see", pending)]
    rows = [("group", name), ("pending", pending)]
    for lease in group.leased:
        until = _in(lease.until, now)
        rows.append(
            ("given back", f"{lease.count}, to be had again {until}")
            if lease.consumer is None
            else ("leased", f"{lease.count} to {quoted(lease.consumer)} until {until}")
        )
    return [*rows, ("acked", str(group.acked))]


def _in(instant: float, now: float) -> str:
    return f"{when(instant)} (in {span(instant - now)})"
