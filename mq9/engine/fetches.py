"""FETCH by a consumer group: what is picked, read and leased.

Within a lane new messages have the highest id so far, so a group's position is one cursor a lane,
plus a row for each message that was delivered and is not acked. A row whose lease has ended is
free for anyone. A reply of nothing but new messages is one row instead: a whole batch.
"""

from __future__ import annotations

import itertools
import operator
import sqlite3
from collections.abc import Sequence
from typing import Any

import orjson

from mq9.engine import agents, batches, deliveries, groups, handlers, mailboxes, replies
from mq9.engine.commands import Call, consumer_of
from mq9.engine.groups import Group
from mq9.engine.limits import Limits
from mq9.engine.mailbox import Mailbox
from mq9.engine.messages import load_messages, reply_bytes
from mq9.protocol.outcomes import Fetched, Stored
from mq9.protocol.requests import Fetch, Release

# What a fetch may deliver: lane, msg_id, deliveries so far, whether the consumer holds it, deaths.
Candidate = tuple[int, int, int, bool, int]


@handlers.command(Fetch)
def fetch(connection: sqlite3.Connection, call: Call[Fetch], now: int, limits: Limits) -> Fetched:
    """Lease messages to a consumer of a group."""
    request, consumer = call.request, consumer_of(call)
    assert request.group_name is not None  # noqa: S101  # else it is a Peek
    mailbox = mailboxes.advance(connection, call.address, now)
    mailboxes.refuse_another(mailbox, call.generation)
    group = groups.find(connection, mailbox, request.group_name, now)
    repeated = False
    if group is not None:
        group.note_use(connection, now)
    if group is not None and request.request_id is not None:
        number = latest_reply(connection, group, call)
        repeated = number is not None
        if number is not None:
            held = _still_held(connection, mailbox, group, number, call, now)
            if held is not None:
                return held
    reset = request.force_deliver and not repeated
    if group is None or reset:
        start = groups.start_position(connection, mailbox, request, now)
        if group is None:
            group = groups.create(connection, mailbox, request.group_name, start, now, limits)
        else:
            groups.reset(connection, mailbox, group, start, now)
    _free_ended(connection, group, now)
    own = consumer if request.redeliver_own else None
    if own is not None:
        batches.split(connection, *_held_by(group, own))
    picked, more = _pick(connection, mailbox, group, own, request.num_msgs)
    number = mailbox.next_reply
    messages, cut = load(connection, mailbox, picked, group.cursors, request, as_text=call.as_text)
    given = picked[: len(messages)]
    if given or (reset and request.request_id is not None):
        cost = replies.cost(group, call, given)
        if cost:
            replies.charge(connection, mailbox, group, call, cost, now, limits)
        _write_reply(connection, mailbox, group, call, given, cost, now)
    if not given:
        return _nothing(connection, mailbox, group, call, now)
    return Fetched(
        mail_address=mailbox.address,
        generation=mailbox.generation,
        messages=messages,
        batch=groups.token(mailbox, number),
        lease_until=(now + request.lease_ms) / 1000,
        more=more or cut,
        position=group.start,
        refetched=any(held for *_, held, _ in given),
    )


@handlers.unchanging(Fetch)
def find_nothing(connection: sqlite3.Connection, call: Call[Fetch], now: int) -> Fetched | None:
    """Answer a FETCH for which there is nothing; None where there may be, or the group changes."""
    request = call.request
    assert request.group_name is not None  # noqa: S101  # else it is a Peek
    mailbox = mailboxes.look(connection, call.address, now)
    if mailbox is None or not mailboxes.is_current(mailbox, now) or request.force_deliver:
        return None
    group = groups.find(connection, mailbox, request.group_name, now)
    if group is None or group.is_use_due(now):
        return None
    if call.generation not in {None, mailbox.generation}:
        return None
    if request.request_id is not None and latest_reply(connection, group, call) is not None:
        return None
    own = consumer_of(call) if request.redeliver_own else None
    is_held = own is not None and batches.is_any(connection, *_held_by(group, own))
    if is_held or _has_ended(connection, group, now):
        return None
    picked, _ = _pick(connection, mailbox, group, own, 1)
    return None if picked else _nothing(connection, mailbox, group, call, now)


