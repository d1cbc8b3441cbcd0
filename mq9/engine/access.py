"""Access rights to a mailbox, and grants."""

from __future__ import annotations

from sqlite3 import Connection
from typing import Any

from mq9.engine import mailboxes
from mq9.engine.commands import Actor, Call, CheckActor, CountSendLimits, Limits
from mq9.engine.mailboxes import MailboxRow, agents_in
from mq9.errors import Forbidden, InvalidRequest
from mq9.models import LookPolicy, SendPolicy
from mq9.protocol.outcomes import Grants
from mq9.protocol.requests import GrantMailbox, Send


def refuse_others(db: Connection, call: Call[Any], now: int) -> None:
    """Refuse a private request of a client without the right. Without authentication all may."""
    if call.actor.is_operator:
        return
    mailbox = mailboxes.look(db, call.address, now)
    if mailbox is not None:
        refuse_other(mailbox, call)


def refuse_other(mailbox: MailboxRow, call: Call[Any]) -> None:
    """Refuse a private request of a client that lacks the right to the mailbox."""
    if not _admits(mailbox, call):
        raise mailboxes.refusal(mailbox, call.actor)


def _admits(mailbox: MailboxRow, call: Call[Any]) -> bool:
    """Tell whether a client may make a private request of a mailbox."""
    if call.actor.is_operator:
        return True
    if call.request.only_looks:
        return mailbox.may_look(call.actor)
    return mailbox.may_take(call.actor)


def refuse_sender(mailbox: MailboxRow, actor: Actor) -> None:
    """Refuse a message whose sender may not send to the mailbox."""
    if mailbox.may_send(actor):
        return
    if actor.barred and not mailbox.may_take(actor):
        raise Forbidden(
            f"mail_address: you may not send to {mailbox.address}; the operator's allow_send does "
            "not name it"
        )
    whom = "its creator" if mailbox.send_policy == SendPolicy.CREATOR else "those it is granted to"
    raise Forbidden(
        f"mail_address: {mailbox.address} takes messages only from {whom} "
        f"(send_policy {mailbox.send_policy})"
    )


def check_source(db: Connection, call: Call[Send], now: int) -> None:
    """Refuse an authenticated agent's message that claims to come from another's mailbox."""
    address = call.request.from_mailbox
    if address is None or call.actor.agent is None:
        return
    mailbox = mailboxes.look(db, address, now)
    if mailbox is None:
        raise InvalidRequest(
            f"from_mailbox: {address} does not exist; name a mailbox that you take messages from"
        )
    if not mailbox.may_take(call.actor.elsewhere):
        raise Forbidden(f"from_mailbox: you may not take messages from {address}")


def may_look(mailbox: MailboxRow, actor: Actor) -> bool:
    """Tell whether a client may look at a mailbox that is not the one of its request."""
    return actor.owns(mailbox.address) or mailbox.may_look(actor)


def adopt(db: Connection, call: Call[Any]) -> None:
    """Make the agent that owns the address the creator of the mailbox."""
    actor = call.actor
    if actor.adopts:
        db.execute(
            "UPDATE mailboxes SET creator=? WHERE address=? AND creator IS NOT ?",
            (actor.agent, call.address, actor.agent),
        )


def adopts(mailbox: MailboxRow, call: Call[Any]) -> bool:
    """Tell whether ``adopt`` would change a mailbox."""
    return call.actor.adopts and mailbox.creator != call.actor.agent


def is_settled(db: Connection, call: Call[Any], now: int) -> bool:
    """Tell whether a client may use an existing mailbox, and ``adopt`` would not change it."""
    mailbox = mailboxes.look(db, call.address, now)
    return mailbox is not None and _admits(mailbox, call) and not adopts(mailbox, call)


def check_actor(_db: Connection, _call: Call[CheckActor], _now: int) -> None:
    """Do nothing: `machine.read` has checked the actor before."""


def grant(db: Connection, call: Call[GrantMailbox], now: int, _limits: Limits) -> Grants:
    """Set which agents may use a mailbox in addition to its creator, and which may send to it."""
    mailbox = mailboxes.look(db, call.address, now)
    if mailbox is None:
        raise mailboxes.not_found(call.address)
    actor, request = call.actor, call.request
    if not mailbox.may_grant(actor):
        if (actor.owner or mailbox.creator) is None and not actor.closed:
            raise Forbidden(
                f"mail_address: {call.address} has no creator, and is open to all who know it"
            )
        raise mailboxes.refusal(mailbox, actor)
    granted = Grants(
        readers=_wanted_or_stored(request.readers, mailbox.readers),
        viewers=_wanted_or_stored(request.viewers, mailbox.viewers),
        senders=_wanted_or_stored(request.senders, mailbox.senders),
        send_policy=request.send_policy or SendPolicy(mailbox.send_policy),
        look_policy=request.look_policy or LookPolicy(mailbox.look_policy),
        enforced=actor.is_known,
    )
    db.execute(
        "UPDATE mailboxes SET readers=?, viewers=?, senders=?, send_policy=?, look_policy=?,"
        " creator=? WHERE id=?",
        (
            *map("\n".join, (granted.readers, granted.viewers, granted.senders)),
            granted.send_policy.value,
            granted.look_policy.value,
            actor.agent if actor.adopts else mailbox.creator,
            mailbox.id,
        ),
    )
    return granted


def _wanted_or_stored(wanted: tuple[str, ...] | None, stored: str) -> tuple[str, ...]:
    """Return the agents of a list in the request, else the stored ones."""
    return agents_in(stored) if wanted is None else wanted


def count_send_limits(db: Connection, _call: Call[CountSendLimits], now: int) -> int:
    """Count the mailboxes that restrict their senders."""
    (count,) = db.execute(
        "SELECT count(*) FROM mailboxes WHERE send_policy<>? AND coalesce(expires_ms>?, 1)",
        (SendPolicy.EVERYONE.value, now),
    ).fetchone()
    return int(count)
