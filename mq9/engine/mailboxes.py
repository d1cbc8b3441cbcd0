"""Mailboxes: their rows and rights; creating, renewing, listing and removing them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from sqlite3 import Connection

import orjson

from mq9.engine.commands import Actor, Call, Limits
from mq9.errors import Forbidden, LimitReached, MailboxExists, MailboxNotFound
from mq9.models import (
    ListedMailbox,
    LookPolicy,
    MailboxPage,
    MailboxType,
    PublicMailbox,
    SendPolicy,
)
from mq9.protocol.outcomes import Created, PublicPage
from mq9.protocol.requests import CreateMailbox, DropMailbox, ListMailboxes, ListPublic

_COLUMNS = (
    "id, address, generation, description, public, type, creator, readers, viewers, senders, "
    "send_policy, look_policy, ttl_s, expires_ms, changes_ms, next_msg_id, next_reply, "
    "visible_ms, messages, delayed, bytes, evict_from, ids, awaited, "
    "expired, replaced, deleted, evicted"
)
_LISTED_AT_ONCE = 1_000
_LISTED_BYTES = 256 * 1024  # of descriptions, as JSON
_REMOVED_AT_ONCE = 1_000  # rows that are removed to make room for a new mailbox
_PLAIN = CreateMailbox()  # for an agent that registers without a mailbox
# The tables with rows of a mailbox, and their keys.
_OF_A_MAILBOX = (
    ("messages", "mailbox, msg_id"),
    ("delayed", "id"),
    ("awaited", "id"),
    ("sent_ids", "mailbox, id"),
    ("tombstones", "mailbox, msg_id"),
    ("leases", "group_id, msg_id"),
    ("moves", "group_id, msg_id"),
    ("replies", "mailbox, number"),
    ("deliveries", "mailbox, reply, msg_id"),
    ("groups", "id"),
    ("notice_sessions", "mailbox, host, session"),
    ("notices", "mailbox, number"),
)
_ERASED_AT_ONCE = 1_000  # rows of a mailbox; the sweep removes the rest
_ERASED_BYTES = 16 * 1024 * 1024  # of the payloads of these rows
_REMOVALS_KEPT = 10_000  # newest removals that an index of the registry can catch up on
_FORGOTTEN_TOGETHER = 100  # older removals


@dataclass(slots=True)
class MailboxRow:
    """A row of mailboxes; ``save`` writes its counters."""

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
    look_policy: str
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
    awaited: int
    expired: int
    replaced: int
    deleted: int
    evicted: int
    is_held: bool = False  # no column: ``save_held`` writes the counters later
    is_unsaved: bool = False

    def expect_change(self, instant: int | None) -> None:
        """Note that a message is due or expires at an instant."""
        if instant is not None and (self.changes_ms is None or instant < self.changes_ms):
            self.changes_ms = instant

    def is_expired(self, now: int) -> bool:
        """Tell whether its TTL has passed."""
        return self.expires_ms is not None and self.expires_ms <= now

    def count_removed(self, reason: str, count: int) -> None:
        """Count removed messages: ``expired``, ``replaced``, ``deleted``, ``evicted``."""
        setattr(self, reason, getattr(self, reason) + count)

    def save(self, db: Connection) -> None:
        """Write the counters, unless ``save_held`` writes them later."""
        if self.is_held:
            self.is_unsaved = True
        else:
            self._write(db)

    def save_held(self, db: Connection) -> None:
        """Write the counters that ``save`` has not written."""
        if self.is_unsaved:
            self.is_unsaved = False
            self._write(db)

    def _write(self, db: Connection) -> None:
        db.execute(
            "UPDATE mailboxes SET changes_ms=?, next_msg_id=?, next_reply=?, visible_ms=?, "
            "messages=?, delayed=?, bytes=?, evict_from=?, ids=?, awaited=?, expired=?, "
            "replaced=?, deleted=?, evicted=? WHERE id=?",
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
                self.awaited,
                self.expired,
                self.replaced,
                self.deleted,
                self.evicted,
                self.id,
            ),
        )

    def may_evict(self, db: Connection, msg_id: int) -> None:
        """Note that the messages from a msg_id on may be evicted, as far as is known."""
        if msg_id < self.evict_from:
            self.evict_from = msg_id
            db.execute("UPDATE mailboxes SET evict_from=? WHERE id=?", (msg_id, self.id))

    def may_take(self, actor: Actor) -> bool:
        """Tell whether a client may use it in every way except to grant it and to send to it."""
        if actor.is_reader:
            return False
        return self._is_creator(actor) or actor.agent in agents_in(self.readers)

    def may_look(self, actor: Actor) -> bool:
        """Tell whether a client may look at its messages."""
        if actor.is_reader or self.may_take(actor) or actor.agent in agents_in(self.viewers):
            return True
        return self.look_policy == LookPolicy.EVERYONE and actor.agent is not None

    def may_send(self, actor: Actor) -> bool:
        """Tell whether a client may send to it."""
        if actor.is_reader or (actor.barred and not self.may_take(actor)):
            return False
        if self.send_policy == SendPolicy.EVERYONE:
            return True
        if self.send_policy == SendPolicy.GRANTED:
            return self.may_take(actor) or actor.agent in agents_in(self.senders)
        return self._is_creator(actor)

    def may_grant(self, actor: Actor) -> bool:
        """Tell whether a client may grant it to others."""
        if actor.is_reader:
            return False
        if actor.agent is None or actor.is_operator:
            return self._is_creator(actor)
        return actor.agent == (actor.owner or self.creator)

    def _is_creator(self, actor: Actor) -> bool:
        """Tell whether a client counts as its creator, as operators do."""
        if actor.is_operator:
            return True
        creator = actor.owner or self.creator
        if actor.agent is None:
            return creator is None
        return not actor.closed if creator is None else creator == actor.agent


def agents_in(lines: str) -> tuple[str, ...]:
    """Return the agents of a stored list, which has one per line."""
    return tuple(lines.split("\n")) if lines else ()


def not_found(address: str) -> MailboxNotFound:
    """Return the error for a mailbox that does not exist."""
    return MailboxNotFound(f"mailbox not found: {address} does not exist")


def look(db: Connection, address: str, now: int) -> MailboxRow | None:
    """Return a mailbox as it is stored; None if it does not exist or has expired."""
    return _look(db, "address", address, now)


def look_by_id(db: Connection, id_: int, now: int) -> MailboxRow | None:
    """Return a mailbox by its row id, as ``look`` does."""
    return _look(db, "id", id_, now)


def _look(db: Connection, column: str, value: str | int, now: int) -> MailboxRow | None:
    row = db.execute(
        f"SELECT {_COLUMNS} FROM mailboxes WHERE {column}=?",  # noqa: S608  # constant columns
        (value,),
    ).fetchone()
    if row is None:
        return None
    mailbox = MailboxRow(*row)
    return None if mailbox.is_expired(now) else mailbox


def look_at_all(db: Connection, addresses: Iterable[str], now: int) -> dict[str, MailboxRow]:
    """Return the existing mailboxes of some addresses, by address, as they are stored."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM mailboxes WHERE address IN (SELECT value FROM json_each(?))"  # noqa: S608  # constant columns
        " AND (expires_ms IS NULL OR expires_ms>?)",
        (orjson.dumps(sorted(addresses)).decode(), now),
    )
    return {mailbox.address: mailbox for mailbox in (MailboxRow(*row) for row in rows)}


