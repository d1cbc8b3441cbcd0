"""Mailboxes: the row and its rights; made, renewed, listed, and removed with what is in them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from mq9.engine.commands import Actor, Call, Limits
from mq9.errors import Forbidden, LimitReached, MailboxExists, MailboxNotFound
from mq9.models import MailboxType, PublicMailbox, SendPolicy
from mq9.protocol.outcomes import Created, PublicPage
from mq9.protocol.requests import CreateMailbox, DropMailbox, ListPublic

_COLUMNS = (
    "id, address, generation, description, public, type, creator, readers, viewers, senders, "
    "send_policy, ttl_s, expires_ms, changes_ms, next_msg_id, next_reply, "
    "visible_ms, messages, delayed, bytes, evict_from, ids, "
    "expired, replaced, deleted, evicted"
)
_LISTED_AT_ONCE = 1_000
_REMOVED_AT_ONCE = 1_000  # rows that a new mailbox makes room by removing
_PLAIN = CreateMailbox()  # of an agent that registers without one
# What belongs to a mailbox: table and key.
_OF_A_MAILBOX = (
    ("messages", "mailbox, msg_id"),
    ("delayed", "id"),
    ("sent_ids", "mailbox, id"),
    ("tombstones", "mailbox, msg_id"),
    ("leases", "group_id, msg_id"),
    ("moves", "group_id, msg_id"),
    ("replies", "mailbox, number"),
    ("deliveries", "mailbox, reply, msg_id"),
    ("groups", "id"),
)
_ERASED_AT_ONCE = 1_000  # rows of a mailbox; what is more is left to the sweep
_ERASED_BYTES = 16 * 1024 * 1024  # and of their payloads
_REMOVALS_KEPT = 10_000  # that whoever follows the registry may be behind
_FORGOTTEN_TOGETHER = 100  # older removals


@dataclass(slots=True)
class Mailbox:
    """A row of mailboxes; ``save`` writes the counters back.

    The last two fields are no columns: whether the counters are written later, with those of other
    commands, and whether there is anything to be written then.
    """

    id: int
    address: str
    generation: str
    description: str
    public: int
    type: str
    creator: str | None
    readers: str
    viewers: str
    senders: str
    send_policy: str
    ttl_s: int
    expires_ms: int | None
    changes_ms: int | None
    next_msg_id: int
    next_reply: int
    visible_ms: int
    messages: int
    delayed: int
    bytes: int
    evict_from: int
    ids: int
    expired: int
    replaced: int
    deleted: int
    evicted: int
    is_held: bool = False
    is_unsaved: bool = False

    def expect_change(self, instant: int | None) -> None:
        """Remember that something falls due or expires at ``instant``."""
        if instant is not None and (self.changes_ms is None or instant < self.changes_ms):
            self.changes_ms = instant

    def is_expired(self, now: int) -> bool:
        """Tell whether its TTL has passed."""
        return self.expires_ms is not None and self.expires_ms <= now

    def count_removed(self, reason: str, count: int) -> None:
        """Count messages that were removed: ``expired``, ``replaced``, ``deleted``, ``evicted``."""
        setattr(self, reason, getattr(self, reason) + count)

    def save(self, connection: sqlite3.Connection) -> None:
        """Write the counters, or leave them to ``save_held``."""
        if self.is_held:
            self.is_unsaved = True
        else:
            self._write(connection)

    def save_held(self, connection: sqlite3.Connection) -> None:
        """Write the counters that were left to be written."""
        if self.is_unsaved:
            self.is_unsaved = False
            self._write(connection)

    def _write(self, connection: sqlite3.Connection) -> None:
        connection.execute(
            "UPDATE mailboxes SET changes_ms=?, next_msg_id=?, next_reply=?, visible_ms=?, "
            "messages=?, delayed=?, bytes=?, evict_from=?, ids=?, expired=?, replaced=?, "
            "deleted=?, evicted=? WHERE id=?",
            (
                self.changes_ms,
                self.next_msg_id,
                self.next_reply,
                self.visible_ms,
                self.messages,
                self.delayed,
                self.bytes,
                self.evict_from,
                self.ids,
                self.expired,
                self.replaced,
                self.deleted,
                self.evicted,
                self.id,
            ),
        )

    def may_evict(self, connection: sqlite3.Connection, msg_id: int) -> None:
        """Note that a message, and for all that is known later ones too, may make room."""
        if msg_id < self.evict_from:
            self.evict_from = msg_id
            connection.execute("UPDATE mailboxes SET evict_from=? WHERE id=?", (msg_id, self.id))

    def may_take(self, actor: Actor) -> bool:
        """Tell whether somebody may use it in every way but to grant it, and to send there."""
        return self._is_creator(actor) or actor.agent in agents_in(self.readers)

    def may_look(self, actor: Actor) -> bool:
        """Tell whether somebody may see what is in it."""
        return self.may_take(actor) or actor.agent in agents_in(self.viewers)

    def may_send(self, actor: Actor) -> bool:
        """Tell whether somebody may send to it."""
        if actor.barred and not self.may_take(actor):
            return False
        if self.send_policy == SendPolicy.EVERYONE:
            return True
        if self.send_policy == SendPolicy.GRANTED:
            return self.may_take(actor) or actor.agent in agents_in(self.senders)
        return self._is_creator(actor)

    def may_grant(self, actor: Actor) -> bool:
        """Tell whether somebody may say who else may use it."""
        if actor.agent is None:
            return self._is_creator(actor)
        return actor.agent == (actor.owner or self.creator)

    def _is_creator(self, actor: Actor) -> bool:
        """Tell whether somebody counts as its creator: of those who are no agents, most do."""
        creator = actor.owner or self.creator
        if actor.agent is None:
            return creator is None or not actor.is_stranger
        return not actor.closed if creator is None else creator == actor.agent


def agents_in(lines: str) -> tuple[str, ...]:
    """Return the agents in a list of the table, which has one a line."""
    return tuple(lines.split("\n")) if lines else ()


def not_found(address: str) -> MailboxNotFound:
    """Make the error for a mailbox that is not there."""
    return MailboxNotFound(f"mailbox not found: {address} does not exist")


def look(connection: sqlite3.Connection, address: str, now: int) -> Mailbox | None:
    """Return a mailbox as it is stored, or None when it is not there or has expired."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM mailboxes WHERE address=?",  # noqa: S608  # constant columns
        (address,),
    ).fetchone()
    if row is None:
        return None
    mailbox = Mailbox(*row)
    return None if mailbox.is_expired(now) else mailbox


