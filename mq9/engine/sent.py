"""SENT: the messages that a sender sent with a correlation id, and their states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from sqlite3 import Connection
from typing import Any, NamedTuple

import orjson

from mq9.engine import access, groups, mailboxes
from mq9.engine.commands import Call
from mq9.engine.mailboxes import MailboxRow
from mq9.engine.messages import Outdated
from mq9.engine.standings import FETCHED, WAITING, GroupStanding, Wanted
from mq9.engine.standings import standings as of_messages
from mq9.errors import Forbidden, InvalidRequest
from mq9.models import PRIORITIES, Sent, SentAnswer, SentPage
from mq9.protocol.requests import ListSent

_NEWEST = (1 << 62,) * 4
# The rows of sent messages, visible or delayed, in the order of sending. The copy that a MOVE made
# is excluded, unless it brought the message back.
_FOUND = (
    "SELECT m.sent_ms, m.mailbox, {is_visible} AS is_visible, m.{id} AS id, b.address, m.priority,"
    " {due_ms}, m.key, m.correlation_id, m.reply_to, m.answer_by_ms"
    " FROM {table} m INDEXED BY {index}"
    " CROSS JOIN mailboxes b ON b.id=m.mailbox WHERE m.sender=:sender"
    " AND m.correlation_id IS NOT NULL AND {condition}"
    " AND (:verified IS NULL OR m.sender_verified=:verified)"
    " AND (m.expires_ms IS NULL OR m.expires_ms>:now)"
    " AND (b.expires_ms IS NULL OR b.expires_ms>:now)"
    " AND m.sent_ms<=:sent_ms"
    " AND (m.sent_ms, m.mailbox, {is_visible}, m.{id})<(:sent_ms, :mailbox, :visible, :id)"
    " ORDER BY m.sent_ms DESC, m.mailbox DESC, m.{id} DESC LIMIT :most"
)
_VISIBLE = {"table": "messages", "id": "msg_id", "is_visible": 1, "due_ms": "NULL"}
_DELAYED = {"table": "delayed", "id": "id", "is_visible": 0, "due_ms": "m.due_ms"}
_NOT_COPIED = "(m.moved IS NULL OR json_extract(m.moved, '$.back'))"
_NAMED = "m.correlation_id IN (SELECT value FROM json_each(:ids))"


def _union(visible_index: str, condition: str) -> str:
    visible = _FOUND.format(
        **_VISIBLE, index=visible_index, condition=f"{_NOT_COPIED} AND {condition}"
    )
    delayed = _FOUND.format(**_DELAYED, index="delayed_sent", condition=condition)
    return (
        f"SELECT * FROM (SELECT * FROM ({visible}) UNION ALL SELECT * FROM ({delayed}))"  # noqa: S608  # constant text
        " ORDER BY sent_ms DESC, mailbox DESC, is_visible DESC, id DESC LIMIT :most"
    )


_ALL = _union("messages_sent", "1")
_OF_IDS = _union("messages_correlation", _NAMED)

# The first good answer among the messages with a correlation id in a mailbox, else the first error
# answer. Older messages than the sent one are excluded: if that is itself an answer, one of them is
# its question.
_ANSWERS = (
    "WITH wanted (mailbox, correlation_id, sent_ms) AS (SELECT DISTINCT"
    " json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]')"
    " FROM json_each(:wanted)),"
    " ones AS (SELECT m.mailbox, m.correlation_id, w.sent_ms, m.msg_id,"
    " json_extract(m.headers, '$.error') AS code"
    " FROM wanted w CROSS JOIN messages m ON m.correlation_id=w.correlation_id"
    " AND m.mailbox=w.mailbox WHERE m.sender IS NOT :sender AND m.visible_ms>=w.sent_ms"
    " AND (m.expires_ms IS NULL OR m.expires_ms>:now))"
    " SELECT mailbox, correlation_id, sent_ms, min((code IS NOT NULL)*(1<<60)+msg_id), msg_id, code"
    " FROM ones GROUP BY mailbox, correlation_id, sent_ms"
)


_AnswerKey = tuple[int, str, int]  # mailbox of the answer, correlation id, sent_ms of the question


class _Row(NamedTuple):
    sent_ms: int
    mailbox: int
    is_visible: int
    id: int
    address: str
    lane: int
    due_ms: int | None  # of a delayed message
    key: str | None
    correlation_id: str
    reply_to: str | None
    answer_by_ms: int | None

    @property
    def place(self) -> str:
        """Its place among all sent messages. The next page begins after it."""
        return ".".join(map(str, self[:4]))


_UNTOUCHED = GroupStanding("", WAITING)


def list_sent(db: Connection, call: Call[ListSent], now: int) -> SentPage:
    """List the messages of a sender, the newest first, with their states."""
    sender, verified = _listed_sender(call)
    request = call.request
    before = _NEWEST if request.before is None else map(int, request.before.split("."))
    ids = request.correlation_ids
    found = db.execute(
        _ALL if ids is None else _OF_IDS,
        {
            "sender": sender,
            "verified": verified,
            "ids": None if ids is None else orjson.dumps(ids).decode(),
            "now": now,
            "most": request.limit + 1,
            **dict(zip(("sent_ms", "mailbox", "visible", "id"), before, strict=True)),
        },
    )
    rows = [_Row(*row) for row in found]
    page = rows[: request.limit]
    existing = _mailboxes(db, call, page, now)
    wanted = [Wanted(row.mailbox, row.id, row.lane, row.address) for row in page if row.is_visible]
    standings = of_messages(db, wanted, now)
    answers = _answers(db, call, page, existing, sender, now)
    return SentPage(
        sent=tuple(_sent(row, call, existing, standings, answers) for row in page),
        more=page[-1].place if len(rows) > len(page) else None,
    )


def _listed_sender(call: Call[ListSent]) -> tuple[str, int | None]:
    """Return the sender whose messages are listed; verified, unverified, or None for both."""
    actor, sender = call.actor, call.request.sender
    if call.request.correlation_ids is None and not actor.may_list:
        raise Forbidden(
            "correlation_ids: without authentication as an agent, messages are listed only by "
            "these ids; give 1 to 100"
        )
    if actor.agent is not None:
        if sender in {None, actor.agent}:
            return actor.agent, 1
        if not (actor.is_operator or actor.is_reader):
            raise Forbidden(f"sender: {sender!r} is another sender; leave it out")
    if sender is None:
        raise InvalidRequest("sender: name it, since you have not authenticated as an agent")
    return sender, None if actor.may_list else 0


def _mailboxes(
    db: Connection, call: Call[ListSent], page: Sequence[_Row], now: int
) -> dict[str, MailboxRow]:
    """Return the mailboxes of messages, and the reply mailboxes that the client may look at."""
    addresses = {row.address for row in page}
    others = {row.reply_to for row in page if row.reply_to is not None}
    existing = {
        address: mailbox
        for address, mailbox in mailboxes.look_at_all(db, addresses | others, now).items()
        if address in addresses or access.may_look(mailbox, call.actor)
    }
    outdated = [one.address for one in existing.values() if not mailboxes.is_current(one, now)]
    if outdated:
        raise Outdated(*outdated)
    return existing


def _answers(
    db: Connection,
    call: Call[ListSent],
    page: Iterable[_Row],
    existing: Mapping[str, MailboxRow],
    sender: str,
    now: int,
) -> dict[_AnswerKey, SentAnswer]:
    """Return the answers to messages."""
    wanted = [
        (target.id, row.correlation_id, row.sent_ms)
        for row in page
        if (target := existing.get(row.reply_to or "")) and access.may_look(target, call.actor)
    ]
    by_id = {mailbox.id: mailbox.address for mailbox in existing.values()}
    found = db.execute(
        _ANSWERS, {"wanted": orjson.dumps(wanted).decode(), "sender": sender, "now": now}
    )
    return {
        (mailbox, correlation_id, sent_ms): SentAnswer(
            mail_address=by_id[mailbox], msg_id=msg_id, code=code
        )
        for mailbox, correlation_id, sent_ms, _, msg_id, code in found
    }


def _sent(
    row: _Row,
    call: Call[ListSent],
    existing: Mapping[str, MailboxRow],
    standings: Mapping[tuple[int, int], GroupStanding],
    answers: Mapping[_AnswerKey, SentAnswer],
) -> Sent:
    fields: dict[str, Any]
    if row.due_ms is not None:
        fields = {"delayed_id": row.id, "state": "delayed", "due": row.due_ms / 1000}
    else:
        standing = standings.get((row.mailbox, row.id), _UNTOUCHED)
        fields = {
            "msg_id": row.id,
            "state": standing.state,
            "deliveries": standing.deliveries,
            "promise": groups.promise(standing.promised_ms, standing.done, None),
        }
        if standing.until_ms is not None and standing.state == FETCHED:
            fields["until"] = standing.until_ms / 1000
        if access.may_look(existing[row.address], call.actor):
            fields["moved_to"] = standing.target
    replies = existing.get(row.reply_to or "")
    asked = None if replies is None else (replies.id, row.correlation_id, row.sent_ms)
    return Sent(
        mail_address=row.address,
        sent=row.sent_ms / 1000,
        priority=PRIORITIES[row.lane],
        key=row.key,
        correlation_id=row.correlation_id,
        reply_to=row.reply_to,
        answer_by=None if row.answer_by_ms is None else row.answer_by_ms // 1000,
        answer=None if asked is None else answers.get(asked),
        **fields,
    )