def is_current(mailbox: MailboxRow, now: int) -> bool:
    """Tell whether nothing is due or expired since the mailbox was last advanced."""
    return mailbox.changes_ms is None or mailbox.changes_ms > now


def refuse_another(mailbox: MailboxRow, generation: str | None) -> None:
    """Refuse a mailbox of another generation than expected."""
    if generation is not None and generation != mailbox.generation:
        raise not_found(mailbox.address)


def refusal(mailbox: MailboxRow, actor: Actor) -> Forbidden:
    """Return the error for a client that may not use a mailbox."""
    if actor.is_reader:
        return Forbidden(f"mail_address: {mailbox.address} is open to a reader to look at only")
    if actor.owner is None and mailbox.creator is None:
        return Forbidden(
            f"mail_address: {mailbox.address} has no creator and is closed to agents; an operator "
            "may grant it"
        )
    if mailbox.may_look(actor) and not mailbox.may_take(actor):
        as_what = (
            "granted to you to look at only, as a viewer"
            if actor.agent in agents_in(mailbox.viewers)
            else f"open to you to look at only (look_policy {mailbox.look_policy})"
        )
        return Forbidden(f"mail_address: {mailbox.address} is {as_what}")
    return belongs_to_another(mailbox.address)


def belongs_to_another(address: str) -> Forbidden:
    """Return the error for an address that belongs to another agent."""
    return Forbidden(f"mail_address: {address} belongs to another agent")