def _nothing(
    connection: sqlite3.Connection,
    mailbox: Mailbox,
    group: Group,
    call: Call[Fetch],
    now: int,
) -> Fetched:
    delivery_ms = next_delivery(connection, mailbox, group)
    sign_ms = agents.next_sign(connection, call.agent, now)
    return Fetched(
        mail_address=mailbox.address,
        generation=mailbox.generation,
        position=group.start,
        next_change_ms=sooner(delivery_ms, mailbox.expires_ms, sign_ms),
        next_delivery_ms=delivery_ms,
    )


def latest_reply(
    connection: sqlite3.Connection, group: Group, call: Call[Fetch | Release]
) -> int | None:
    """Return the last reply that a request of that id was given; None where there is none."""
    row = connection.execute(
        "SELECT max(number) FROM replies WHERE group_id=? AND request_id=? AND consumer=?",
        (group.id, call.request.request_id, consumer_of(call)),
    ).fetchone()
    return None if row[0] is None else int(row[0])


def _still_held(
    connection: sqlite3.Connection,
    mailbox: Mailbox,
    group: Group,
    number: int,
    call: Call[Fetch],
    now: int,
) -> Fetched | None:
    """Return again what a repeated FETCH was answered, as far as its consumer still holds it."""
    batches.split(
        connection,
        "r.mailbox=? AND r.number=? AND r.until_ms IS NOT NULL",
        (mailbox.id, number),
    )
    rows = connection.execute(
        "SELECT l.msg_id, l.deliveries, l.deaths, l.until_ms FROM deliveries d JOIN leases l"
        " ON l.group_id=d.group_id AND l.msg_id=d.msg_id"
        " WHERE d.mailbox=? AND d.reply=? AND l.reply=d.reply AND l.holder=? AND l.until_ms>?"
        " ORDER BY d.position",
        (mailbox.id, number, consumer_of(call), now),
    ).fetchall()
    if not rows:
        return None
    this_reply = (mailbox.id, number)
    connection.execute(
        "UPDATE replies SET copies=copies+1 WHERE mailbox=? AND number=?", this_reply
    )
    (copy,) = connection.execute(
        "SELECT copies FROM replies WHERE mailbox=? AND number=?", this_reply
    ).fetchone()
    counts = {msg_id: count for msg_id, count, *_ in rows}
    deaths = {msg_id: count for msg_id, _, count, _ in rows}
    stored = {
        one.msg_id: one._replace(deaths=deaths[one.msg_id])
        for one in load_messages(connection, mailbox, counts)
    }
    others, _ = _pick(connection, mailbox, group, None, 1)
    return Fetched(
        mail_address=mailbox.address,
        generation=mailbox.generation,
        messages=tuple(stored[msg_id] for msg_id in counts),
        batch=groups.token(mailbox, number),
        lease_until=min(until_ms for *_, until_ms in rows) / 1000,
        more=bool(others),
        position=group.start,
        copy=copy,
    )


def _free_ended(connection: sqlite3.Connection, group: Group, now: int) -> None:
    batches.split(connection, *_ended(group, now))
    connection.execute(
        "UPDATE leases SET holder=NULL, until_ms=NULL, deaths=deaths+begun, begun=0"
        " WHERE group_id=? AND until_ms<=?",
        (group.id, now),
    )


def _has_ended(connection: sqlite3.Connection, group: Group, now: int) -> bool:
    row = connection.execute(
        "SELECT 1 FROM leases WHERE group_id=? AND until_ms<=? LIMIT 1", (group.id, now)
    ).fetchone()
    return row is not None or batches.is_any(connection, *_ended(group, now))


def _ended(group: Group, now: int) -> tuple[str, tuple[Any, ...]]:
    """Return what chooses the whole batches of a group whose lease has ended."""
    return "r.group_id=? AND r.until_ms<=?", (group.id, now)


