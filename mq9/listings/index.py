"""The index of conversations: tables, derived from messages, that map each to its conversation.

A listing updates the index, a part at a time. The next msg_id of each mailbox and the highest id of
a delayed message show what is new. Readers skip removed messages, whose rows are deleted little by
little. The tables may be dropped at any time.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from sqlite3 import Connection
from typing import NamedTuple

import orjson

from mq9.engine import state
from mq9.models import CONVERSATION, PART_OF, Progress
from mq9.protocol.reserved import MOVED_ASIDE
from mq9.storage.schema import (
    CONVERSATION_INDEXES,
    CONVERSATION_TABLES,
    drop_conversations,
)

VERSION = "1"  # of the rules for indexing messages
AT_ONCE = 2_000  # messages that one transaction indexes
_CHECKED = 500  # rows, at least, that are checked for a message that is gone
_GONE_AT_ONCE = 100  # removed mailboxes
_MOST_NAMED_ALIKE = 4  # messages of a correlation id that are searched for its conversation
# The name of the conversation of a message m; NULL for a single message. An answer belongs to the
# conversation of its question without naming it.
_NAMED = (
    f"coalesce(json_extract(m.headers, '$.\"{PART_OF}\"'),"
    f" json_extract(m.headers, '$.\"{CONVERSATION}\"'))"
)
_NAME = (
    f"coalesce({_NAMED}, (SELECT {_NAMED.replace('m.', 'o.')} FROM (SELECT headers FROM messages"  # noqa: S608  # constant text
    " WHERE correlation_id={id} ORDER BY mailbox, msg_id"
    f" LIMIT {_MOST_NAMED_ALIKE}) o WHERE o.headers IS NOT NULL LIMIT 1), {{id}})"
)
_NAME_DELAYED = _NAME.format(id="m.correlation_id")
# The broker's notice of an overdue answer names its question in the body.
_NAME_VISIBLE = _NAME.format(
    id="iif(m.overdue, json_extract(CAST(m.payload AS TEXT), '$.correlation_id'), m.correlation_id)"
)
# Whether a message was moved to its mailbox, except back: it was not sent there.
_IS_COPY = "(m.moved IS NOT NULL AND coalesce(json_extract(m.moved, '$.back'), 0)=0)"
_IS_DEAD = f"({_IS_COPY} AND json_extract(m.moved, '$.reason') IS NOT '{MOVED_ASIDE}')"
COPIED = 1  # in place of the sender of a copy
_NEW = (
    f"SELECT m.msg_id, m.visible_ms, m.sender, m.sender_verified, {_NAME_VISIBLE},"  # noqa: S608  # constant text
    f" {_IS_COPY}, {_IS_DEAD}, m.correlation_id, m.answer_by_ms"
    " FROM messages m WHERE m.mailbox=? AND m.msg_id>=? AND m.msg_id<? ORDER BY m.msg_id LIMIT ?"
)
_NEW_DELAYED = (
    f"SELECT m.id, m.mailbox, m.sent_ms, m.sender, m.sender_verified, {_NAME_DELAYED}"  # noqa: S608  # constant text
    " FROM delayed m WHERE m.id>? ORDER BY m.id LIMIT ?"
)
# The number of indexed mailboxes. For each mailbox with new messages its id, next msg_id, and an
# upper bound of the messages left. One walk over the mailboxes finds all of it.
_BEHIND = (
    "SELECT count(c.mailbox), json_group_array(json_array(b.id, b.next_msg_id,"
    " iif(c.next_id IS NULL, b.messages-b.delayed,"
    " min(b.messages-b.delayed, b.next_msg_id-c.next_id))))"
    " FILTER (WHERE b.next_msg_id>coalesce(c.next_id, 0))"
    " FROM mailboxes b LEFT JOIN conversation_mailboxes c ON c.mailbox=b.id"
)
_REMOVED = (
    "SELECT mailbox FROM conversation_mailboxes c"
    " WHERE NOT EXISTS (SELECT 1 FROM mailboxes b WHERE b.id=c.mailbox) LIMIT ?"
)
# Whether a question q has a stored answer, or no mailbox for one. And whether a certain message
# answers a question a of the index.
IS_ANSWERED = (
    "(NOT EXISTS (SELECT 1 FROM mailboxes b WHERE b.address=q.reply_to)"
    " OR EXISTS (SELECT 1 FROM mailboxes b CROSS JOIN messages n ON n.mailbox=b.id"
    " AND n.correlation_id=q.correlation_id AND (q.sender IS NULL OR n.sender IS NOT q.sender)"
    " AND (n.mailbox, n.msg_id)<>(q.mailbox, q.msg_id) WHERE b.address=q.reply_to))"
)
_ITS_ANSWER = (
    "SELECT 1 FROM messages q CROSS JOIN mailboxes b CROSS JOIN messages n"
    " WHERE q.mailbox=a.mailbox AND q.msg_id=a.msg_id AND b.address=q.reply_to AND n.mailbox=?"
    " AND n.msg_id=? AND n.mailbox=b.id AND (q.sender IS NULL OR n.sender IS NOT q.sender)"
    " AND (n.mailbox, n.msg_id)<>(q.mailbox, q.msg_id)"
)
_LATER = "last_ms=max(last_ms, excluded.last_ms), messages=messages+excluded.messages"
# Whether the message of a row c of the index still exists.
IS_STORED = (
    "iif(c.number<0, EXISTS (SELECT 1 FROM delayed d WHERE d.id=-c.number),"
    " EXISTS (SELECT 1 FROM messages m WHERE m.mailbox=c.mailbox AND m.msg_id=c.number))"
    " AND EXISTS (SELECT 1 FROM mailboxes b WHERE b.id=c.mailbox)"
)


@dataclass(slots=True)
class ToDo:
    """The messages that the index lacks."""

    position: int  # of the state
    done: int = 0  # indexed messages
    left: int = 0  # messages to index, about
    mailboxes: list[tuple[int, int]] = field(default_factory=list)  # ids and next msg_ids
    removed: list[int] = field(default_factory=list)  # mailboxes
    delayed: int = 0  # the highest id of a delayed message
    has_delayed: bool = False

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.mailboxes or self.removed or self.has_delayed)

    @property
    def progress(self) -> Progress | None:
        """The progress; None if nothing is left to do."""
        if self.is_done:
            return None
        return Progress(self.done, self.done + max(self.left, 1))


class _NewMessage(NamedTuple):
    """A message to index."""

    mailbox: int
    number: int  # msg_id, or the negative id of a delayed message
    at_ms: int
    sender: int  # its number among the senders, or COPIED
    name: str | None


def is_usable(db: Connection) -> bool:
    """Return whether the tables exist in the current version."""
    found = db.execute("SELECT 1 FROM sqlite_schema WHERE name='conversations_index'").fetchone()
    if found is None:
        return False
    row = db.execute("SELECT version FROM conversations_index").fetchone()
    return row is not None and row[0] == VERSION


def name_of(db: Connection, mailbox: int, number: int) -> str | None:
    """Return the name of a message's conversation; None if it has none or is gone."""
    name, which = _NAME_VISIBLE, "messages m WHERE mailbox=? AND msg_id=?"
    if number < 0:
        name, which = _NAME_DELAYED, "delayed m WHERE mailbox=? AND id=-?"
    row = db.execute(
        f"SELECT {name} FROM {which}",  # noqa: S608  # constant texts
        (mailbox, number),
    ).fetchone()
    return None if row is None else row[0]