def create(db: Connection, call: Call[CreateMailbox], now: int, limits: Limits) -> Created:
    """Create a mailbox, or renew it."""
    address, actor, request = call.address, call.actor, call.request
    existing = look(db, address, now)
    if existing is not None and request.renew:
        _renew(db, existing, actor, now)
        return _created(call, existing.generation, existing, agents_in(existing.viewers))
    if actor.owner not in {None, actor.agent}:
        raise belongs_to_another(address)
    if existing is not None:
        raise MailboxExists(f"mailbox {address} already exists")
    _make(db, address, call.token, actor.agent, request, now, limits)
    return _created(call, call.token, request, request.viewers)


def _created(
    call: Call[CreateMailbox],
    generation: str,
    kept: MailboxRow | CreateMailbox,
    viewers: tuple[str, ...],
) -> Created:
    """Return the outcome, with the stored values of the options that the request sets."""
    request, plain = call.request, _PLAIN
    rights = (request.send_policy, request.look_policy, request.viewers)
    is_plain = rights == (plain.send_policy, plain.look_policy, plain.viewers)
    return Created(
        call.address,
        generation,
        None if request.type is plain.type else MailboxType(kept.type),
        None if request.send_policy is plain.send_policy else SendPolicy(kept.send_policy),
        enforced=is_plain or call.actor.is_known,
        look_policy=(
            None if request.look_policy is plain.look_policy else LookPolicy(kept.look_policy)
        ),
        viewers=viewers if request.viewers else None,
    )


def ensure(
    db: Connection, address: str, generation: str, creator: str | None, now: int, limits: Limits
) -> str:
    """Create a mailbox that never expires, if it is missing; return the generation."""
    existing = look(db, address, now)
    if existing is not None:
        return existing.generation
    _make(db, address, generation, creator, _PLAIN, now, limits)
    return generation


def _make(
    db: Connection,
    address: str,
    generation: str,
    creator: str | None,
    request: CreateMailbox,
    now: int,
    limits: Limits,
) -> None:
    stale = db.execute("SELECT id FROM mailboxes WHERE address=?", (address,)).fetchone()
    if stale is not None:
        erase(db, stale[0])
    _make_room(db, now, limits)
    db.execute(
        "INSERT INTO mailboxes"
        " (address, generation, description, public, type, creator, send_policy, look_policy,"
        " viewers, ttl_s, expires_ms) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
        (
            address,
            generation,
            request.desc,
            int(request.public),
            request.type.value,
            creator,
            request.send_policy.value,
            request.look_policy.value,
            "\n".join(request.viewers),
            request.ttl,
            now + request.ttl * 1000 if request.ttl else None,
        ),
    )


def _renew(db: Connection, mailbox: MailboxRow, actor: Actor, now: int) -> None:
    """Restart the TTL of a mailbox, for its creator, an operator or a client without an agent."""
    creator = actor.owner or mailbox.creator
    if actor.agent is None or actor.is_operator:
        if not mailbox.may_take(actor):
            raise refusal(mailbox, actor)
        creator = actor.agent if actor.adopts else mailbox.creator
    elif creator != actor.agent and (creator is not None or actor.closed):
        raise refusal(mailbox, actor)
    db.execute(
        "UPDATE mailboxes SET creator=?, expires_ms=? WHERE id=?",
        (creator, now + mailbox.ttl_s * 1000 if mailbox.ttl_s else mailbox.expires_ms, mailbox.id),
    )


