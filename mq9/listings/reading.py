"""The messages of one conversation, and the links from senders to mailboxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from sqlite3 import Connection
from typing import Any, NamedTuple

import orjson

from mq9.engine import mailboxes, messages, state
from mq9.engine.commands import Actor
from mq9.engine.messages import Outdated
from mq9.engine.standings import FETCHED, MOVED, WAITING, GroupStanding, standings
from mq9.listings import index
from mq9.listings.conversations import (
    LIVE,
    MOST_COUNTED,
    ROW_COLUMNS,
    Rights,
    Row,
    question_of,
    refuse_unknown,
)
from mq9.models import Link, Moved, Progress, Standing
from mq9.protocol.outcomes import ReadMessage, ReadPart, Stored
from mq9.protocol.requests import ListLinks, ReadConversation

_MOST_ALIKE = 20  # messages of a correlation id that are searched for a question
_MOST_LINKS = 20_000  # that one request examines
_BEGINNING = (-1, 0, 0)
# A single message without a conversation, as a row c of the index.
_SENDER = (
    "ifnull((SELECT -id FROM conversation_senders s WHERE s.name=m.sender"
    " AND s.verified=m.sender_verified), 0)"
)
_ALONE = (
    f"(SELECT visible_ms AS at_ms, mailbox, msg_id AS number, {_SENDER} AS sender FROM messages m"  # noqa: S608  # constant text
    " WHERE mailbox=:mailbox AND msg_id=:number UNION ALL"
    f" SELECT sent_ms, mailbox, -id, {_SENDER} FROM delayed m"
    " WHERE mailbox=:mailbox AND id=-:number) c"
)
_ROWS = (
    "(SELECT * FROM conversation_messages WHERE conversation=:conversation"
    " AND (at_ms, mailbox, number)>(:at_ms, :of, :last)"
    " ORDER BY at_ms, mailbox, number LIMIT :counted) c"
)
_QUESTIONS = (
    "SELECT m.visible_ms, m.mailbox, m.msg_id, 0, b.address, m.sender, m.sender_verified,"
    " m.reply_to, m.correlation_id, m.priority, m.moved, NULL, NULL, 0 FROM messages m"
    " INDEXED BY messages_correlation CROSS JOIN mailboxes b ON b.id=m.mailbox"
    " AND (b.expires_ms IS NULL OR b.expires_ms>:now) WHERE m.correlation_id=:correlation_id"
    " AND (m.expires_ms IS NULL OR m.expires_ms>:now) ORDER BY m.mailbox, m.msg_id LIMIT :most"
)
_DELAYED = (
    "SELECT -1, payload, priority, due_ms/1000, json_array(key, tags, sender, sender_verified,"
    " from_mailbox, reply_to, correlation_id, path, headers, NULL, answer_by_ms/1000, 0)"
    " FROM delayed WHERE id=?"
)


def read(
    db: Connection,
    request: ReadConversation,
    actor: Actor,
    now: int,
    building: Progress | None,
    *,
    as_text: bool,
) -> ReadPart:
    """Return a part of a conversation, oldest first."""
    refuse_unknown(actor)
    position = state.position(db).applied
    found = _Found([], None)
    rights = Rights(db, actor, now)
    if index.is_usable(db):
        found = _rows(db, request, rights, now)
    mailbox_rows = [rights.row(row.mailbox) for row in found.rows]
    outdated = {
        one.address
        for one in mailbox_rows
        if one is not None and not mailboxes.is_current(one, now)
    }
    if outdated:
        raise Outdated(*outdated)
    listed: list[ReadMessage] = []
    room, more = request.max_bytes, found.more
    stand = standings(db, [row.wanted for row in found.rows if row.due_ms is None], now)
    questions = _questions(db, found.rows, rights, actor, now)
    for place, row in enumerate(found.rows):
        stored = _stored(db, row)
        room -= messages.reply_bytes(stored, as_text=as_text)
        if place == request.limit or (listed and room < 0):
            more = _place(found.rows[place - 1])
            break
        question = question_of(row, questions)
        standing = None
        if row.due_ms is None:
            standing = _standing(row, stand.get(row.place), now)
            if not rights.may_look(row.mailbox):
                standing = _of_sender(standing)
        listed.append(
            ReadMessage(
                mail_address=row.address,
                stored=stored,
                standing=standing,
                in_reply_to=None if question is None else (question.address, question.number),
                due=None if row.due_ms is None else row.due_ms / 1000,
            )
        )
    return ReadPart(messages=tuple(listed), more=more, building=building, position=position)


class _Found(NamedTuple):
    rows: list[Row]
    more: str | None


def _place(row: Row | tuple[int, ...]) -> str:
    return ".".join(map(str, row[:3]))


def _rows(db: Connection, request: ReadConversation, rights: Rights, now: int) -> _Found:
    """Return one more message than the limit, oldest first, and the place to continue from."""
    after = request.after
    at_ms, of, last = _BEGINNING if after is None else map(int, after.split("."))
    parameters: dict[str, Any] = {
        "now": now,
        "counted": MOST_COUNTED,
        "most": request.limit + 1,
        "at_ms": at_ms,
        "of": of,
        "last": last,
    }
    alone = _alone(db, request.id, now)
    if isinstance(alone, tuple):
        source, visible = _ALONE, "1"
        parameters |= {"mailbox": alone[0], "number": alone[1]}
        if not rights.sees_all:
            visible, own = rights.condition_at(alone[0])
            parameters |= own
        visible += " AND (c.at_ms, c.mailbox, c.number)>(:at_ms, :of, :last)"
        ends: list[tuple[int, ...]] = []
    else:
        row = db.execute("SELECT id FROM conversations WHERE name=?", (alone,)).fetchone()
        if row is None:
            return _Found([], None)
        source = _ROWS
        visible, values = rights.condition(row[0])
        parameters |= {"conversation": row[0], **values}
        ends = db.execute(
            "SELECT at_ms, mailbox, number FROM conversation_messages WHERE conversation=?"
            " AND (at_ms, mailbox, number)>(?,?,?)"
            " ORDER BY at_ms, mailbox, number LIMIT 1 OFFSET ?",
            (row[0], at_ms, of, last, MOST_COUNTED - 1),
        ).fetchall()
    rows = db.execute(
        f"SELECT {ROW_COLUMNS} FROM {source}{LIVE} AND {visible}"  # noqa: S608  # constant text
        " ORDER BY c.at_ms, c.mailbox, c.number LIMIT :most",
        parameters,
    ).fetchall()
    return _Found([Row(*one) for one in rows], _place(ends[0]) if ends else None)


def _alone(db: Connection, id_: str, now: int) -> str | tuple[int, int]:
    """Return the name of a conversation, or the mailbox and number of a single message."""
    if not id_.startswith("/"):
        return id_
    address, slash, number = id_[1:].rpartition("/")
    if id_.startswith("//") or not slash or not number.removeprefix("-").isdecimal():
        return id_[1:]
    mailbox = mailboxes.look(db, address, now)
    if mailbox is None:
        return 0, 0
    name = index.name_of(db, mailbox.id, int(number))
    return (mailbox.id, int(number)) if name is None else name


def _stored(db: Connection, row: Row) -> Stored:
    if row.due_ms is not None:
        return messages.from_row(db.execute(_DELAYED, (-row.number,)).fetchone())
    found = db.execute(
        f"SELECT {messages.COLUMNS} FROM messages WHERE mailbox=? AND msg_id=?",  # noqa: S608  # constant columns
        (row.mailbox, row.number),
    )
    return messages.from_row(found.fetchone())


def _standing(row: Row, standing: GroupStanding | None, now: int) -> Standing:
    if standing is None:
        return Standing(group_name=row.address, state="pending")
    general = Standing(
        group_name=standing.group,
        state=standing.state,
        deliveries=standing.deliveries,
        reason=standing.reason,
        promise=standing.promise,
    )
    until = None if standing.until_ms is None else standing.until_ms / 1000
    if standing.state == FETCHED:
        return replace(general, state="leased", consumer=standing.holder, until=until)
    if standing.state == MOVED:
        moved = None if standing.moved is None else Moved(**orjson.loads(standing.moved))
        return replace(
            general, moved_to=standing.target, moved_as=standing.copy, moved=moved, deliveries=0
        )
    if standing.state != WAITING:
        return general
    if standing.holder == "" and standing.until_ms is not None and standing.until_ms > now:
        return replace(general, state="given_back", until=until)
    return replace(general, state="skipped" if standing.is_skipped else "pending")


def _of_sender(standing: Standing) -> Standing:
    """Remove the details that need the right to read the mailbox, as SENT does."""
    promise = standing.promise
    return Standing(
        group_name=standing.group_name,
        state=standing.state,
        until=standing.until,
        deliveries=standing.deliveries,
        promise=None if promise is None else replace(promise, by=None),
    )


def _questions(
    db: Connection, rows: Sequence[Row], rights: Rights, actor: Actor, now: int
) -> list[Row]:
    """Return the visible messages that ``rows`` may answer, by correlation id."""
    ids = dict.fromkeys(row.correlation_id for row in rows if row.correlation_id is not None)
    found: list[Row] = []
    for correlation_id in ids:
        candidates = db.execute(
            _QUESTIONS, {"correlation_id": correlation_id, "now": now, "most": _MOST_ALIKE}
        )
        found += (
            one
            for one in map(Row._make, candidates)
            if one.reply_to is not None
            and (
                rights.may_look(one.mailbox) or (one.author == (actor.agent, 1) and not one.is_copy)
            )
        )
    return sorted(found, key=lambda one: one.moved is not None)  # copies last


def links(db: Connection, request: ListLinks, actor: Actor, now: int) -> tuple[Link, ...]:
    """Return the links from senders to mailboxes, latest first."""
    refuse_unknown(actor)
    if not index.is_usable(db):
        return ()
    rights = Rights(db, actor, now)
    since_ms = 0 if request.since is None else request.since * 1000
    rows: Iterable[tuple[Any, ...]] = db.execute(
        "SELECT l.sender, l.mailbox, s.name, coalesce(s.verified, 0), l.messages, l.last_ms"
        " FROM conversation_links l LEFT JOIN conversation_senders s ON s.id=-l.sender"
        " WHERE l.last_ms>=? ORDER BY l.last_ms DESC LIMIT ?",
        (since_ms, _MOST_LINKS),
    )
    found: list[Link] = []
    for sender, mailbox_id, name, verified, count, last_ms in rows:
        mailbox = rights.row(mailbox_id)
        if mailbox is None or not (rights.may_look(mailbox_id) or sender == rights.own != 0):
            continue
        found.append(
            Link(
                sender=name,
                verified=bool(verified),
                mail_address=mailbox.address,
                count=count,
                last=last_ms / 1000,
            )
        )
        if len(found) == request.limit:
            break
    return tuple(found)