def _held_by(group: Group, consumer: str) -> tuple[str, tuple[Any, ...]]:
    """Return what chooses the whole batches that a consumer holds or held last."""
    return "r.group_id=? AND r.consumer=? AND r.until_ms IS NOT NULL", (group.id, consumer)


def _pick(
    connection: sqlite3.Connection, mailbox: Mailbox, group: Group, own: str | None, num_msgs: int
) -> tuple[list[Candidate], bool]:
    """Choose what to deliver, the most urgent and oldest first, and say whether there is more.

    Args:
        connection: The database.
        mailbox: Where the messages are.
        group: Who is to get them.
        own: The consumer that is given again what it holds; None for none.
        num_msgs: How many at the most.
    """
    most = num_msgs + 1
    known: list[Candidate] = _known(connection, group, None, most)
    if own is not None:
        known += _known(connection, group, own, most)
    picked: list[Candidate] = []
    for lane, cursor in enumerate(group.cursors):
        room = most - len(picked)
        new = _new(connection, mailbox, lane, cursor, room)
        picked += [*sorted(one for one in known if one[0] == lane), *new][:room]
        if len(picked) == most:
            return picked[:-1], True
    return picked, False


def _known(
    connection: sqlite3.Connection, group: Group, holder: str | None, most: int
) -> list[Candidate]:
    # In one step, since after each row other threads may go first.
    (rows,) = connection.execute(
        "SELECT json_group_array(json_array(priority, msg_id, deliveries, held, deaths)) FROM"
        " (SELECT priority, msg_id, deliveries, holder IS NOT NULL AS held, deaths FROM leases"
        " WHERE group_id=? AND holder IS ? ORDER BY priority, msg_id LIMIT ?)",
        (group.id, holder, most),
    ).fetchone()
    return list(map(tuple, orjson.loads(rows)))


def _new(
    connection: sqlite3.Connection, mailbox: Mailbox, lane: int, cursor: int, most: int
) -> list[Candidate]:
    (msg_ids,) = connection.execute(  # in one step, as above
        "SELECT json_group_array(msg_id) FROM (SELECT msg_id FROM messages"
        " WHERE mailbox=? AND priority=? AND msg_id>=? ORDER BY msg_id LIMIT ?)",
        (mailbox.id, lane, cursor, most),
    ).fetchone()
    return [(lane, msg_id, 0, False, 0) for msg_id in orjson.loads(msg_ids)]


def load(
    connection: sqlite3.Connection,
    mailbox: Mailbox,
    picked: list[Candidate],
    cursors: Sequence[int],
    wanted: Fetch,
    *,
    as_text: bool,
) -> tuple[tuple[Stored, ...], bool]:
    """Read the picked messages until ``max_bytes`` are reached; whether that cut them.

    Args:
        connection: The database.
        mailbox: Where they are.
        picked: They, by lane and msg_id. From the cursor on they are all that is in the lane.
        cursors: The cursor of each lane.
        wanted: What was asked for.
        as_text: Whether the reply is to hold text.
    """
    messages: list[Stored] = []
    room = wanted.max_bytes
    for (lane, is_new), ones in itertools.groupby(
        picked, key=lambda one: (one[0], one[1] >= cursors[one[0]])
    ):
        several = list(ones)
        counts = {msg_id: before + 1 for _, msg_id, before, *_ in several}
        deaths = {msg_id: count for _, msg_id, *_, count in several if count}
        for stored in load_messages(connection, mailbox, counts, lane if is_new else None):
            message = stored
            if stored.msg_id in deaths:
                message = stored._replace(deaths=deaths[stored.msg_id])
            room -= reply_bytes(message, as_text=as_text)
            if messages and room < 0:
                return tuple(messages), True
            messages.append(message)
    return tuple(messages), False