def to_do(db: Connection) -> ToDo:
    """Return the messages that the index lacks."""
    position = state.position(db).applied
    if not is_usable(db):
        left, highest = db.execute(
            "SELECT coalesce(sum(messages), 0), (SELECT coalesce(max(id), 0) FROM delayed)"
            " FROM mailboxes"
        ).fetchone()
        behind = db.execute("SELECT id, next_msg_id FROM mailboxes WHERE next_msg_id>0").fetchall()
        return ToDo(position, 0, left, behind, [], highest, highest > 0)
    count, rows = db.execute(_BEHIND).fetchone()
    behind = orjson.loads(rows)
    known, done, taken, highest = db.execute(
        "SELECT (SELECT count(*) FROM conversation_mailboxes), messages, delayed,"
        " (SELECT coalesce(max(id), 0) FROM delayed) FROM conversations_index"
    ).fetchone()
    removed = db.execute(_REMOVED, (_GONE_AT_ONCE,)).fetchall() if known > count else []
    return ToDo(
        position,
        done,
        sum(left for _, _, left in behind),
        [(mailbox, next_id) for mailbox, next_id, _ in behind],
        [id_ for (id_,) in removed],
        highest,
        highest > taken,
    )


def index_part(db: Connection, task: ToDo) -> None:
    """Index some of the messages, and update the task."""
    if not is_usable(db):
        _make(db)
    if task.removed:
        _forget_mailbox(db, task)
        return
    room, taken = AT_ONCE, 0
    while task.mailboxes and room > 0:
        mailbox, end = task.mailboxes[-1]
        count, next_id = _index_mailbox(db, mailbox, end, room)
        if next_id >= end:
            task.mailboxes.pop()
        taken += count
        room -= max(count, 1)
    if task.has_delayed and room > 0:
        count, highest = _index_delayed(db, room)
        task.has_delayed = highest < task.delayed
        taken += count
    db.execute("UPDATE conversations_index SET messages=messages+?", (taken,))
    task.done += taken
    task.left = max(0, task.left - taken)
    check_some(db, max(_CHECKED, 2 * taken) if task.is_done else taken)


