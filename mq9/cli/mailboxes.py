"""``mq9 create``, ``grant``, ``drop``, ``mailboxes`` and ``status``."""

from __future__ import annotations

import dataclasses
import sys

import typer

from mq9.cli.output import Table, count, moment, quoted, short
from mq9.cli.program import Address, CommandCall
from mq9.clock import sleep
from mq9.errors import InvalidRequest
from mq9.models import Granted, GroupStatus, LookPolicy, MailboxStatus, MailboxType, SendPolicy

_WATCH_S = 1.0  # between two requests
_WHO_MAY_SEND = "Who may send to it."
_WHO_MAY_LOOK = "Who may look into it."
_SENDERS = {
    SendPolicy.EVERYONE: "everyone",
    SendPolicy.GRANTED: "its creator, its readers and its senders",
    SendPolicy.CREATOR: "its creator only",
}
_LOOKERS = {
    LookPolicy.GRANTED: "its creator, its readers and its viewers",
    LookPolicy.EVERYONE: "all agents",
}


async def create(
    call: CommandCall,
    *,
    name: str | None = typer.Argument(None, help="Its address.  [default: a random one]"),
    ttl: int = typer.Option(0, min=0, help="Lifetime of the mailbox and its mail. 0: for ever."),
    desc: str = typer.Option("", help="Its description."),
    public: bool = typer.Option(False, "--public", help="List it in `mq9 mailboxes`."),
    renew: bool = typer.Option(False, "--renew", help="If it exists, keep it and restart its TTL."),
    prefix: str | None = typer.Option(None, help="Beginning of a generated address."),
    latest: bool = typer.Option(False, "--latest", help="Keep only the newest message."),
    send_policy: SendPolicy = typer.Option(SendPolicy.EVERYONE, help=_WHO_MAY_SEND),
    look_policy: LookPolicy = typer.Option(LookPolicy.GRANTED, help=_WHO_MAY_LOOK),
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
            send_policy=send_policy,
            look_policy=look_policy,
        )
        document: dict[str, object] = {"mail_address": address}
        if (send_policy, look_policy) != (SendPolicy.EVERYONE, LookPolicy.GRANTED):
            found = await client.mailbox_status(address)
            document |= _policies(found) | {"enforced": found.enforced}
            for policy, wanted in (("send", send_policy), ("look", look_policy)):
                kept = document[f"{policy}_policy"]
                if kept != wanted.value:
                    call.out.notice(
                        f"{address} exists and keeps the {policy} policy {kept}. Change it:"
                        f" mq9 grant {address} --{policy}-policy {wanted}"
                    )
            _warn_of_strangers(call, found.enforced)
    call.warn_of_memory()
    call.out.show(document, address)
    return 0


def _policies(found: MailboxStatus | Granted) -> dict[str, object]:
    return {"send_policy": found.send_policy.value, "look_policy": found.look_policy.value}


def _warn_of_strangers(call: CommandCall, enforced: bool) -> None:
    """Warn that a broker without authentication enforces no policy."""
    if not enforced:
        call.out.warn(
            "stored, but not enforced: this broker cannot tell who sends or reads. Start it with"
            " users: mq9 serve --users FILE"
        )


async def grant(
    call: CommandCall,
    *,
    address: Address,
    reader: list[str] | None = typer.Option(
        None, metavar="AGENT", help="May look and take. Repeatable."
    ),
    viewer: list[str] | None = typer.Option(
        None, metavar="AGENT", help="May only look. Repeatable."
    ),
    sender: list[str] | None = typer.Option(
        None, metavar="AGENT", help="May send if the policy is granted. Repeatable."
    ),
    no_readers: bool = typer.Option(False, "--no-readers", help="Remove all readers."),
    no_viewers: bool = typer.Option(False, "--no-viewers", help="Remove all viewers."),
    no_senders: bool = typer.Option(False, "--no-senders", help="Remove all senders."),
    send_policy: SendPolicy | None = typer.Option(None, help=_WHO_MAY_SEND),
    look_policy: LookPolicy | None = typer.Option(None, help=_WHO_MAY_LOOK),
) -> int:
    """Set who may use a mailbox, and who may send to it."""
    async with call.client() as client:
        granted = await client.mailbox_grant(
            address,
            _agents("readers", reader, none=no_readers),
            viewers=_agents("viewers", viewer, none=no_viewers),
            senders=_agents("senders", sender, none=no_senders),
            send_policy=send_policy,
            look_policy=look_policy,
        )
    lists = {name: getattr(granted, name) for name in ("readers", "viewers", "senders")}
    document = {
        "mail_address": address,
        **lists,
        **_policies(granted),
        "enforced": granted.enforced,
    }
    rows = [("mailbox", address)]
    rows += [(name, ", ".join(map(quoted, agents)) or "none") for name, agents in lists.items()]
    rows.append(("may send", _SENDERS[granted.send_policy]))
    rows.append(("may look", _LOOKERS[granted.look_policy]))
    _warn_of_strangers(call, granted.enforced)
    call.out.show(document, Table(("WHAT", "STATE"), rows))
    return 0


