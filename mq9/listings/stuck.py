"""Stuck messages: leased, retried, overdue, undeliverable or dead for too long.

Each kind is walked in a stable order, so that a page continues where the previous one ended. One
page examines a limited number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from sqlite3 import Connection
from typing import Any, NamedTuple

import orjson

from mq9.engine import groups, mailboxes, state
from mq9.engine.commands import Actor
from mq9.engine.standings import (
    ACKED,
    FETCHED,
    MOVED,
    WAITING,
    GroupStanding,
    Wanted,
    standings,
)
from mq9.listings import index
from mq9.listings.conversations import Rights, refuse_unknown, texts_of
from mq9.models import QUESTION_TAG, STUCK_KINDS, Moved, Progress, StuckMessage, StuckPage
from mq9.protocol.requests import ListStuck
from mq9.protocol.reserved import REDRIVE_GROUP

_MOST_ROWS = 10_000  # examined for a page, and for each count
_MOST_COUNTED = 1_000  # messages of a kind
_MOST_LISTED = 512 * 1024  # bytes of a page as JSON, plus one message
_LONGEST_ITEM = 3_000  # bytes of a message without reasons and promises
_MOST_UNREAD = 1_000  # newest messages that are examined in a mailbox without known readers
_AT_ONCE = 500
_MAILBOXES = 5_000  # examined in one query
_STEPS_OF_MAILBOXES = 500  # messages that take about as long as that query
_HIGHEST = (1 << 63) - 1
_LIVE = "(m.expires_ms IS NULL OR m.expires_ms>:now)"
_LEASES = (
    "SELECT l.mailbox, l.msg_id, l.group_id, CASE WHEN m.msg_id IS NULL OR g.id IS NULL THEN NULL"  # noqa: S608  # constant text
    " WHEN l.holder<>'' AND l.until_ms>:now AND coalesce(gr.made_ms, :now)<=:longer THEN 'leased'"
    " WHEN l.deliveries>1 OR l.deliveries=1 AND NOT coalesce(l.holder<>'' AND l.until_ms>:now, 0)"
    " THEN 'retrying' END, g.name, l.holder, l.until_ms, l.deliveries, l.deaths, gr.made_ms,"
    " lr.made_ms, l.reason, l.promised_ms, l.done, l.promised_by, m.answer_by_ms"
    " FROM (SELECT * FROM leases WHERE (mailbox, msg_id, group_id)>(:a, :b, :c)"
    " AND mailbox<=:upto ORDER BY mailbox, msg_id, group_id LIMIT :most) l"
    " LEFT JOIN groups g ON g.id=l.group_id AND g.used_ms>:unused AND g.name<>:redrive"
    f" LEFT JOIN messages m ON m.mailbox=l.mailbox AND m.msg_id=l.msg_id AND {_LIVE}"
    " LEFT JOIN replies gr ON gr.mailbox=l.mailbox AND gr.number=l.granted"
    " LEFT JOIN replies lr ON lr.mailbox=l.mailbox AND lr.number=l.reply"
    " ORDER BY l.mailbox, l.msg_id, l.group_id"
)
# The same for complete batches, where no message has a lease row of its own.
_BATCHES = (
    "SELECT r.mailbox, m.msg_id, r.group_id, CASE WHEN g.id IS NULL THEN NULL"  # noqa: S608  # constant text
    " WHEN r.until_ms<=:now THEN 'retrying' WHEN r.made_ms<=:longer THEN 'leased' END,"
    " g.name, r.consumer, r.until_ms, 1, 0, r.made_ms, r.made_ms, NULL, NULL, NULL, NULL,"
    " m.answer_by_ms, r.lowest, r.number"
    " FROM (SELECT * FROM replies INDEXED BY replies_lowest WHERE until_ms IS NOT NULL"
    " AND (mailbox, lowest, number)>=(:a, :b, :c) AND mailbox<=:upto"
    f" ORDER BY mailbox, lowest, number LIMIT :most) r CROSS JOIN {groups.STORED} AND {_LIVE}"
    " LEFT JOIN groups g ON g.id=r.group_id AND g.used_ms>:unused AND g.name<>:redrive"
    " WHERE (r.mailbox, r.lowest, r.number, m.msg_id)>(:a, :b, :c, :d)"
    " ORDER BY r.mailbox, r.lowest, r.number, m.msg_id LIMIT :most"
)
# Mailboxes with messages that have no reader, the first message to examine, and whether an agent
# has registered the mailbox.
_UNREAD = (
    "SELECT b.id, (SELECT min(min(g.critical, g.urgent, g.normal)) FROM groups g"  # noqa: S608  # constant text
    " WHERE g.mailbox=b.id AND g.name<>:redrive), EXISTS (SELECT 1 FROM agents a"
    f" WHERE a.mailbox=b.address), max(0, b.next_msg_id-{_MOST_UNREAD}) FROM mailboxes b"
    " WHERE b.id BETWEEN :a AND :b AND b.messages>b.delayed AND NOT EXISTS (SELECT 1 FROM groups g"
    " WHERE g.mailbox=b.id AND g.name<>:redrive AND g.used_ms>:not_used) AND NOT EXISTS"
    " (SELECT 1 FROM agents a WHERE a.mailbox=b.address AND a.seen_ms>:not_seen) ORDER BY b.id"
)
_LAST_MAILBOX = "SELECT id FROM mailboxes WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 1 OFFSET ?"
_WAITING = (
    f"SELECT m.msg_id, m.priority, m.visible_ms, m.visible_ms<=:longer AND {_LIVE}"  # noqa: S608  # constant text
    " AND (:is_meant OR m.reply_to IS NOT NULL AND m.correlation_id IS NOT NULL)"
    " AND instr(','||m.tags||',', :question)=0 AND NOT EXISTS (SELECT 1 FROM conversation_dead d"
    " WHERE d.mailbox=m.mailbox AND d.msg_id=m.msg_id) FROM messages m WHERE m.mailbox=:mailbox"
    " AND m.msg_id>:b ORDER BY m.msg_id LIMIT :most"
)
_AWAITED = (
    "SELECT a.answer_by_ms, a.mailbox, a.msg_id, q.priority, q.msg_id IS NOT NULL"  # noqa: S608  # constant text
    f" AND NOT {index.IS_ANSWERED} AND NOT EXISTS (SELECT 1 FROM conversation_dead d"
    " WHERE d.mailbox=a.mailbox AND d.msg_id=a.msg_id) FROM conversation_awaited a"
    " LEFT JOIN messages q ON q.mailbox=a.mailbox AND q.msg_id=a.msg_id"
    " AND (q.expires_ms IS NULL OR q.expires_ms>:now) WHERE a.answer_by_ms<=:now"
    " AND (a.answer_by_ms, a.mailbox, a.msg_id)>(:a, :b, :c)"
    " AND (:only IS NULL OR a.mailbox=:only)"
    " ORDER BY a.answer_by_ms, a.mailbox, a.msg_id LIMIT :most"
)
_DEAD = (
    f"SELECT d.mailbox, d.msg_id, m.priority, iif({_LIVE}, m.moved, NULL)"  # noqa: S608  # constant text
    " FROM conversation_dead d LEFT JOIN messages m ON m.mailbox=d.mailbox AND m.msg_id=d.msg_id"
    " WHERE (d.mailbox, d.msg_id)>(:a, :b) AND d.mailbox<=:upto"
    " ORDER BY d.mailbox, d.msg_id LIMIT :most"
)


class _Step(NamedTuple):
    """An examined row: its place, and the stuck message if it is one."""

    place: tuple[int, ...]
    mailbox: int = 0
    found: StuckMessage | None = None


@dataclass(slots=True)
class _Walk:
    """Walk over stuck messages."""

    db: Connection
    now: int
    longer_s: int
    only: int | None  # mailbox
    rights: Rights
    has_index: bool

    def parameters(self, place: tuple[int, ...]) -> dict[str, Any]:
        """Return the values of the statements above, to continue from a place."""
        longer_ms = self.longer_s * 1000
        begin = () if self.only is None else (self.only,)
        return {
            "now": self.now,
            "longer": self.now - longer_ms,
            "not_used": self.now - longer_ms - groups.USE_GRAIN_MS,
            "not_seen": self.now - longer_ms,
            "unused": self.now - groups.FORGOTTEN_MS,
            "redrive": REDRIVE_GROUP,
            "question": f",{QUESTION_TAG},",
            "upto": _HIGHEST if self.only is None else self.only,
            "only": self.only,
            "most": _AT_ONCE,
            **dict(zip("abcd", (*(place or begin), -1, -1, -1, -1), strict=False)),
        }

    def steps(self, kind: str, place: tuple[int, ...]) -> Iterator[_Step]:
        """Yield the examined rows of a kind, from a place on."""
        walks: dict[str, Callable[[tuple[int, ...]], Iterator[_Step]]] = {
            "leased": lambda place: self._leases("leased", place),
            "retrying": lambda place: self._leases("retrying", place),
            "overdue": self._overdue,
            "undeliverable": self._undeliverable,
            "dead": self._dead,
        }
        for step in walks[kind](place):
            if step.found is None or not self.rights.may_look(step.mailbox):
                yield step._replace(found=None)
            else:
                row = self.rights.row(step.mailbox)
                address = "" if row is None else row.address
                yield step._replace(found=replace(step.found, mail_address=address))

    def _leases(self, kind: str, place: tuple[int, ...]) -> Iterator[_Step]:
        """Yield leases of single messages, and then those of complete batches."""
        source, at = (place[0], place[1:]) if place else (0, ())
        for number, select in enumerate((_LEASES, _BATCHES)):
            if number < source:
                continue
            while True:
                rows = self.db.execute(select, self.parameters(at)).fetchall()
                for row in rows:
                    mailbox, msg_id, group_id, found, *rest = row
                    at = (mailbox, msg_id, group_id)
                    if number:
                        at = (mailbox, *row[16:], msg_id)
                    item = _leased(kind, msg_id, rest) if found == kind else None
                    yield _Step((number, *at), mailbox, item)
                if len(rows) < _AT_ONCE:
                    break
            at = ()

    def _overdue(self, place: tuple[int, ...]) -> Iterator[_Step]:
        """Yield questions that are past their deadline or the promise of their holder."""
        at = place or (-1,)
        while self.has_index:
            rows = self.db.execute(_AWAITED, self.parameters(at)).fetchall()
            wanted = [
                Wanted(mailbox, msg_id, lane, row.address)
                for _, mailbox, msg_id, lane, is_open in rows
                if is_open and (row := self.rights.row(mailbox)) is not None
            ]
            stand = standings(self.db, wanted, self.now)
            for answer_by_ms, mailbox, msg_id, _, is_open in rows:
                at, found = (answer_by_ms, mailbox, msg_id), None
                standing = stand.get((mailbox, msg_id), GroupStanding("", WAITING))
                due_ms = standing.promised_ms or answer_by_ms
                if is_open and due_ms <= self.now and standing.state != MOVED:
                    found = StuckMessage(
                        kind="overdue",
                        mail_address="",
                        msg_id=msg_id,
                        group_name=standing.group or None,
                        consumer=standing.holder if standing.state == FETCHED else None,
                        since=due_ms / 1000,
                        until=None if standing.until_ms is None else standing.until_ms / 1000,
                        deliveries=standing.deliveries,
                        reason=standing.reason,
                        promise=standing.promise,
                        answer_by=answer_by_ms // 1000,
                    )
                yield _Step(at, mailbox, found)
            if len(rows) < _AT_ONCE:
                return

    def _undeliverable(self, place: tuple[int, ...]) -> Iterator[_Step]:
        """Yield the waiting messages of mailboxes without readers."""
        upto = self.parameters(())["upto"]
        mailbox, *at = place or (0 if self.only is None else self.only,)
        while self.has_index:
            row = self.db.execute(_LAST_MAILBOX, (mailbox, upto, _MAILBOXES - 1)).fetchone()
            last = upto if row is None else row[0]
            unread = self.db.execute(_UNREAD, self.parameters((mailbox, last))).fetchall()
            for id_, cursor, has_agent, newest in unread:
                first = cursor if cursor is not None else 0 if has_agent else newest
                after = at[0] if at and id_ == mailbox else first - 1
                is_meant = cursor is not None or bool(has_agent)
                yield from self._waiting(id_, after, is_meant=is_meant)
            if row is None:
                return
            mailbox, at = last + 1, []
            yield from [_Step((mailbox,))] * _STEPS_OF_MAILBOXES

    def _waiting(self, mailbox: int, after: int, *, is_meant: bool) -> Iterator[_Step]:
        row = self.rights.row(mailbox)
        if row is None:
            return
        while True:
            parameters = {
                **self.parameters((mailbox, after)),
                "mailbox": mailbox,
                "is_meant": is_meant,
            }
            rows = self.db.execute(_WAITING, parameters).fetchall()
            wanted = [
                Wanted(mailbox, msg_id, lane, row.address)
                for msg_id, lane, _, may_be in rows
                if may_be
            ]
            stand = standings(self.db, wanted, self.now)
            for msg_id, _, visible_ms, may_be in rows:
                standing = stand.get((mailbox, msg_id))
                after, found = msg_id, None
                if may_be and (
                    standing is None or (standing.state == WAITING and not standing.deliveries)
                ):
                    found = StuckMessage(
                        kind="undeliverable",
                        mail_address="",
                        msg_id=msg_id,
                        group_name=None if standing is None else standing.group,
                        since=visible_ms / 1000,
                    )
                yield _Step((mailbox, msg_id), mailbox, found)
            if len(rows) < _AT_ONCE:
                return

    def _dead(self, place: tuple[int, ...]) -> Iterator[_Step]:
        """Yield dead letters that were neither acked nor moved."""
        at = place
        while self.has_index:
            rows = self.db.execute(_DEAD, self.parameters(at)).fetchall()
            wanted = [
                Wanted(mailbox, msg_id, lane, row.address)
                for mailbox, msg_id, lane, moved in rows
                if moved is not None and (row := self.rights.row(mailbox)) is not None
            ]
            stand = standings(self.db, wanted, self.now)
            for mailbox, msg_id, _, moved in rows:
                at, found = (mailbox, msg_id), None
                standing = stand.get(at)
                if moved is not None and (standing is None or standing.state not in {ACKED, MOVED}):
                    details = Moved(**orjson.loads(moved))
                    found = StuckMessage(
                        kind="dead",
                        mail_address="",
                        msg_id=msg_id,
                        group_name=details.group,
                        since=details.at,
                        deliveries=details.deliveries,
                        reason=details.reason,
                        moved=details,
                    )
                yield _Step(at, mailbox, found)
            if len(rows) < _AT_ONCE:
                return


def _leased(kind: str, msg_id: int, rest: list[Any]) -> StuckMessage:
    group, holder, until_ms, deliveries, deaths, granted_ms, last_ms, reason, *promised = rest
    since_ms = granted_ms if kind == "leased" else last_ms
    return StuckMessage(
        kind=kind,
        mail_address="",
        msg_id=msg_id,
        group_name=group,
        consumer=holder or None,
        since=None if since_ms is None else since_ms / 1000,
        until=None if until_ms is None else until_ms / 1000,
        deliveries=deliveries,
        deaths=deaths,
        reason=reason,
        promise=groups.promise(*promised[:3]),
        answer_by=None if promised[3] is None else promised[3] // 1000,
    )


def page(
    db: Connection, request: ListStuck, actor: Actor, now: int, building: Progress | None
) -> StuckPage:
    """Return a page of stuck messages."""
    refuse_unknown(actor)
    position = state.position(db).applied
    only = None
    if request.mail_address is not None:
        mailbox = mailboxes.look(db, request.mail_address, now)
        only = 0 if mailbox is None else mailbox.id
    rights = Rights(db, actor, now)
    walk = _Walk(db, now, request.leased_longer_s, only, rights, index.is_usable(db))
    kinds = STUCK_KINDS if request.kind is None else (request.kind,)
    steps, more = _page(walk, kinds, request)
    texts = texts_of(db, [(step.mailbox, one.msg_id) for step, one in steps])
    return StuckPage(
        items=tuple(
            _with_sender(db, step.mailbox, replace(one, text=text))
            for (step, one), text in zip(steps, texts, strict=True)
        ),
        counts={kind: _count(walk, kind) for kind in STUCK_KINDS},
        more=more,
        building=building,
        position=position,
    )


def _page(
    walk: _Walk, kinds: tuple[str, ...], request: ListStuck
) -> tuple[list[tuple[_Step, StuckMessage]], str | None]:
    first = kinds[0]
    place: tuple[int, ...] = ()
    if request.after is not None:
        first, *numbers = request.after.split(".")
        place = tuple(map(int, numbers))
    found: list[tuple[_Step, StuckMessage]] = []
    left, last, room = _MOST_ROWS, request.after, _MOST_LISTED
    for kind in kinds[kinds.index(first) if first in kinds else len(kinds) :]:
        for step in walk.steps(kind, place):
            if len(found) == request.limit or left == 0 or room < 0:
                return found, last
            left -= 1
            last = ".".join((kind, *map(str, step.place)))
            if step.found is not None:
                found.append((step, step.found))
                promise = step.found.promise
                texts = (step.found.reason, None if promise is None else promise.done)
                room -= _LONGEST_ITEM + 2 * len(orjson.dumps(texts))  # a reason may appear twice
        place = ()
    return found, None


def _count(walk: _Walk, kind: str) -> int:
    """Count the messages of a kind, up to a limit."""
    count = 0
    for looked, step in enumerate(walk.steps(kind, ())):
        if count == _MOST_COUNTED or looked == _MOST_ROWS:
            break
        count += step.found is not None
    return count


def _with_sender(db: Connection, mailbox: int, found: StuckMessage) -> StuckMessage:
    sender, verified = db.execute(
        "SELECT sender, sender_verified FROM messages WHERE mailbox=? AND msg_id=?",
        (mailbox, found.msg_id),
    ).fetchone()
    return replace(found, sender=sender, verified=bool(verified))