def _make_room(db: Connection, now: int, limits: Limits) -> None:
    (count,) = db.execute("SELECT count(*) FROM mailboxes").fetchone()
    if count >= limits.max_mailboxes:
        erase_expired(db, now, most=_REMOVED_AT_ONCE)
        (count,) = db.execute("SELECT count(*) FROM mailboxes").fetchone()
    if count >= limits.max_mailboxes:
        raise LimitReached(
            f"max_mailboxes: {count} mailboxes reach the limit of {limits.max_mailboxes}"
        )


def drop(db: Connection, call: Call[DropMailbox], now: int, _limits: Limits) -> None:
    """Remove a mailbox."""
    mailbox = look(db, call.address, now)
    if mailbox is None:
        raise not_found(call.address)
    erase(db, mailbox.id)


def list_own(db: Connection, call: Call[ListMailboxes], now: int) -> MailboxPage:
    """List the mailboxes of an agent by address; list all for a client that may see all."""
    request, actor = call.request, call.actor
    if actor.agent is None and not actor.may_list:
        raise Forbidden(
            "mailboxes: this broker does not know who asks, and an address is all that it takes to "
            "use a mailbox; authenticate as an agent, or remember the addresses"
        )
    # Each part of the union has an index, so the mailboxes of other agents are not read.
    which = "address>:after"
    lists_own = not (actor.agent is None or actor.is_operator or actor.is_reader)
    if lists_own:
        which = (
            "id IN (SELECT id FROM mailboxes WHERE creator=:agent AND address>:after"
            " UNION SELECT id FROM mailboxes WHERE address>:after AND address IN"
            " (SELECT value FROM json_each(:own))"
            " UNION SELECT id FROM mailboxes WHERE address>max(:after, :below)"
            " AND address<:beyond)"
        )
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM mailboxes WHERE {which}"  # noqa: S608  # constant texts
        " AND (expires_ms IS NULL OR expires_ms>:now)"
        " AND (:desc IS NULL OR substr(description, 1, length(:desc))=:desc)"
        " AND (:text IS NULL OR instr(address, lower(:text))"
        " OR instr(lower(description), lower(:text))) ORDER BY address",
        {
            "after": request.after or "",
            "now": now,
            "desc": request.desc_prefix,
            "text": request.text,
            "agent": actor.agent,
            "own": orjson.dumps(actor.own).decode(),
            "below": None if actor.below is None else f"{actor.below}.",
            "beyond": None if actor.below is None else f"{actor.below}/",  # "/" follows "."
        },
    )
    listed: list[ListedMailbox] = []
    room = _LISTED_BYTES
    for mailbox in (MailboxRow(*row) for row in rows):
        owner = mailbox.creator == actor.agent or actor.owns(mailbox.address)
        if lists_own and not owner:
            continue  # the mailbox of an agent with a longer slug
        room -= len(orjson.dumps(mailbox.description))
        if len(listed) == request.limit or (listed and room < 0):
            return MailboxPage(mailboxes=tuple(listed), more=True)
        listed.append(
            ListedMailbox(
                mail_address=mailbox.address,
                desc=mailbox.description,
                creator=mailbox.creator,
                stored=mailbox.messages - mailbox.delayed,
                delayed=mailbox.delayed,
                expires_at=None if mailbox.expires_ms is None else mailbox.expires_ms / 1000,
            )
        )
    return MailboxPage(mailboxes=tuple(listed))


def list_public(db: Connection, call: Call[ListPublic], now: int) -> PublicPage:
    """List public mailboxes by address, and say whether more follow."""
    rows = db.execute(
        "SELECT address, description FROM mailboxes WHERE public=1 AND address>?"
        " AND (expires_ms IS NULL OR expires_ms>?) ORDER BY address LIMIT ?",
        (call.request.after or "", now, _LISTED_AT_ONCE + 1),
    ).fetchall()
    listed: list[PublicMailbox] = []
    room = _LISTED_BYTES
    for address, description in rows[:_LISTED_AT_ONCE]:
        room -= len(orjson.dumps(description))
        if listed and room < 0:
            break
        listed.append(PublicMailbox(address, description))
    return PublicPage(mailboxes=tuple(listed), more=len(rows) > len(listed))


