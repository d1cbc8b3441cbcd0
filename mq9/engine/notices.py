"""NOTICE: what a host reports to its session about waiting mail.

Each message is reported once to each session. A session has a mark: all messages below it were
reported. Receipts record which messages were reported or held back. The limits of automatic turns
count those of the mailbox. Waiting messages are those that the group named like the mailbox
could get.
"""

from __future__ import annotations

from collections.abc import Sequence
from sqlite3 import Connection
from typing import NamedTuple

import orjson

from mq9.engine import agents, groups, mailboxes, messages
from mq9.engine.commands import Actor, Call, Limits
from mq9.engine.mailboxes import MailboxRow
from mq9.models import (
    AUTOMATIC,
    PRIORITIES,
    Notice,
    NoticeReceipt,
    NoticeSender,
    Occasion,
    Unread,
)
from mq9.protocol.checks import EVERYONE, KNOWN
from mq9.protocol.requests import Notify

SENDER, IN_A_ROW, PER_HOUR, COOLDOWN = "sender", "in a row", "per hour", "cooldown"
_HOUR_MS = 3_600_000
_MOST_RECEIPTS = 200  # of a mailbox
_MOST_SESSIONS = 50  # of a mailbox
_MOST_REPORTED = 100  # receipts of one message in a reply
_MOST_NAMED = 5  # senders
_MOST_SENDERS = 20  # that are looked up
_LOOKED_AT = 1_000  # new messages that are searched for senders, and messages to a sender


class _Session(NamedTuple):
    """A row of notice_sessions."""

    next_id: int = 0
    in_a_row: int = 0


class _Held(NamedTuple):
    """The reason why an automatic turn is held back."""

    why: str
    limit: int | None = None
    until_ms: int | None = None


class _Sender(NamedTuple):
    """A claimed or verified sender of new messages."""

    name: str | None
    verified: int
    messages: int


def notify(db: Connection, call: Call[Notify], now: int, _limits: Limits) -> Notice:
    """Return the notice for a session, and store what was reported."""
    mailbox = messages.advance(db, call.address, now)
    request, session = call.request, _session(db, mailbox, call.request)
    notice, held = _look(db, mailbox, session, call, now)
    in_a_row = _in_a_row(session, request, told=notice.told)
    if notice.told or in_a_row != session.in_a_row:
        next_id = session.next_id if notice.to_id is None else notice.to_id + 1
        _keep_session(db, mailbox, request, _Session(next_id, in_a_row), now)
    if notice.told or _is_newly_held(db, mailbox, request, notice):
        _keep_receipt(db, mailbox, request, notice, None if held is None else held.limit, now)
    return notice


def find_unchanged(db: Connection, call: Call[Notify], now: int) -> Notice | None:
    """Return a notice that needs no change of the state; None for any other."""
    mailbox = mailboxes.look(db, call.address, now)
    if mailbox is None or not mailboxes.is_current(mailbox, now):
        return None
    session = _session(db, mailbox, call.request)
    notice, _ = _look(db, mailbox, session, call, now)
    is_kept = notice.told or _is_newly_held(db, mailbox, call.request, notice)
    is_changed = _in_a_row(session, call.request, told=notice.told) != session.in_a_row
    return None if is_kept or is_changed else notice


def of_message(db: Connection, mailbox: MailboxRow, msg_id: int) -> tuple[NoticeReceipt, ...]:
    """Return the latest receipts of a message, oldest first."""
    rows = db.execute(
        "SELECT host, session, occasion, at_ms, held, most FROM notices WHERE mailbox=?"
        " AND from_id<=? AND to_id>=? ORDER BY number DESC LIMIT ?",
        (mailbox.id, msg_id, msg_id, _MOST_REPORTED),
    ).fetchall()
    return tuple(
        NoticeReceipt(
            host=host,
            session=session,
            occasion=Occasion(occasion),
            at=at_ms / 1000,
            outcome="told" if held is None else "held",
            held=held,
            limit=limit,
        )
        for host, session, occasion, at_ms, held, limit in reversed(rows)
    )


def _session(db: Connection, mailbox: MailboxRow, request: Notify) -> _Session:
    """Return the mark of a session; a new session has none."""
    row = db.execute(
        "SELECT next_id, in_a_row FROM notice_sessions WHERE mailbox=? AND host=? AND session=?",
        (mailbox.id, request.host, request.session),
    ).fetchone()
    return _Session() if row is None else _Session(*row)


def _in_a_row(session: _Session, request: Notify, *, told: bool) -> int:
    """Return the number of successive automatic turns after a notice."""
    if request.occasion is Occasion.PROMPT:
        return 0
    return session.in_a_row + (told and request.occasion in AUTOMATIC)


