"""Conversations from the index, limited to the messages that a client may see."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from sqlite3 import Connection
from typing import Any, NamedTuple

import orjson

from mq9.engine import mailboxes, state
from mq9.engine.commands import Actor
from mq9.engine.mailboxes import MailboxRow
from mq9.engine.messages import Outdated
from mq9.engine.standings import (
    ACKED,
    FETCHED,
    MOVED,
    GroupStanding,
    Wanted,
    standings,
)
from mq9.errors import Forbidden
from mq9.listings import index
from mq9.models import Conversation, ConversationPage, Moved, Participant, Progress
from mq9.protocol.requests import ListConversations
from mq9.protocol.reserved import MOVED_ASIDE

MOST_CHARACTERS = 200  # of a shown text
_MOST_BYTES = 4 * MOST_CHARACTERS
_MOST_SEARCHED = 4_096  # bytes of a message that a text filter searches
MOST_COUNTED = 1_000  # messages of a conversation
_MOST_LOOKED_AT = 50  # messages of a conversation that decide its state
_MOST_CANDIDATES = 10  # messages of these whose standings are read
_MOST_NAMED = 20  # participants and mailboxes of a conversation
_MOST_PLACES = 1_000  # mailboxes of an agent that are walked one by one
_MOST_ROWS = 20_000  # of the index, for a page
_MOST_READ = 1_000  # conversations, for a page with filters
_MOST_LISTED = 512 * 1024  # bytes of a page as JSON, plus one conversation
_AT_ONCE = 200  # conversations of a place in one query
_NEWEST = (1 << 62, 1 << 62)
_VISIBLE = (
    "(c.sender=:own AND :own<>0"
    " OR c.number>=0 AND c.mailbox IN (SELECT value FROM json_each(:look)))"
)


def sees_all(actor: Actor) -> bool:
    """Return whether an actor sees all mailboxes."""
    return actor.may_list and (actor.agent is None or actor.is_operator or actor.is_reader)


def refuse_unknown(actor: Actor) -> None:
    """Refuse an anonymous client."""
    if actor.agent is None and not actor.may_list:
        raise Forbidden(
            "conversations: this broker does not know who asks, and an address is all that it "
            "takes to use a mailbox; authenticate as an agent or an operator"
        )


class Rights:
    """The rights of an actor to see messages of the index."""

    def __init__(self, db: Connection, actor: Actor, now: int) -> None:
        self._db = db
        self._actor = actor
        self._now = now
        self._rows: dict[int, MailboxRow | None] = {}  # by id; None if it does not exist
        self._looks: dict[int, bool] = {}
        self.sees_all = sees_all(actor)
        # The agent's number as a sender in the index.
        self.own = 0
        if not self.sees_all and actor.agent is not None:
            self.own = index.sender_number(db, actor.agent, 1)

    def may_look(self, mailbox_id: int) -> bool:
        """Return whether a mailbox exists and the actor may see all of its messages."""
        found = self._looks.get(mailbox_id)
        if found is None:
            row = self.row(mailbox_id)
            found = row is not None and (
                self.sees_all or self._actor.owns(row.address) or row.may_look(self._actor)
            )
            self._looks[mailbox_id] = found
        return found

    def row(self, mailbox_id: int) -> MailboxRow | None:
        """Return a mailbox; None if it does not exist."""
        if mailbox_id not in self._rows:
            row = mailboxes.look_by_id(self._db, mailbox_id, self._now)
            self._rows[mailbox_id] = row
        return self._rows[mailbox_id]

    def places(self) -> list[int] | None:
        """Return the places with visible conversations; None for all or too many."""
        if self.sees_all:
            return None
        actor = self._actor
        rows = self._db.execute(
            "SELECT id FROM mailboxes WHERE creator=:agent OR creator IS NULL AND NOT :closed"
            " OR look_policy<>'granted' OR address IN (SELECT value FROM json_each(:own))"
            " OR address>:below AND address<:beyond"
            " OR instr(char(10)||readers||char(10)||viewers||char(10), char(10)||:agent||char(10))"
            " LIMIT :most",
            {
                "agent": actor.agent,
                "closed": actor.closed,
                "own": orjson.dumps(actor.own).decode(),
                "below": None if actor.below is None else f"{actor.below}.",
                "beyond": None if actor.below is None else f"{actor.below}/",
                "most": _MOST_PLACES + 1,
            },
        ).fetchall()
        if len(rows) > _MOST_PLACES:
            return None
        places = [id_ for (id_,) in rows if self.may_look(id_)]
        return [*places, self.own] if self.own else places

    def condition(self, conversation: int) -> tuple[str, dict[str, Any]]:
        """Return the SQL condition, with its values, for visible rows c of a conversation."""
        if self.sees_all:
            return "1", {}
        found = self._db.execute(
            "SELECT DISTINCT mailbox FROM (SELECT mailbox FROM conversation_messages"
            " WHERE conversation=? ORDER BY at_ms DESC, mailbox DESC, number DESC LIMIT ?)",
            (conversation, MOST_COUNTED),
        )
        return self._visible([id_ for (id_,) in found if self.may_look(id_)])

    def condition_at(self, mailbox_id: int) -> tuple[str, dict[str, Any]]:
        """Return the same condition for rows in one mailbox."""
        return self._visible([mailbox_id] if self.may_look(mailbox_id) else [])

    def _visible(self, look: list[int]) -> tuple[str, dict[str, Any]]:
        return _VISIBLE, {"own": self.own, "look": orjson.dumps(look).decode()}


class Row(NamedTuple):
    """A stored and visible message of a conversation."""

    at_ms: int
    mailbox: int
    number: int
    sender: int  # its number in the index
    address: str
    sender_name: str | None
    verified: int
    reply_to: str | None
    correlation_id: str | None
    lane: int
    moved: str | None
    due_ms: int | None  # of a delayed message
    code: str | None  # of an error answer
    is_note: int  # whether it only reports progress or an overdue answer of a question

    @property
    def author(self) -> tuple[str | None, int]:
        """The sender and whether it is verified."""
        return self.sender_name, self.verified

    @property
    def participant(self) -> Participant:
        """The sender as readers see it."""
        return Participant(self.sender_name, bool(self.verified))

    @property
    def is_copy(self) -> bool:
        """Whether it was moved here, except back."""
        return self.moved is not None and not orjson.loads(self.moved).get("back")

    @property
    def is_dead_letter(self) -> bool:
        """Whether it was moved here, except back or aside."""
        return self.is_copy and orjson.loads(self.moved or "{}").get("reason") != MOVED_ASIDE

    @property
    def place(self) -> tuple[int, int]:
        """The mailbox and the number in it."""
        return self.mailbox, self.number

    @property
    def wanted(self) -> Wanted:
        """The key to read its standing."""
        return Wanted(self.mailbox, self.number, self.lane, self.address)


LIVE = (
    " CROSS JOIN mailboxes b ON b.id=c.mailbox AND (b.expires_ms IS NULL OR b.expires_ms>:now)"
    " LEFT JOIN messages m ON c.number>=0 AND m.mailbox=c.mailbox AND m.msg_id=c.number"
    " AND (m.expires_ms IS NULL OR m.expires_ms>:now)"
    " LEFT JOIN delayed d ON c.number<0 AND d.id=-c.number"
    " WHERE (m.msg_id IS NOT NULL OR d.id IS NOT NULL)"
)
ROW_COLUMNS = (
    "c.at_ms, c.mailbox, c.number, c.sender, b.address, coalesce(m.sender, d.sender),"
    " coalesce(m.sender_verified, d.sender_verified), coalesce(m.reply_to, d.reply_to),"
    " coalesce(m.correlation_id, d.correlation_id), coalesce(m.priority, d.priority), m.moved,"
    " d.due_ms, json_extract(m.headers, '$.error'),"
    " json_extract(m.headers, '$.progress') IS NOT NULL OR coalesce(m.overdue, 0)"
)
_NEWEST_ROWS = (
    "(SELECT * FROM conversation_messages WHERE conversation=:conversation"
    " ORDER BY at_ms DESC, mailbox DESC, number DESC LIMIT :counted) c"
)


def rows_of(
    db: Connection, conversation: int, rights: Rights, now: int, most: int = _MOST_LOOKED_AT
) -> list[Row]:
    """Return the newest visible messages of a conversation, newest first."""
    visible, values = rights.condition(conversation)
    found = db.execute(
        f"SELECT {ROW_COLUMNS} FROM {_NEWEST_ROWS}{LIVE} AND {visible}"  # noqa: S608  # constant text
        " ORDER BY c.at_ms DESC, c.mailbox DESC, c.number DESC LIMIT :most",
        {
            "conversation": conversation,
            "counted": MOST_COUNTED,
            "now": now,
            "most": most,
            **values,
        },
    )
    return [Row(*row) for row in found]


@dataclass(slots=True)
class _Found:
    """A conversation of a page."""

    walked: _Walked
    name: str | None
    rows: list[Row]  # the newest
    oldest: Row
    count: int
    participants: list[Participant]
    mailboxes: list[str]

    @property
    def bytes(self) -> int:
        """Upper bound of its bytes in a reply, about."""
        names = [one.name or "" for one in self.participants[:_MOST_NAMED]]
        encoded = orjson.dumps([self.id, names, self.mailboxes[:_MOST_NAMED]])
        return 6 * MOST_CHARACTERS + len(encoded) + 40 * len(names) + 400

    @property
    def id(self) -> str:
        """The id in the protocol."""
        return id_of(self.name, self.oldest.address, self.oldest.number)


def id_of(name: str | None, address: str, number: int) -> str:
    """Return the id of a conversation; for a single message, the id is that of the message."""
    if name is None:
        return f"/{address}/{number}"
    return f"/{name}" if name.startswith("/") else name


class _Walked(NamedTuple):
    """A conversation in the order of the list."""

    last_ms: int
    tie: int
    id: int


class Listed(NamedTuple):
    """A page, and conversations without visible messages, whose rows may be out of date."""

    page: ConversationPage
    gone: list[int]


def page(
    db: Connection,
    request: ListConversations,
    actor: Actor,
    now: int,
    building: Progress | None,
) -> Listed:
    """Return a page of conversations."""
    refuse_unknown(actor)
    position = state.position(db).applied
    if not index.is_usable(db):
        return Listed(ConversationPage(position=position, building=building), [])
    return _Listing(db, request, actor, now).page(position, building)


class _Listing:
    """Reader of one page."""

    def __init__(self, db: Connection, request: ListConversations, actor: Actor, now: int) -> None:
        self._db = db
        self._request = request
        self._now = now
        self._rights = Rights(db, actor, now)
        self._places: list[int] | None = self._chosen_places()
        self._words = None if request.text is None else request.text.casefold()
        self._is_filtered = (request.agent, request.mail_address, request.state, request.text) != (
            (None,) * 4
        )

    def page(self, position: int, building: Progress | None) -> Listed:
        found: list[tuple[_Found, _State]] = []
        gone: list[int] = []
        examined, count, last, more = 0, 0, None, False
        room = _MOST_LISTED
        for walked in self._walk():
            is_full = len(found) == self._request.limit or room < 0
            if is_full or examined > _MOST_ROWS or count == _MOST_READ:
                more = True
                break
            last = walked
            count += 1
            one = self._load(walked)
            if one is None:
                gone.append(walked.id)
                continue
            examined += one.count
            if self._matches(one) and (state_found := self._state(one)) is not None:
                found.append((one, state_found))
                room -= one.bytes
        texts = texts_of(self._db, [one.oldest.place for one, _ in found])
        return Listed(
            ConversationPage(
                conversations=tuple(
                    self._conversation(one, state_found, text)
                    for (one, state_found), text in zip(found, texts, strict=True)
                ),
                more=f"{last.last_ms}.{last.tie}" if more and last is not None else None,
                building=building,
                position=position,
            ),
            gone,
        )

    def _chosen_places(self) -> list[int] | None:
        """Return the places to walk; None for all conversations."""
        if not self._rights.sees_all:
            return self._rights.places()
        if self._request.agent is not None:
            numbers = (index.sender_number(self._db, self._request.agent, one) for one in (0, 1))
            return [number for number in numbers if number]
        if self._request.mail_address is not None:
            mailbox = mailboxes.look(self._db, self._request.mail_address, self._now)
            return [] if mailbox is None else [mailbox.id]
        return None

    def _walk(self) -> Iterator[_Walked]:
        """Yield conversations in the order of their newest messages, newest first."""
        before = _NEWEST
        if self._request.before is not None:
            last_ms, tie = map(int, self._request.before.split("."))
            before = last_ms, tie
        if self._places is None:
            yield from self._walk_one("conversations v WHERE 1", "id", before, ())
            return
        walks = [
            self._walk_one("conversation_places v WHERE place=?", "conversation", before, (place,))
            for place in self._places
        ]
        seen: set[int] = set()
        for walked in heapq.merge(*walks, reverse=True):
            if walked.id not in seen and not self._was_shown(walked):
                seen.add(walked.id)
                yield walked

    def _walk_one(
        self, source: str, column: str, before: tuple[int, int], values: tuple[int, ...]
    ) -> Iterator[_Walked]:
        while True:
            rows = self._db.execute(
                f"SELECT last_ms, tie, {column} FROM {source} AND (last_ms, tie)<(?,?)"  # noqa: S608  # constant text
                " ORDER BY last_ms DESC, tie DESC LIMIT ?",
                (*values, *before, _AT_ONCE),
            ).fetchall()
            for row in rows:
                yield _Walked(*row)
            if len(rows) < _AT_ONCE:
                return
            before = rows[-1][:2]

    def _was_shown(self, walked: _Walked) -> bool:
        """Return whether a conversation came earlier, because it is newer in another place."""
        if len(self._places or ()) < 2:
            return False
        (last_ms,) = self._db.execute(
            "SELECT max(last_ms) FROM conversation_places WHERE conversation=?"
            " AND place IN (SELECT value FROM json_each(?))",
            (walked.id, orjson.dumps(self._places).decode()),
        ).fetchone()
        return bool(last_ms > walked.last_ms)

    def _load(self, walked: _Walked) -> _Found | None:
        """Read a conversation; return None if it has no visible messages."""
        rows = rows_of(self._db, walked.id, self._rights, self._now)
        if not rows:
            return None
        (name,) = self._db.execute(
            "SELECT name FROM conversations WHERE id=?", (walked.id,)
        ).fetchone()
        if len(rows) == _MOST_LOOKED_AT:
            return self._load_long(walked, name, rows)
        senders = dict.fromkeys(row.participant for row in reversed(rows))
        addresses = dict.fromkeys(row.address for row in reversed(rows))
        return _Found(
            walked,
            name,
            rows,
            rows[-1],
            len(rows),
            list(senders),
            list(addresses),
        )

    def _load_long(self, walked: _Walked, name: str | None, rows: list[Row]) -> _Found:
        visible, values = self._rights.condition(walked.id)
        parameters = {
            "conversation": walked.id,
            "counted": MOST_COUNTED,
            "now": self._now,
            **values,
        }
        groups = self._db.execute(
            "SELECT coalesce(m.sender, d.sender), b.address,"  # noqa: S608  # constant text
            " coalesce(m.sender_verified, d.sender_verified), count(*)"
            f" FROM {_NEWEST_ROWS}{LIVE} AND {visible}"
            " GROUP BY 1, 2, 3 ORDER BY min(c.at_ms), c.mailbox",
            parameters,
        ).fetchall()
        oldest = self._db.execute(
            f"SELECT {ROW_COLUMNS} FROM (SELECT * FROM conversation_messages"  # noqa: S608  # constant text
            " WHERE conversation=:conversation ORDER BY at_ms, mailbox, number LIMIT :counted) c"
            f"{LIVE} AND {visible} ORDER BY c.at_ms, c.mailbox, c.number LIMIT 1",
            parameters,
        ).fetchone()
        senders = dict.fromkeys(Participant(row[0], bool(row[2])) for row in groups)
        return _Found(
            walked,
            name,
            rows,
            rows[-1] if oldest is None else Row(*oldest),
            sum(row[3] for row in groups),
            list(senders),
            list(dict.fromkeys(row[1] for row in groups)),
        )

    def _matches(self, found: _Found) -> bool:
        request = self._request
        if request.mail_address is not None and request.mail_address not in found.mailboxes:
            return False
        if request.agent is not None and all(
            one.name != request.agent for one in found.participants
        ):
            return False
        if self._words is None:
            return True
        searched = [found.oldest.place, *(row.place for row in found.rows)]
        texts = texts_of(self._db, searched, _MOST_SEARCHED)
        return any(self._words in text.casefold() for text in texts)

    def _state(self, found: _Found) -> _State | None:
        """Return the state of a conversation; None if the request filters for another one."""
        outdated = {
            row.address
            for one in found.rows
            if (row := self._rights.row(one.mailbox)) is not None
            and not mailboxes.is_current(row, self._now)
        }
        if outdated:
            raise Outdated(*outdated)
        state_found = state_of(self._db, found.rows, self._now)
        return state_found if self._request.state in {None, state_found.state} else None

    def _conversation(self, found: _Found, of: _State, text: str) -> Conversation:
        is_seen = of.row.mailbox and self._rights.may_look(of.row.mailbox)
        return Conversation(
            id=found.id,
            text=text,
            began=found.oldest.at_ms / 1000,
            last=found.rows[0].at_ms / 1000,
            count=found.count,
            participants=tuple(found.participants[:_MOST_NAMED]),
            mailboxes=tuple(found.mailboxes[:_MOST_NAMED]),
            state=of.state,
            waiting_for=of.row.address,
            holder=of.holder if is_seen else None,
            since=None if of.since_ms is None else of.since_ms / 1000,
            reason=of.reason if is_seen else None,
            deliveries=of.deliveries,
        )


class _State(NamedTuple):
    """The state of a conversation."""

    state: str
    row: Row  # the message that decides it
    since_ms: int | None = None
    holder: str | None = None
    reason: str | None = None
    deliveries: int = 0


def question_of(answer: Row, rows: Iterable[Row]) -> Row | None:
    """Return the message among ``rows`` that ``answer`` replies to."""
    for one in rows:
        if (
            one.correlation_id is not None
            and one.correlation_id == answer.correlation_id
            and one.reply_to == answer.address
            and one.mailbox != answer.mailbox
            and (one.sender_name is None or one.author != answer.author)
            and answer.moved is None
        ):
            return one
    return None


def state_of(db: Connection, rows: Sequence[Row], now: int) -> _State:
    """Return the state of a conversation from its newest messages, newest first."""
    answers = {
        row.place: question for row in rows if (question := question_of(row, rows)) is not None
    }
    answered: dict[str, Row] = {}  # the newest answer, by correlation id
    for row in rows:
        if row.place in answers and row.correlation_id is not None:
            answered.setdefault(row.correlation_id, row)
    others = [row for row in rows if row.place not in answers and not row.is_note]
    if not others:
        return _State("answered" if answers else "done", rows[0], rows[0].at_ms)
    open_rows = [row for row in others if (row.correlation_id or "") not in answered]
    open_rows = open_rows[:_MOST_CANDIDATES]
    stand = standings(db, [row.wanted for row in open_rows if row.due_ms is None], now)
    copies = {  # origins of dead letters
        (moved["mailbox"], moved["msg_id"])
        for row in rows
        if row.moved is not None and (moved := orjson.loads(row.moved))
    }
    for row in open_rows:
        found = _open_state(db, row, stand.get(row.place), copies)
        if found is not None:
            return found
    newest = others[0]
    answer = answered.get(newest.correlation_id or "")
    if answer is not None:
        return _State("answered", newest, answer.at_ms, reason=answer.code)
    return _State("done", newest, newest.at_ms)


def _open_state(
    db: Connection, row: Row, standing: GroupStanding | None, copies: set[tuple[str, int]]
) -> _State | None:
    """Return the state given by an unanswered message; None if the message is done."""
    if row.due_ms is not None:
        return _State("delayed", row, row.at_ms)
    if standing is not None and standing.state == ACKED:
        return None
    if row.is_dead_letter or (standing is not None and standing.state == MOVED):
        return _dead_state(row, standing, copies)
    if standing is None or standing.deliveries == 0:
        return _State("waiting", row, row.at_ms)
    is_held = standing.state == FETCHED
    since = db.execute(
        "SELECT made_ms FROM replies WHERE mailbox=? AND number=?", (row.mailbox, standing.granted)
    ).fetchone()
    return _State(
        "leased" if is_held and standing.deliveries == 1 else "retrying",
        row,
        row.at_ms if since is None else since[0],
        holder=standing.holder if is_held else None,
        reason=standing.reason,
        deliveries=standing.deliveries,
    )


def _dead_state(
    row: Row, standing: GroupStanding | None, copies: set[tuple[str, int]]
) -> _State | None:
    """Return the state given by a moved message or its copy; None if it is dealt with."""
    details = row.moved
    if standing is not None and standing.state == MOVED:
        if row.is_dead_letter or (row.address, row.number) in copies:
            return None  # it was moved on, or its copy decides
        details = standing.moved
    moved = Moved(**orjson.loads(details or "{}"))
    if moved.back or moved.reason == MOVED_ASIDE:
        return None
    return _State(
        "dead", row, int(moved.at * 1000), reason=moved.reason, deliveries=moved.deliveries
    )


def texts_of(db: Connection, rows: Sequence[tuple[int, int]], most: int = _MOST_BYTES) -> list[str]:
    """Return the first bytes of messages as text, in the order of ``rows``.

    Args:
        db: The database.
        rows: Mailbox and number of each message.
        most: Number of bytes.
    """
    found = db.execute(
        "SELECT substr(coalesce(m.payload, d.payload), 1, ?) FROM json_each(?) j"
        " LEFT JOIN messages m ON m.mailbox=json_extract(j.value, '$[0]')"
        " AND m.msg_id=json_extract(j.value, '$[1]')"
        " LEFT JOIN delayed d ON d.id=-json_extract(j.value, '$[1]') ORDER BY j.key",
        (most, orjson.dumps(list(rows)).decode()),
    )
    texts = (("" if one is None else one.decode("utf-8", "replace")) for (one,) in found)
    return [text if most > _MOST_BYTES else text[:MOST_CHARACTERS] for text in texts]