def erase(db: Connection, mailbox_id: int) -> int:
    """Remove a mailbox, its registrations and rows; later sweeps remove the rest of the rows."""
    removed = remove_agents(
        db,
        "(mailbox, generation)=(SELECT address, generation FROM mailboxes WHERE id=?)",
        (mailbox_id,),
    )
    db.execute(
        "UPDATE state SET expired=state.expired+m.expired, replaced=state.replaced+m.replaced,"
        " deleted=state.deleted+m.deleted, evicted=state.evicted+m.evicted,"
        " dropped=dropped+m.messages FROM mailboxes m WHERE m.id=?",
        (mailbox_id,),
    )
    db.execute("DELETE FROM mailboxes WHERE id=?", (mailbox_id,))
    rows, is_all = _erase_rows(db, mailbox_id, _ERASED_AT_ONCE)
    if not is_all:
        db.execute("INSERT INTO erased VALUES (?)", (mailbox_id,))
    return len(removed) + 1 + rows


def _erase_rows(db: Connection, mailbox_id: int, most: int) -> tuple[int, bool]:
    """Remove rows of a mailbox; return how many, and whether none are left."""
    removed = 0
    for table, key in _OF_A_MAILBOX:
        room = most - removed
        if table in {"messages", "delayed"}:
            room = min(room, _first_rows(db, table, key, mailbox_id, room))
        removed += db.execute(
            f"DELETE FROM {table} WHERE ({key}) IN"  # noqa: S608  # constant names
            f" (SELECT {key} FROM {table} WHERE mailbox=? ORDER BY {key} LIMIT ?)",
            (mailbox_id, room),
        ).rowcount
        left = f"SELECT 1 FROM {table} WHERE mailbox=? LIMIT 1"  # noqa: S608  # constant names
        if removed == most or db.execute(left, (mailbox_id,)).fetchone() is not None:
            return removed, False
    return removed, True


def _first_rows(db: Connection, table: str, key: str, mailbox_id: int, most: int) -> int:
    """Count the first rows, at least one, whose payloads together stay within the limit."""
    sizes = db.execute(
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


def erase_rest(db: Connection, most: int) -> int:
    """Remove rows of removed mailboxes; return how many, at least ``most`` while some are left."""
    removed = 0
    while removed < most:
        row = db.execute("SELECT mailbox FROM erased ORDER BY mailbox LIMIT 1").fetchone()
        if row is None:
            return removed
        rows, is_all = _erase_rows(db, row[0], most - removed)
        removed += rows
        if not is_all:
            return max(removed, most)
        db.execute("DELETE FROM erased WHERE mailbox=?", row)
    return removed


def erase_expired(db: Connection, now: int, most: int) -> int:
    """Remove mailboxes whose TTL has passed, the oldest first; return how many rows."""
    expired = db.execute(
        "SELECT id FROM mailboxes WHERE expires_ms<=? ORDER BY expires_ms, id LIMIT ?", (now, most)
    ).fetchall()
    removed = 0
    for (mailbox_id,) in expired:
        removed += erase(db, mailbox_id)
        if removed >= most:
            break
    return removed


def remove_agents(db: Connection, condition: str, values: Sequence[object]) -> list[str]:
    """Remove the registrations that meet a condition; return their keys, sorted.

    The removals are recorded for the indexes of the registry.
    """
    removed = db.execute(
        f"SELECT id, key FROM agents WHERE {condition} ORDER BY id",  # noqa: S608  # constant text
        values,
    ).fetchall()
    for id_, _ in removed:
        db.execute("DELETE FROM agents WHERE id=?", (id_,))
        number = db.execute("INSERT INTO agents_removed (agent) VALUES (?)", (id_,)).lastrowid
        assert number is not None  # noqa: S101  # a row was inserted
        if number % _FORGOTTEN_TOGETHER == 0:
            db.execute("DELETE FROM agents_removed WHERE number<=?", (number - _REMOVALS_KEPT,))
    return sorted(key for _, key in removed)