def is_current(mailbox: Mailbox, now: int) -> bool:
    """Tell whether nothing has fallen due or expired since the mailbox was last advanced."""
    return mailbox.changes_ms is None or mailbox.changes_ms > now


def refuse_another(mailbox: Mailbox, generation: str | None) -> None:
    """Refuse a mailbox that has taken the address of the one that was meant.

    Raises:
        MailboxNotFound: The one that was meant was dropped or has expired.
    """
    if generation is not None and generation != mailbox.generation:
        raise not_found(mailbox.address)


def refusal(mailbox: Mailbox, actor: Actor) -> Forbidden:
    """Make the error for an agent that may not use a mailbox."""
    if actor.owner is None and mailbox.creator is None:
        return Forbidden(
            f"mail_address: {mailbox.address} has no creator and is closed to agents; an operator "
            "may grant it"
        )
    if mailbox.may_look(actor) and not mailbox.may_take(actor):
        return Forbidden(
            f"mail_address: {mailbox.address} is granted to you to look at only, as a viewer"
        )
    return belongs_to_another(mailbox.address)


def belongs_to_another(address: str) -> Forbidden:
    """Make the error for an address that is another agent's."""
    return Forbidden(f"mail_address: {address} belongs to another agent")


def create(
    connection: sqlite3.Connection, call: Call[CreateMailbox], now: int, limits: Limits
) -> Created:
    """Make a mailbox, or renew one.

    Raises:
        MailboxExists: It is there, and is not to be renewed.
        Forbidden: The address belongs to another agent.
    """
    address, actor, request = call.address, call.actor, call.request
    existing = look(connection, address, now)
    if existing is not None and request.renew:
        _renew(connection, existing, actor, now)
        return _created(call, existing.generation, existing.type, existing.send_policy)
    if actor.owner not in {None, actor.agent}:
        raise belongs_to_another(address)
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
    existing = look(connection, address, now)
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
        erase(connection, stale[0])
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
            raise refusal(mailbox, actor)
        creator = mailbox.creator
    elif creator != actor.agent and (creator is not None or actor.closed):
        raise refusal(mailbox, actor)
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
        erase_expired(connection, now, most=_REMOVED_AT_ONCE)
        (count,) = connection.execute("SELECT count(*) FROM mailboxes").fetchone()
    if count >= limits.max_mailboxes:
        raise LimitReached(
            f"max_mailboxes: {count} mailboxes reach the limit of {limits.max_mailboxes}"
        )


def drop(
    connection: sqlite3.Connection, call: Call[DropMailbox], now: int, _limits: Limits
) -> None:
    """Remove a mailbox.

    Raises:
        MailboxNotFound: It is not there.
    """
    mailbox = look(connection, call.address, now)
    if mailbox is None:
        raise not_found(call.address)
    erase(connection, mailbox.id)


def list_public(connection: sqlite3.Connection, call: Call[ListPublic], now: int) -> PublicPage:
    """List public mailboxes by address, and say whether more follow."""
    rows = connection.execute(
        "SELECT address, description FROM mailboxes WHERE public=1 AND address>?"
        " AND (expires_ms IS NULL OR expires_ms>?) ORDER BY address LIMIT ?",
        (call.request.after or "", now, _LISTED_AT_ONCE + 1),
    ).fetchall()
    listed = tuple(PublicMailbox(*row) for row in rows[:_LISTED_AT_ONCE])
    return PublicPage(mailboxes=listed, more=len(rows) > len(listed))