def _make(db: Connection) -> None:
    drop_conversations(db)
    for statement in (*CONVERSATION_TABLES.values(), *CONVERSATION_INDEXES):
        db.execute(statement)
    db.execute("INSERT INTO conversations_index VALUES (?,0,0,0,0,0,0)", (VERSION,))


def _index_mailbox(db: Connection, mailbox: int, end: int, most: int) -> tuple[int, int]:
    """Index messages of a mailbox before a msg_id; return their number and the next msg_id."""
    row = db.execute(
        "SELECT next_id FROM conversation_mailboxes WHERE mailbox=?", (mailbox,)
    ).fetchone()
    begin = 0 if row is None else int(row[0])
    new = db.execute(_NEW, (mailbox, begin, end, most)).fetchall()
    senders = _senders(db, ((row[2], row[3]) for row in new))
    _store(
        db,
        [
            _NewMessage(
                mailbox, msg_id, at_ms, COPIED if copied else senders[sender, verified], name
            )
            for msg_id, at_ms, sender, verified, name, copied, *_ in new
        ],
    )
    db.executemany(
        "INSERT OR IGNORE INTO conversation_dead VALUES (?,?)",
        [(mailbox, row[0]) for row in new if row[6]],
    )
    db.executemany(
        "DELETE FROM conversation_awaited AS a WHERE a.correlation_id=?"  # noqa: S608  # constant text
        f" AND EXISTS ({_ITS_ANSWER})",
        [(row[7], mailbox, row[0]) for row in new if row[7] is not None],
    )
    db.executemany(
        "INSERT OR IGNORE INTO conversation_awaited SELECT q.mailbox, q.msg_id, q.answer_by_ms,"  # noqa: S608  # constant text
        " q.correlation_id FROM messages q WHERE q.mailbox=? AND q.msg_id=?"
        f" AND q.reply_to IS NOT NULL AND q.correlation_id IS NOT NULL AND NOT {IS_ANSWERED}",
        [(mailbox, row[0]) for row in new if row[8] is not None],
    )
    next_id = end if len(new) < most else new[-1][0] + 1
    db.execute(
        "INSERT INTO conversation_mailboxes VALUES (?,?)"
        " ON CONFLICT (mailbox) DO UPDATE SET next_id=max(next_id, excluded.next_id)",
        (mailbox, next_id),
    )
    return len(new), next_id


def _index_delayed(db: Connection, most: int) -> tuple[int, int]:
    """Index delayed messages; return their number and the highest indexed id."""
    (after,) = db.execute("SELECT delayed FROM conversations_index").fetchone()
    new = db.execute(_NEW_DELAYED, (after, most)).fetchall()
    senders = _senders(db, ((sender, verified) for _, _, _, sender, verified, _ in new))
    _store(
        db,
        [
            _NewMessage(mailbox, -id_, at_ms, senders[sender, verified], name)
            for id_, mailbox, at_ms, sender, verified, name in new
        ],
    )
    if len(new) < most:
        (highest,) = db.execute("SELECT coalesce(max(id), 0) FROM delayed").fetchone()
        after = max(after, highest)
    else:
        after = new[-1][0]
    db.execute("UPDATE conversations_index SET delayed=?", (after,))
    return len(new), after