def _agents(name: str, agents: list[str] | None, *, none: bool) -> list[str] | None:
    """Return the agents of a list; None to leave it as it is."""
    if agents and none:
        raise InvalidRequest(f"{name}: give agents or --no-{name}, not both")
    return [] if none else agents or None


async def drop(
    call: CommandCall,
    *,
    address: Address,
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask for confirmation."),
) -> int:
    """Remove a mailbox with its mail, after asking."""
    async with call.client() as client:
        if not yes:
            status = await client.mailbox_status(address)
            if sys.stdin is None or not sys.stdin.isatty():
                raise InvalidRequest("drop: this is not a terminal; confirm with --yes")
            mail = count(status.stored + status.delayed, "message")
            typer.confirm(f"Drop {status.mail_address} with {mail}?", abort=True, err=True)
        await client.mailbox_drop(address)
    call.out.show({"mail_address": address, "dropped": True}, f"dropped {address}")
    return 0


async def mailboxes(call: CommandCall) -> int:
    """List the public mailboxes."""
    async with call.client() as client:
        found = await client.mailbox_list()
    document = {"mailboxes": [dataclasses.asdict(one) for one in found]}
    if not found:
        return call.empty(document, "there are no public mailboxes")
    rows = [(one.mail_address, one.desc) for one in found]
    call.out.show(document, Table(("ADDRESS", "DESCRIPTION"), rows))
    return 0


async def status(
    call: CommandCall,
    *,
    address: Address,
    group: str | None = typer.Option(None, help="Also show this consumer group."),
    watch: bool = typer.Option(
        False, "--watch", help="Show it again at each change, until Ctrl-C."
    ),
) -> int:
    """Show a mailbox, and the state of a consumer group."""
    shown = None
    async with call.client() as client:
        while True:
            found = await client.mailbox_status(address, group_name=group)
            document = dataclasses.asdict(found)
            del document["message"]
            if document != shown:
                shown = document
                rows = _mailbox(found, now := client.clock.now_ms() / 1000)
                if found.group is not None:
                    rows += _group(found.group, now)
                call.out.show(document, Table(("WHAT", "STATE"), rows))
            if not watch:
                return 0
            await sleep(client.clock, _WATCH_S)


def _mailbox(status: MailboxStatus, now: float) -> list[tuple[str, str]]:
    rows = [("mailbox", status.mail_address)]
    if status.desc:
        rows.append(("description", status.desc))
    if status.type is MailboxType.LATEST:
        rows.append(("keeps", "the newest message only"))
    rows.append(("listed", "yes, it is public" if status.public else "no"))
    if status.send_policy is not SendPolicy.EVERYONE:
        enforced = "" if status.enforced else "; not enforced: the broker cannot tell who sends"
        rows.append(("may send", f"{_SENDERS[status.send_policy]}{enforced}"))
    if status.look_policy is not LookPolicy.GRANTED:
        rows.append(("may look", _LOOKERS[status.look_policy]))
    if status.rights and status.enforced:
        rows.append(("you may", ", ".join(status.rights)))
    expiry = "never" if status.expires_at is None else moment(status.expires_at, now)
    size = f"{status.stored_bytes:,} bytes"
    rows += [("expires", expiry), ("stored", f"{count(status.stored, 'message')}, {size}")]
    delayed = str(status.delayed)
    if status.next_due is not None:
        delayed += f", the next due {moment(status.next_due, now)}"
    reasons = [f"{many} {reason}" for reason, many in dataclasses.asdict(status.removed).items()]
    removed = f"{status.removed.total} ({', '.join(reasons)})"
    rows += [("delayed", delayed), ("removed", removed)]
    if status.turns:
        rows.append(("began", f"{count(status.turns, 'automatic turn')} in the last hour"))
    return rows


def _group(group: GroupStatus, now: float) -> list[tuple[str, str]]:
    name = quoted(group.group_name)
    waiting = group.pending
    pending = (
        f"{waiting.total} ({waiting.critical} critical, {waiting.urgent} urgent,"
        f" {waiting.normal} normal)"
    )
    if not group.exists:
        return [("group", f"{name} does not exist here yet"), ("would get", pending)]
    rows = [("group", name), ("pending", pending)]
    for lease in group.leased:
        until = moment(lease.until, now)
        rows.append(
            ("given back", f"{lease.count}, available {until}")
            if lease.consumer is None
            else ("leased", f"{lease.count} to {short(lease.consumer)} until {until}")
        )
    rows.append(("acked", str(group.acked)))
    return [*rows, ("moved away", str(group.moved))]