def _write_reply(
    connection: sqlite3.Connection,
    mailbox: Mailbox,
    group: Group,
    call: Call[Fetch],
    given: list[Candidate],
    cost: int,
    now: int,
) -> None:
    """Write a reply with the leases that it gives, and move the cursors of its group."""
    until_ms = now + call.request.lease_ms
    number, consumer = mailbox.next_reply, consumer_of(call)
    before = list(group.cursors)
    msg_ids = [one[1] for one in given]
    is_whole = bool(given) and all(one[1] >= before[one[0]] for one in given)
    for lane, msg_id, *_ in given:
        if msg_id >= group.cursors[lane]:
            group.cursors[lane] = msg_id + 1
    if group.cursors != before:
        group.save(connection)
    connection.execute(
        "INSERT INTO replies (mailbox, number, group_id, consumer, request_id, made_ms, cost,"
        " first_reply, critical, urgent, normal, ids, critical_from, urgent_from, normal_from,"
        " lowest, highest, until_ms, begun) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (
            *(mailbox.id, number, group.id, consumer, call.request.request_id, now, cost),
            *(group.first_reply, *group.cursors),
            *(
                (orjson.dumps(msg_ids).decode(), *before, min(msg_ids), max(msg_ids), until_ms)
                if is_whole
                else [None] * 7
            ),
            is_whole and call.request.begun,
        ),
    )
    mailbox.next_reply += 1
    mailbox.save(connection)
    if not is_whole:
        _lease(connection, mailbox, group, call, given, number, until_ms)


def _lease(
    connection: sqlite3.Connection,
    mailbox: Mailbox,
    group: Group,
    call: Call[Fetch],
    given: list[Candidate],
    number: int,
    until_ms: int,
) -> None:
    """Write the leases and deliveries of a reply that is no whole batch."""
    consumer, begun = consumer_of(call), call.request.begun
    position = 0
    for lane, ones in itertools.groupby(given, key=operator.itemgetter(0)):
        is_held = {msg_id: held for _, msg_id, _, held, _ in ones}
        held = orjson.dumps([one for one in is_held if is_held[one]]).decode()
        others = orjson.dumps([one for one in is_held if not is_held[one]]).decode()
        # Each is one step of SQLite's, during which Python is free for others.
        deliveries.add(
            connection,
            mailbox.id,
            group.id,
            number,
            consumer,
            position,
            orjson.dumps(list(is_held)).decode(),
        )
        deliveries.keep_latest(
            connection,
            "l.group_id=? AND l.msg_id IN (SELECT value FROM json_each(?))",
            (group.id, others),
        )
        # Without its holder, so that the index of holders stays as it is.
        connection.execute(
            "UPDATE leases SET until_ms=?, deliveries=deliveries+1, reply=?,"
            " begun=begun OR (? AND deaths=0)"
            " WHERE group_id=? AND msg_id IN (SELECT value FROM json_each(?))",
            (until_ms, number, begun, group.id, held),
        )
        connection.execute(
            "INSERT INTO leases (group_id, msg_id, mailbox, priority, holder, until_ms, deliveries,"
            " reply, granted, begun) SELECT ?,value,?,?,?,?,1,?,?,? FROM json_each(?) WHERE true"
            " ON CONFLICT DO UPDATE SET holder=excluded.holder, until_ms=excluded.until_ms,"
            " deliveries=deliveries+1, reply=excluded.reply, granted=excluded.granted,"
            " begun=excluded.begun AND deaths=0",
            (group.id, mailbox.id, lane, consumer, until_ms, number, number, begun, others),
        )
        position += len(is_held)


def next_delivery(
    connection: sqlite3.Connection, mailbox: Mailbox, group: Group | None
) -> int | None:
    """Return the instant at which, if nobody does anything, a FETCH could find more."""
    due_ms = mailboxes.next_due(connection, mailbox)
    until_ms = None
    if group is not None:
        (until_ms,) = connection.execute(
            "SELECT min(until_ms) FROM leases WHERE group_id=? AND until_ms IS NOT NULL",
            (group.id,),
        ).fetchone()
        until_ms = sooner(until_ms, batches.first_end(connection, group.id))
    return sooner(due_ms, until_ms)


def sooner(*instants: int | None) -> int | None:
    """Return the earliest of some instants, of which some may not come; None where none does."""
    return min((one for one in instants if one is not None), default=None)