def _senders(
    db: Connection, wanted: Iterable[tuple[str | None, int]]
) -> dict[tuple[str | None, int], int]:
    """Return the numbers of senders, which are negative; 0 for none."""
    found: dict[tuple[str | None, int], int] = {}
    for sender in set(wanted):
        name, verified = sender
        if name is None:
            found[sender] = 0
            continue
        db.execute(
            "INSERT OR IGNORE INTO conversation_senders (name, verified) VALUES (?,?)", sender
        )
        found[sender] = sender_number(db, name, verified)
    return found


def sender_number(db: Connection, name: str, verified: int) -> int:
    """Return the number of a sender as a place; 0 if the index does not have the sender."""
    row = db.execute(
        "SELECT -id FROM conversation_senders WHERE name=? AND verified=?", (name, verified)
    ).fetchone()
    return 0 if row is None else int(row[0])


def _store(db: Connection, taken: Sequence[_NewMessage]) -> None:
    """Add new messages to their conversations."""
    named: dict[str, int] = {}  # time of the newest message, by conversation
    for one in taken:
        if one.name is not None:
            named[one.name] = max(named.get(one.name, 0), one.at_ms)
    db.executemany(
        "INSERT INTO conversations (name, last_ms, tie) VALUES (?,?,?)"
        " ON CONFLICT (name) DO UPDATE SET last_ms=max(last_ms, excluded.last_ms)",
        [(name, at_ms, _tie(name)) for name, at_ms in named.items()],
    )
    (newest,) = db.execute("SELECT coalesce(max(id), 0) FROM conversations").fetchone()
    alone: list[tuple[int, int, int]] = []
    rows: list[tuple[int, int, int, int, int]] = []
    ids: dict[str, int] = {}
    ties: dict[int, int] = {}
    places: dict[tuple[int, int], tuple[int, int]] = {}  # time of the newest, and their number
    links: Counter[tuple[int, int]] = Counter()
    lasts: dict[tuple[int, int], int] = {}
    for one in taken:
        if one.name is None:
            newest += 1
            id_ = newest
            ties[id_] = _tie(f"{one.mailbox}/{one.number}")
            alone.append((id_, one.at_ms, ties[id_]))
        else:
            if one.name not in ids:
                ids[one.name], tie = db.execute(
                    "SELECT id, tie FROM conversations WHERE name=?", (one.name,)
                ).fetchone()
                ties[ids[one.name]] = tie
            id_ = ids[one.name]
        rows.append((id_, one.at_ms, one.mailbox, one.number, one.sender))
        if one.sender != COPIED:
            links[one.sender, one.mailbox] += 1
            lasts[one.sender, one.mailbox] = max(lasts.get((one.sender, one.mailbox), 0), one.at_ms)
        for place in _places(one.mailbox, one.sender):
            last, count = places.get((place, id_), (0, 0))
            places[place, id_] = max(last, one.at_ms), count + 1
    db.executemany("INSERT INTO conversations (id, last_ms, tie) VALUES (?,?,?)", alone)
    db.executemany("INSERT OR IGNORE INTO conversation_messages VALUES (?,?,?,?,?)", rows)
    db.executemany(
        "INSERT INTO conversation_places VALUES (?,?,?,?,?) ON CONFLICT (place, conversation)"  # noqa: S608  # constant text
        f" DO UPDATE SET {_LATER}",
        [(place, id_, last, ties[id_], count) for (place, id_), (last, count) in places.items()],
    )
    db.executemany(
        "INSERT INTO conversation_links VALUES (?,?,?,?) ON CONFLICT (sender, mailbox)"  # noqa: S608  # constant text
        f" DO UPDATE SET {_LATER}",
        [(*link, count, lasts[link]) for link, count in links.items()],
    )


def _places(mailbox: int, sender: int) -> tuple[int, ...]:
    """Return the places of a conversation with such a message."""
    return (mailbox, sender) if sender < 0 else (mailbox,)


