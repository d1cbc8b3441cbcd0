"""Mailboxes: made, renewed, listed, dropped."""

from __future__ import annotations

import sqlite3

from mq9.engine import access, erasure, handlers, mailboxes
from mq9.engine.commands import Actor, Call
from mq9.engine.limits import Limits
from mq9.engine.mailbox import Mailbox
from mq9.errors import LimitReached, MailboxExists
from mq9.models import MailboxType, PublicMailbox, SendPolicy
from mq9.protocol.outcomes import Created, PublicPage
from mq9.protocol.requests import CreateMailbox, DropMailbox, ListPublic

_LISTED_AT_ONCE = 1_000
_REMOVED_AT_ONCE = 1_000  # rows that a new mailbox makes room by removing
_PLAIN = CreateMailbox()  # of an agent that registers without one


@handlers.command(CreateMailbox)
def create(
    connection: sqlite3.Connection, call: Call[CreateMailbox], now: int, limits: Limits
) -> Created:
    """Make a mailbox, or renew one.

    Raises:
        MailboxExists: It is there, and is not to be renewed.
        Forbidden: The address belongs to another agent.
    """
    address, actor, request = call.address, call.actor, call.request
    existing = mailboxes.look(connection, address, now)
    if existing is not None and request.renew:
        _renew(connection, existing, actor, now)
        return _created(call, existing.generation, existing.type, existing.send_policy)
    if actor.owner not in {None, actor.agent}:
        raise access.belongs_to_another(address)
    if existing is not None:
        raise MailboxExists(f"mailbox {address} already exists")
    _make(connection, address, call.token, actor.agent, request, now, limits)
    return _created(call, call.token, request.type, request.send_policy)


def _created(call: Call[CreateMailbox], generation: str, kept: str, policy: str) -> Created:
    """Return the outcome, which says what is there of what the request asked for."""
    request, plain = call.request, _PLAIN
    return Created(
        call.address,
        generation,
        None if request.type is plain.type else MailboxType(kept),
        None if request.send_policy is plain.send_policy else SendPolicy(policy),
        enforced=request.send_policy is plain.send_policy or call.actor.is_known,
    )


def ensure(
    connection: sqlite3.Connection,
    address: str,
    generation: str,
    creator: str | None,
    now: int,
    limits: Limits,
) -> str:
    """Make a mailbox that never expires, unless there is one; return its generation."""
    existing = mailboxes.look(connection, address, now)
    if existing is not None:
        return existing.generation
    _make(connection, address, generation, creator, _PLAIN, now, limits)
    return generation


def _make(
    connection: sqlite3.Connection,
    address: str,
    generation: str,
    creator: str | None,
    request: CreateMailbox,
    now: int,
    limits: Limits,
) -> None:
    stale = connection.execute("SELECT id FROM mailboxes WHERE address=?", (address,)).fetchone()
    if stale is not None:
        erasure.erase(connection, stale[0])
    _make_room(connection, now, limits)
    connection.execute(
        "INSERT INTO mailboxes"
        " (address, generation, description, public, type, creator, send_policy, ttl_s, expires_ms)"
        " VALUES (?,?,?,?,?,?,?,?,?)",
        (
            address,
            generation,
            request.desc,
            int(request.public),
            request.type.value,
            creator,
            request.send_policy.value,
            request.ttl,
            now + request.ttl * 1000 if request.ttl else None,
        ),
    )


def _renew(connection: sqlite3.Connection, mailbox: Mailbox, actor: Actor, now: int) -> None:
    """Restart the TTL of a mailbox; only its creator may, or somebody who is no agent."""
    creator = actor.owner or mailbox.creator
    if actor.agent is None:
        if not mailbox.may_take(actor):
            raise access.refusal(mailbox, actor)
        creator = mailbox.creator
    elif creator != actor.agent and (creator is not None or actor.closed):
        raise access.refusal(mailbox, actor)
    connection.execute(
        "UPDATE mailboxes SET creator=?, expires_ms=? WHERE id=?",
        (
            creator,
            now + mailbox.ttl_s * 1000 if mailbox.ttl_s else mailbox.expires_ms,
            mailbox.id,
        ),
    )


def _make_room(connection: sqlite3.Connection, now: int, limits: Limits) -> None:
    (count,) = connection.execute("SELECT count(*) FROM mailboxes").fetchone()
    if count >= limits.max_mailboxes:
        erasure.erase_expired(connection, now, most=_REMOVED_AT_ONCE)
        (count,) = connection.execute("SELECT count(*) FROM mailboxes").fetchone()
    if count >= limits.max_mailboxes:
        raise LimitReached(
            f"max_mailboxes: {count} mailboxes reach the limit of {limits.max_mailboxes}"
        )


@handlers.command(DropMailbox)
def drop(
    connection: sqlite3.Connection, call: Call[DropMailbox], now: int, _limits: Limits
) -> None:
    """Remove a mailbox.

    Raises:
        MailboxNotFound: It is not there.
    """
    mailbox = mailboxes.look(connection, call.address, now)
    if mailbox is None:
        raise mailboxes.not_found(call.address)
    erasure.erase(connection, mailbox.id)


@handlers.query(ListPublic)
def list_public(connection: sqlite3.Connection, call: Call[ListPublic], now: int) -> PublicPage:
    """List public mailboxes by address, and say whether more follow."""
    rows = connection.execute(
        "SELECT address, description FROM mailboxes WHERE public=1 AND address>?"
        " AND (expires_ms IS NULL OR expires_ms>?) ORDER BY address LIMIT ?",
        (call.request.after or "", now, _LISTED_AT_ONCE + 1),
    ).fetchall()
    listed = tuple(PublicMailbox(*row) for row in rows[:_LISTED_AT_ONCE])
    return PublicPage(mailboxes=listed, more=len(rows) > len(listed))