def erase(connection: sqlite3.Connection, mailbox_id: int) -> int:
    """Remove a mailbox with all that is in it and the registrations bound to it.

    It is removed at once. Of what was in it the rows that are too many go with the next sweeps.

    Returns:
        How many rows were removed.
    """
    removed = remove_agents(
        connection,
        "(mailbox, generation)=(SELECT address, generation FROM mailboxes WHERE id=?)",
        (mailbox_id,),
    )
    connection.execute(
        "UPDATE state SET expired=state.expired+m.expired, replaced=state.replaced+m.replaced,"
        " deleted=state.deleted+m.deleted, evicted=state.evicted+m.evicted,"
        " dropped=dropped+m.messages FROM mailboxes m WHERE m.id=?",
        (mailbox_id,),
    )
    connection.execute("DELETE FROM mailboxes WHERE id=?", (mailbox_id,))
    rows, is_all = _erase_rows(connection, mailbox_id, _ERASED_AT_ONCE)
    if not is_all:
        connection.execute("INSERT INTO erased VALUES (?)", (mailbox_id,))
    return len(removed) + 1 + rows


def _erase_rows(connection: sqlite3.Connection, mailbox_id: int, most: int) -> tuple[int, bool]:
    """Remove some of what was in a mailbox; how many rows, and whether that was all."""
    removed = 0
    for table, key in _OF_A_MAILBOX:
        room = most - removed
        if table in {"messages", "delayed"}:
            room = min(room, _first_rows(connection, table, key, mailbox_id, room))
        removed += connection.execute(
            f"DELETE FROM {table} WHERE ({key}) IN"  # noqa: S608  # constant names
            f" (SELECT {key} FROM {table} WHERE mailbox=? ORDER BY {key} LIMIT ?)",
            (mailbox_id, room),
        ).rowcount
        if removed == most or _holds(connection, table, mailbox_id):
            return removed, False
    return removed, True


def _holds(connection: sqlite3.Connection, table: str, mailbox_id: int) -> bool:
    row = connection.execute(
        f"SELECT 1 FROM {table} WHERE mailbox=? LIMIT 1",  # noqa: S608  # constant names
        (mailbox_id,),
    ).fetchone()
    return row is not None


def _first_rows(
    connection: sqlite3.Connection, table: str, key: str, mailbox_id: int, most: int
) -> int:
    """Count the rows, at least one, whose payloads are together not too large."""
    sizes = connection.execute(
        f"SELECT size FROM {table} WHERE mailbox=? ORDER BY {key} LIMIT ?",  # noqa: S608  # constant names
        (mailbox_id, most),
    )
    count = total = 0
    for (size,) in sizes:
        total += size
        if count and total > _ERASED_BYTES:
            break
        count += 1
    return count


def erase_rest(connection: sqlite3.Connection, most: int) -> int:
    """Remove some of what is left of removed mailboxes.

    Returns:
        How many rows; at least ``most`` while something is left.
    """
    removed = 0
    while removed < most:
        row = connection.execute("SELECT mailbox FROM erased ORDER BY mailbox LIMIT 1").fetchone()
        if row is None:
            return removed
        rows, is_all = _erase_rows(connection, row[0], most - removed)
        removed += rows
        if not is_all:
            return max(removed, most)
        connection.execute("DELETE FROM erased WHERE mailbox=?", row)
    return removed


def erase_expired(connection: sqlite3.Connection, now: int, most: int) -> int:
    """Remove mailboxes whose TTL has passed, the oldest first; how many rows."""
    expired = connection.execute(
        "SELECT id FROM mailboxes WHERE expires_ms<=? ORDER BY expires_ms, id LIMIT ?", (now, most)
    ).fetchall()
    removed = 0
    for (mailbox_id,) in expired:
        removed += erase(connection, mailbox_id)
        if removed >= most:
            break
    return removed


def remove_agents(
    connection: sqlite3.Connection, condition: str, values: Sequence[object]
) -> list[str]:
    """Remove the registrations that meet a condition, and remember which; their keys, sorted."""
    removed = connection.execute(
        f"SELECT id, key FROM agents WHERE {condition} ORDER BY id",  # noqa: S608  # constant text
        values,
    ).fetchall()
    for id_, _ in removed:
        connection.execute("DELETE FROM agents WHERE id=?", (id_,))
        number = connection.execute(
            "INSERT INTO agents_removed (agent) VALUES (?)", (id_,)
        ).lastrowid
        assert number is not None  # noqa: S101  # a row was inserted
        if number % _FORGOTTEN_TOGETHER == 0:
            connection.execute(
                "DELETE FROM agents_removed WHERE number<=?", (number - _REMOVALS_KEPT,)
            )
    return sorted(key for _, key in removed)