def _tie(name: str) -> int:
    """Return the sort key of conversations of the same instant, equal in every index."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest())


def _forget_mailbox(db: Connection, task: ToDo) -> None:
    """Remove some conversations of a removed mailbox; finish the mailbox if there are none."""
    mailbox = task.removed[-1]
    ids = [
        id_
        for (id_,) in db.execute(
            "SELECT conversation FROM conversation_places WHERE place=? LIMIT ?",
            (mailbox, AT_ONCE // 4),
        )
    ]
    if ids:
        rows = db.execute(
            "SELECT conversation, at_ms, mailbox, number, sender FROM conversation_messages"
            " WHERE mailbox=? AND conversation IN (SELECT value FROM json_each(?)) LIMIT ?",
            (mailbox, orjson.dumps(ids).decode(), AT_ONCE),
        ).fetchall()
        _forget(db, rows)
        return
    for table in ("links", "dead", "awaited", "mailboxes"):
        db.execute(f"DELETE FROM conversation_{table} WHERE mailbox=?", (mailbox,))  # noqa: S608  # constant names
    task.removed.pop()


def check_some(db: Connection, most: int) -> None:
    """Check some rows, after the last checked one, and remove those of missing messages."""
    place = db.execute(
        "SELECT conversation, at_ms, mailbox, number FROM conversations_index"
    ).fetchone()
    rows = db.execute(
        "SELECT c.conversation, c.at_ms, c.mailbox, c.number, c.sender,"  # noqa: S608  # constant text
        f" {IS_STORED} FROM conversation_messages c"
        " WHERE (c.conversation, c.at_ms, c.mailbox, c.number)>(?,?,?,?)"
        " ORDER BY c.conversation, c.at_ms, c.mailbox, c.number LIMIT ?",
        (*place, most),
    ).fetchall()
    _forget(db, [row[:5] for row in rows if not row[5]])
    at = rows[-1][:4] if len(rows) == most else (0, 0, 0, 0)
    db.execute("UPDATE conversations_index SET conversation=?, at_ms=?, mailbox=?, number=?", at)


def forget_gone(db: Connection, conversations: Iterable[int]) -> None:
    """Remove the rows of missing messages from some conversations."""
    rows = db.execute(
        "SELECT c.conversation, c.at_ms, c.mailbox, c.number, c.sender"  # noqa: S608  # constant text
        " FROM json_each(?) j CROSS JOIN conversation_messages c ON c.conversation=j.value"
        f" WHERE NOT ({IS_STORED}) LIMIT ?",
        (orjson.dumps(list(conversations)).decode(), AT_ONCE),
    ).fetchall()
    _forget(db, rows)


def _forget(db: Connection, rows: Sequence[tuple[int, int, int, int, int]]) -> None:
    """Remove messages from their conversations."""
    if not rows:
        return
    db.executemany(
        "DELETE FROM conversation_messages"
        " WHERE conversation=? AND at_ms=? AND mailbox=? AND number=?",
        [row[:4] for row in rows],
    )
    for table in ("conversation_dead", "conversation_awaited"):
        db.executemany(
            f"DELETE FROM {table} WHERE mailbox=? AND msg_id=?",  # noqa: S608  # constant names
            [(mailbox, number) for _, _, mailbox, number, _ in rows],
        )
    links = Counter((sender, mailbox) for _, _, mailbox, _, sender in rows if sender != COPIED)
    db.executemany(
        "UPDATE conversation_links SET messages=messages-? WHERE sender=? AND mailbox=?",
        [(count, *link) for link, count in links.items()],
    )
    db.executemany(
        "DELETE FROM conversation_links WHERE messages<=0 AND sender=? AND mailbox=?", list(links)
    )
    gone = Counter(
        (place, id_) for id_, _, mailbox, _, sender in rows for place in _places(mailbox, sender)
    )
    db.executemany(
        "UPDATE conversation_places SET messages=messages-? WHERE place=? AND conversation=?",
        [(count, *place) for place, count in gone.items()],
    )
    db.executemany(
        "DELETE FROM conversation_places WHERE messages<=0 AND place=? AND conversation=?",
        list(gone),
    )
    # Set the time of each conversation to that of its newest remaining message.
    ids = list({id_ for id_, *_ in rows})
    left = "(SELECT max(at_ms) FROM conversation_messages WHERE conversation=?1)"
    db.executemany(
        f"UPDATE conversations SET last_ms={left} WHERE id=?1 AND last_ms>{left}",  # noqa: S608  # constant text
        [(id_,) for id_ in ids],
    )
    db.executemany(
        f"DELETE FROM conversations WHERE id=?1 AND {left} IS NULL",  # noqa: S608  # constant text
        [(id_,) for id_ in ids],
    )
    db.executemany(
        "UPDATE conversation_places SET last_ms=(SELECT last_ms FROM conversations WHERE id=?2)"
        " WHERE place=?1 AND conversation=?2"
        " AND last_ms>(SELECT last_ms FROM conversations WHERE id=?2)",
        list(gone),
    )
    db.execute("UPDATE conversations_index SET messages=messages-?", (len(rows),))
