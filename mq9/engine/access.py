"""Who may use a mailbox, and who is granted it."""

from __future__ import annotations

import sqlite3
from typing import Any

from mq9.engine import handlers, mailboxes
from mq9.engine.commands import Actor, Call, CheckActor, ClaimNames
from mq9.engine.limits import Limits
from mq9.engine.mailbox import Mailbox
from mq9.errors import Forbidden, InvalidRequest
from mq9.protocol.requests import GrantMailbox, Send


def refuse_others(connection: sqlite3.Connection, call: Call[Any], now: int) -> None:
    """Refuse an authenticated agent what is another's. Without authentication anybody may.

    Raises:
        Forbidden: The mailbox is there, and is not the actor's to use.
    """
    if call.actor.agent is None:
        return
    mailbox = mailboxes.look(connection, call.address, now)
    if mailbox is not None and not mailbox.admits(call.actor):
        raise refusal(mailbox, call.actor)


def check_source(connection: sqlite3.Connection, call: Call[Send], now: int) -> None:
    """Refuse a message of an authenticated agent that says it comes from another's mailbox.

    Raises:
        InvalidRequest: There is no such mailbox.
        Forbidden: The agent may not take messages from it.
    """
    address = call.request.from_mailbox
    if address is None or call.actor.agent is None:
        return
    mailbox = mailboxes.look(connection, address, now)
    if mailbox is None:
        raise InvalidRequest(
            f"from_mailbox: {address} does not exist; name a mailbox that you take messages from"
        )
    if not mailbox.admits(call.actor.elsewhere):
        raise Forbidden(f"from_mailbox: you may not take messages from {address}")


def adopt(connection: sqlite3.Connection, call: Call[Any]) -> None:
    """Make the agent whose address it is the creator of a mailbox that it uses."""
    actor = call.actor
    if actor.agent is not None and actor.agent == actor.owner:
        connection.execute(
            "UPDATE mailboxes SET creator=? WHERE address=? AND creator IS NOT ?",
            (actor.agent, call.address, actor.agent),
        )


def is_settled(connection: sqlite3.Connection, call: Call[Any], now: int) -> bool:
    """Tell whether somebody may use a mailbox that is there, and nothing is to change for that."""
    mailbox = mailboxes.look(connection, call.address, now)
    actor = call.actor
    if mailbox is None or not mailbox.admits(actor):
        return False
    return actor.agent is None or actor.agent != actor.owner or mailbox.creator == actor.agent


def refusal(mailbox: Mailbox, actor: Actor) -> Forbidden:
    """Make the error for an agent that may not use a mailbox."""
    if actor.owner is None and mailbox.creator is None:
        return Forbidden(
            f"mail_address: {mailbox.address} has no creator and is closed to agents; an operator "
            "may grant it"
        )
    return belongs_to_another(mailbox.address)


def belongs_to_another(address: str) -> Forbidden:
    """Make the error for an address that is another agent's."""
    return Forbidden(f"mail_address: {address} belongs to another agent")


@handlers.query(CheckActor)
def check_actor(_connection: sqlite3.Connection, _call: Call[CheckActor], _now: int) -> None:
    """Do nothing: whether the actor may was checked before."""


@handlers.command(GrantMailbox)
def grant(
    connection: sqlite3.Connection, call: Call[GrantMailbox], now: int, _limits: Limits
) -> tuple[str, ...]:
    """Say who may read a mailbox beside its creator.

    Raises:
        MailboxNotFound: It is not there.
        Forbidden: It is not the actor's to grant.
    """
    mailbox = mailboxes.look(connection, call.address, now)
    if mailbox is None:
        raise mailboxes.not_found(call.address)
    actor = call.actor
    creator = actor.owner or mailbox.creator
    if actor.agent is not None and creator != actor.agent:
        if creator is None and not actor.closed:
            raise Forbidden(
                f"mail_address: {call.address} has no creator, and is open to whoever knows it"
            )
        raise refusal(mailbox, actor)
    connection.execute(
        "UPDATE mailboxes SET readers=?, creator=? WHERE id=?",
        ("\n".join(call.request.readers), actor.agent or mailbox.creator, mailbox.id),
    )
    return call.request.readers


def claim(connection: sqlite3.Connection, claimed: ClaimNames, now: int) -> tuple[str, ...]:
    """Give agents the mailboxes at their addresses; the addresses where that changed the creator.

    What a mailbox was granted to is forgotten with its earlier creator, and all other mailboxes
    stay as they are.
    """
    changed = []
    for address, agent in claimed.addresses:
        mailbox = mailboxes.look(connection, address, now)
        if mailbox is None or mailbox.creator == agent:
            continue
        readers = mailbox.readers if mailbox.creator is None else ""
        connection.execute(
            "UPDATE mailboxes SET creator=?, readers=? WHERE id=?", (agent, readers, mailbox.id)
        )
        changed.append(address)
    return tuple(changed)


def count_closed(
    connection: sqlite3.Connection, now: int, most_named: int
) -> tuple[int, tuple[str, ...]]:
    """Count the mailboxes without creator and readers, and name the first of them."""
    which = "FROM mailboxes WHERE creator IS NULL AND readers='' AND coalesce(expires_ms>?, 1)"
    (count,) = connection.execute(f"SELECT count(*) {which}", (now,)).fetchone()  # constant text
    rows = connection.execute(
        f"SELECT address {which} ORDER BY address LIMIT ?",  # constant text
        (now, most_named),
    )
    return int(count), tuple(address for (address,) in rows)