def _look(
    db: Connection, mailbox: MailboxRow, session: _Session, call: Call[Notify], now: int
) -> tuple[Notice, _Held | None]:
    """Return the notice for a session, and the reason if it is held back."""
    group = groups.find(db, mailbox, mailbox.address, now)
    unread = Unread(*messages.count_waiting(db, mailbox, group, now))
    cursors = [0] * len(PRIORITIES) if group is None else group.cursors
    wanted: dict[str, int] = {
        "mailbox": mailbox.id,
        "group": -1 if group is None else group.id,
        "now": now,
        "next_id": session.next_id,
    }
    for priority, cursor in zip(PRIORITIES, cursors, strict=True):
        wanted[priority] = max(cursor, session.next_id)
    lanes = db.execute(_COUNTED, wanted).fetchall() if unread.total else []
    if not lanes:
        return Notice(told=False, new=Unread(), unread=unread), None
    senders = [_Sender(*row) for row in db.execute(_SENDERS, wanted)]
    held = _reason_to_hold(db, mailbox, session, call, senders, now)
    named = _named(db, mailbox, call.actor, senders, now)
    until_ms = None if held is None else held.until_ms
    notice = Notice(
        told=held is None,
        new=Unread(**{PRIORITIES[lane].value: count for lane, count, _, _ in lanes}),
        unread=unread,
        senders=named,
        others=len(senders) - len(named),
        from_id=min(first for _, _, first, _ in lanes),
        to_id=max(last for _, _, _, last in lanes),
        held=None if held is None else held.why,
        held_until=None if until_ms is None else until_ms / 1000,
    )
    return notice, held


_FRESH = (
    "SELECT priority, msg_id FROM messages WHERE mailbox=:mailbox AND priority={0} AND msg_id>=:{1}"
)
# The messages that are new to a session: new ones, and those that the group could get again.
_FREE = (
    f"SELECT priority, msg_id FROM {groups.LEASES} WHERE group_id=:group"  # noqa: S608  # constant text
    " AND (until_ms IS NULL OR until_ms<=:now) AND msg_id>=:next_id"
)
_NEW = " UNION ALL ".join(
    [*(_FRESH.format(lane, priority) for lane, priority in enumerate(PRIORITIES)), _FREE]
)
_COUNTED = f"SELECT priority, count(*), min(msg_id), max(msg_id) FROM ({_NEW}) GROUP BY priority"  # noqa: S608  # constant text
# The senders of the newest of these: verified ones first, then by number of messages.
_SENDERS = (
    "SELECT m.sender, m.sender_verified, count(*) AS count"  # noqa: S608  # constant text
    f" FROM (SELECT msg_id FROM ({_NEW}) ORDER BY msg_id DESC LIMIT {_LOOKED_AT}) n"
    " CROSS JOIN messages m ON m.mailbox=:mailbox AND m.msg_id=n.msg_id"
    " GROUP BY m.sender, m.sender_verified ORDER BY m.sender_verified DESC, count DESC, m.sender"
)


def _reason_to_hold(
    db: Connection,
    mailbox: MailboxRow,
    session: _Session,
    call: Call[Notify],
    senders: Sequence[_Sender],
    now: int,
) -> _Held | None:
    """Return why a notice is held back; only automatic turns are."""
    request = call.request
    if request.occasion not in AUTOMATIC:
        return None
    if not _may_any_wake(db, mailbox, call, senders, now):
        return _Held(SENDER)
    if session.in_a_row >= request.max_in_a_row:
        return _Held(IN_A_ROW, request.max_in_a_row)
    taken = _automatic_turns(db, mailbox, now - _HOUR_MS)
    if len(taken) >= request.max_per_hour:
        ends_ms = taken[request.max_per_hour - 1] + _HOUR_MS if request.max_per_hour else None
        return _Held(PER_HOUR, request.max_per_hour, ends_ms)
    rested_ms = taken[0] + request.cooldown_s * 1_000 if taken else now
    if request.occasion is Occasion.IDLE and rested_ms > now:
        return _Held(COOLDOWN, request.cooldown_s, rested_ms)
    return None


_IS_AUTOMATIC = f"(held IS NULL AND occasion IN ('{Occasion.STOP}', '{Occasion.IDLE}'))"


def turns(db: Connection, mailbox: MailboxRow, now: int) -> int:
    """Count the automatic turns that mail of a mailbox began in the last hour."""
    return len(_automatic_turns(db, mailbox, now - _HOUR_MS))


def _automatic_turns(db: Connection, mailbox: MailboxRow, after_ms: int) -> list[int]:
    """Return when automatic turns of a mailbox began after an instant, latest first."""
    rows = db.execute(
        f"SELECT at_ms FROM notices WHERE mailbox=? AND {_IS_AUTOMATIC} AND at_ms>?"  # noqa: S608  # constant text
        " ORDER BY number DESC",
        (mailbox.id, after_ms),
    )
    return [at_ms for (at_ms,) in rows]


def _may_any_wake(
    db: Connection,
    mailbox: MailboxRow,
    call: Call[Notify],
    senders: Sequence[_Sender],
    now: int,
) -> bool:
    """Tell whether one of the senders may begin an automatic turn.

    If the broker authenticates agents, claimed names do not count.
    """
    may_wake = call.request.may_wake
    if may_wake == EVERYONE:
        return True
    for name, verified, _ in senders[:_MOST_SENDERS]:
        if name is None or (call.actor.is_known and not verified):
            continue
        if may_wake == KNOWN:
            may = _wrote_to(db, mailbox, call.actor, name, now)
        else:
            may = name in may_wake
        if may:
            return True
    return False


def _named(
    db: Connection,
    mailbox: MailboxRow,
    actor: Actor,
    senders: Sequence[_Sender],
    now: int,
) -> tuple[NoticeSender, ...]:
    """Return the senders that a notice may name.

    They are verified, and have registered or got mail from the owner.
    """
    named: list[NoticeSender] = []
    for name, verified, count in senders[:_MOST_SENDERS]:
        if name is None or not verified or len(named) == _MOST_NAMED:
            break
        if agents.is_registered_by_itself(db, name, now) or _wrote_to(
            db, mailbox, actor, name, now
        ):
            named.append(NoticeSender(name, count))
    return tuple(named)


_WROTE = (
    "SELECT EXISTS (SELECT 1 FROM (SELECT sender, sender_verified, reply_to, moved FROM messages"
    " WHERE mailbox=:mailbox ORDER BY msg_id DESC LIMIT :most) WHERE moved IS NULL"
    " AND (sender IN (SELECT value FROM json_each(:owners)) AND sender_verified>=:verified"
    " OR reply_to=:address AND NOT :verified))"
)


def _wrote_to(db: Connection, mailbox: MailboxRow, actor: Actor, name: str, now: int) -> bool:
    """Tell whether a sender got a message from the owner of a mailbox that is still stored.

    If the broker authenticates agents, it is a verified message in a mailbox of the sender.
    Otherwise it is a message that names an agent of the mailbox as sender, or the mailbox as
    ``reply_to``.
    """
    owners = {actor.agent, actor.owner, mailbox.creator} - {None}
    if not actor.is_known:
        owners |= agents.names_at(db, mailbox.address, now)
    wanted = {
        "owners": orjson.dumps(sorted(filter(None, owners))).decode(),
        "address": mailbox.address,
        "verified": actor.is_known,
        "most": _LOOKED_AT,
    }
    boxes = mailboxes.look_at_all(db, agents.mailboxes_of(db, name, now), now)
    return any(
        db.execute(_WROTE, {**wanted, "mailbox": box.id}).fetchone()[0]
        for box in boxes.values()
        if not actor.is_known or box.may_take(Actor(name))
    )


def _keep_session(
    db: Connection, mailbox: MailboxRow, request: Notify, session: _Session, now: int
) -> None:
    """Store the mark of a session, and remove the least recently used sessions."""
    db.execute(
        "INSERT OR REPLACE INTO notice_sessions (mailbox, host, session, next_id, in_a_row,"
        " used_ms) VALUES (?,?,?,?,?,?)",
        (mailbox.id, request.host, request.session, *session, now),
    )
    db.execute(
        "DELETE FROM notice_sessions WHERE (mailbox, host, session) IN (SELECT mailbox, host,"
        " session FROM notice_sessions WHERE mailbox=? ORDER BY used_ms DESC, next_id DESC, host,"
        " session LIMIT -1 OFFSET ?)",
        (mailbox.id, _MOST_SESSIONS),
    )


def _is_newly_held(db: Connection, mailbox: MailboxRow, request: Notify, notice: Notice) -> bool:
    """Tell whether a notice is held and differs from the session's last receipt."""
    if notice.held is None:
        return False
    last = db.execute(
        "SELECT held, to_id FROM notices WHERE mailbox=? AND host=? AND session=?"
        " ORDER BY number DESC LIMIT 1",
        (mailbox.id, request.host, request.session),
    ).fetchone()
    is_recorded: bool = last == (notice.held, notice.to_id)
    return not is_recorded


def _keep_receipt(
    db: Connection,
    mailbox: MailboxRow,
    request: Notify,
    notice: Notice,
    limit: int | None,
    now: int,
) -> None:
    """Store a receipt and remove the oldest ones, except turns that the limits still count."""
    db.execute(
        "INSERT INTO notices (mailbox, number, host, session, occasion, from_id, to_id, at_ms,"
        " held, most) SELECT :mailbox, coalesce(max(number), 0) + 1, :host, :session, :occasion,"
        " :from_id, :to_id, :now, :held, :limit FROM notices WHERE mailbox=:mailbox",
        {
            "mailbox": mailbox.id,
            "host": request.host,
            "session": request.session,
            "occasion": request.occasion.value,
            "from_id": notice.from_id,
            "to_id": notice.to_id,
            "now": now,
            "held": notice.held,
            "limit": limit,
        },
    )
    db.execute(
        "DELETE FROM notices WHERE mailbox=? AND number IN (SELECT number FROM notices"  # noqa: S608  # constant text
        f" WHERE mailbox=? ORDER BY {_IS_AUTOMATIC} AND at_ms>? DESC, number DESC"
        " LIMIT -1 OFFSET ?)",
        (mailbox.id, mailbox.id, now - _HOUR_MS, _MOST_RECEIPTS),
    )
